//! Joins and leaves are entries too.

use super::FreshLog;
use super::scene::{direct, everything, group, join, leave, say, stored, text, users};
use crate::model::store::{Outcome, StoreError};
use crate::model::{MessageKind, Seq, UserId};

/// Joins a group that has a past.
pub async fn a_join_makes_a_member_from_its_seq_on(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place = group(&*store, &all[..1]).await?;
    say(&*store, place, all[0], "before", 3).await?;
    let outcomes = store.append(&[join(place, all[1], "in"), join(place, all[1], "in again")]).await?;
    assert_eq!((stored(outcomes[0]), outcomes[1]), (4, Outcome::AlreadyMember));
    let seat = &store.memberships_in(&[place], &all[1..]).await?[0];
    assert_eq!((seat.joined_seq, seat.delivered, seat.read, seat.head), (4, 4, 4, 4));
    let entry = &everything(&*store, place).await?[3];
    assert_eq!(
        (entry.kind, entry.from, entry.name.as_str(), entry.body.as_str()),
        (MessageKind::Join, all[1], "user-2", "")
    );
    assert_eq!(store.append(&[join(place, all[1], "in, please")]).await?[0], Outcome::AlreadyMember);
    Ok(())
}

/// Leaves, tries to write and to leave again, and comes back.
pub async fn a_leave_ends_a_membership(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place = group(&*store, &all).await?;
    assert_eq!(stored(store.append(&[leave(place, all[1], "out")]).await?[0]), 2);
    assert!(store.memberships_in(&[place], &all[1..]).await?.is_empty());
    assert_eq!(store.group(place).await?.expect("a group").members, 1);
    let late = store.append(&[text(place, all[1], "late", "hello"), leave(place, all[1], "out again")]).await?;
    assert_eq!(late, [Outcome::NotMember, Outcome::NotMember]);
    assert_eq!(stored(store.append(&[join(place, all[1], "back")]).await?[0]), 3);
    assert_eq!(store.memberships_in(&[place], &all[1..]).await?[0].joined_seq, 3);
    Ok(())
}

/// Does everything in one batch.
pub async fn joins_and_leaves_count_for_the_entries_behind_them_in_a_batch(
    log: &dyn FreshLog,
) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let place = group(&*store, &all[..2]).await?;
    let batch = [
        text(place, all[2], "too early", ""),
        join(place, all[2], "in"),
        text(place, all[2], "hello", "hello"),
        leave(place, all[2], "out"),
        text(place, all[2], "too late", ""),
        leave(place, all[1], "out"),
        join(place, all[1], "back"),
        text(place, all[1], "again", ""),
    ];
    let outcomes = store.append(&batch).await?;
    assert_eq!((outcomes[0], outcomes[4]), (Outcome::NotMember, Outcome::NotMember));
    let seqs: Vec<Seq> = [1, 2, 3, 5, 6, 7].map(|place| stored(outcomes[place])).into();
    assert_eq!(seqs, [2, 3, 4, 5, 6, 7]);
    let seats = store.memberships_in(&[place], &all).await?;
    let found: Vec<_> = seats.iter().map(|seat| (seat.user, seat.joined_seq, seat.delivered, seat.read)).collect();
    assert_eq!(found, [(all[0], 0, 0, 0), (all[1], 6, 6, 7)]);
    Ok(())
}

/// Lets three owners leave, the last two in one batch.
pub async fn an_owner_who_leaves_hands_the_group_to_the_oldest_member(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 5).await?;
    let place = group(&*store, &[all[0], all[3], all[1], all[4], all[2]]).await?;
    let owner = async || Ok::<Option<UserId>, StoreError>(store.group(place).await?.expect("a group").owner);
    assert_eq!(owner().await?, Some(all[0]));
    store.append(&[leave(place, all[1], "no owner")]).await?;
    assert_eq!(owner().await?, Some(all[0]));
    store.append(&[leave(place, all[0], "out"), join(place, all[0], "back")]).await?;
    assert_eq!(owner().await?, Some(all[3]));
    store.append(&[leave(place, all[3], "out"), leave(place, all[4], "out")]).await?;
    assert_eq!(owner().await?, Some(all[2]));
    Ok(())
}

/// Empties a group and fills it again.
pub async fn whoever_joins_a_group_without_an_owner_owns_it(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let place = group(&*store, &all[..1]).await?;
    store.append(&[leave(place, all[0], "out")]).await?;
    let empty = store.group(place).await?.expect("a group");
    assert_eq!((empty.owner, empty.members, empty.head), (None, 0, 1));
    store.append(&[join(place, all[2], "in"), join(place, all[1], "in")]).await?;
    assert_eq!(store.group(place).await?.expect("a group").owner, Some(all[2]));
    Ok(())
}

/// Tries to change the members of a direct conversation.
pub async fn nobody_joins_or_leaves_a_direct_conversation(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let place = direct(&*store, all[0], all[1]).await?;
    let outcomes = store.append(&[join(place, all[2], "in"), leave(place, all[1], "out")]).await?;
    assert_eq!(outcomes, [Outcome::NotFound, Outcome::NotFound]);
    assert_eq!(store.memberships_in(&[place], &all).await?.len(), 2);
    Ok(())
}

/// Joins as a user who was never registered, between others.
pub async fn somebody_unknown_joins_nothing(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place = group(&*store, &all[..1]).await?;
    let unknown = UserId::new(1_000_000).expect("a valid id");
    let batch = [text(place, all[0], "1", ""), join(place, unknown, "in"), join(place, all[1], "in")];
    let outcomes = store.append(&batch).await?;
    assert_eq!((stored(outcomes[0]), outcomes[1], stored(outcomes[2])), (1, Outcome::NotFound, 2));
    Ok(())
}
