//! Whose messages a user does not take.

use super::FreshLog;
use super::scene::{befriend, direct, everything, group, join, say, stored, text, users};
use crate::model::UserId;
use crate::model::store::{Append, Friendship, Outcome, StoreError};

/// Blocks twice and unblocks twice, with texts of others in the same batch.
pub async fn a_blocked_users_texts_are_forbidden_until_unblocked(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (store, other) = (log.open().await?, log.open().await?);
    let all = users(&*store, 3).await?;
    let (pair, second) = (direct(&*store, all[0], all[1]).await?, direct(&*store, all[1], all[2]).await?);
    let batch = |round: &str| {
        let key = |number: usize| format!("{round} {number}");
        [
            text(pair, all[1], &key(1), ""),
            text(pair, all[0], &key(2), ""),
            text(second, all[1], &key(3), ""),
            text(pair, all[1], &key(4), ""),
        ]
    };
    for _ in 0..2 {
        store.block(all[0], all[1], true).await?;
    }
    let outcomes = other.append(&batch("blocked")).await?;
    assert_eq!((outcomes[0], outcomes[3]), (Outcome::Forbidden, Outcome::Forbidden));
    assert_eq!((stored(outcomes[1]), stored(outcomes[2])), (1, 1));
    for _ in 0..2 {
        other.block(all[0], all[1], false).await?;
    }
    // What was forbidden has not used its key up.
    let outcomes = store.append(&batch("blocked")).await?;
    assert_eq!((stored(outcomes[0]), stored(outcomes[3])), (2, 3));
    assert_eq!(everything(&*store, pair).await?.len(), 3);
    Ok(())
}

/// Lets the blocker, and others, write.
pub async fn a_block_is_by_one_user_in_one_direction(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    store.block(all[0], all[1], true).await?;
    for (one, other, outcome) in
        [(0, 1, None), (1, 0, Some(Outcome::Forbidden)), (2, 0, None), (0, 2, None), (1, 2, None), (2, 1, None)]
    {
        let place = direct(&*store, all[one], all[other]).await?;
        let found = store.append(&[text(place, all[one], &format!("{one} to {other}"), "")]).await?[0];
        match outcome {
            Some(outcome) => assert_eq!(found, outcome, "{one} to {other}"),
            None => assert!(stored(found) > 0, "{one} to {other}"),
        }
    }
    // A stranger to the conversation is that first.
    let place = direct(&*store, all[0], all[2]).await?;
    assert_eq!(store.append(&[text(place, all[1], "let me in", "")]).await?, [Outcome::NotMember]);
    Ok(())
}

/// Resends what was stored before the block, with something new beside it.
pub async fn a_stored_text_is_repeated_although_its_sender_was_blocked_since(
    log: &dyn FreshLog,
) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place = direct(&*store, all[0], all[1]).await?;
    let Outcome::Stored { seq, at } = say(&*store, place, all[1], "key", 1).await?[0] else { panic!("not stored") };
    store.block(all[0], all[1], true).await?;
    let batch = [
        text(place, all[1], "new", "hello"),
        text(place, all[1], "key 1", "hello"),
        text(place, all[1], "key 1", "another"),
    ];
    let outcomes = store.append(&batch).await?;
    assert_eq!(outcomes, [Outcome::Forbidden, Outcome::Repeat { seq, at }, Outcome::Conflict]);
    assert_eq!(store.heads(&[place]).await?[0].head, seq);
    Ok(())
}

/// Joins and writes where the blocker is the owner, for friends only.
pub async fn a_block_does_not_concern_groups(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let room = group(&*store, &all[..1]).await?;
    store.block(all[0], all[1], true).await?;
    let batch = [join(room, all[1], "in"), text(room, all[1], "hello", "")];
    let batch = batch.map(|entry| Append { friends_only: true, ..entry });
    let outcomes = store.append(&batch).await?;
    assert_eq!((stored(outcomes[0]), stored(outcomes[1])), (1, 2));
    Ok(())
}

/// Asks as the blocked one, as the blocker, and as one who was asked.
pub async fn a_blocked_user_cannot_ask_to_be_a_friend(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    store.block(all[0], all[1], true).await?;
    assert_eq!(store.friend_add(all[1], all[0]).await?, Friendship::Forbidden);
    assert!(store.friends(&all).await?.is_empty());
    assert_eq!(store.friend_add(all[0], all[1]).await?, Friendship::Requested);
    assert_eq!(store.friend_add(all[1], all[0]).await?, Friendship::Accepted);
    // A friend who is blocked is a friend still, and may not write.
    let place = direct(&*store, all[0], all[1]).await?;
    let entry = Append { friends_only: true, ..text(place, all[1], "key", "") };
    assert_eq!(store.append(&[entry]).await?, [Outcome::Forbidden]);
    assert_eq!(store.friends(&all).await?.len(), 2);
    store.friend_remove(all[1], all[0]).await?;
    store.block(all[0], all[1], false).await?;
    assert_eq!(store.friend_add(all[1], all[0]).await?, Friendship::Requested);
    Ok(())
}

/// Writes to a friend, to one who was asked, to one who asks, and to a stranger.
pub async fn where_only_friends_may_write_others_are_forbidden(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 5).await?;
    befriend(&*store, all[1], all[0]).await?;
    store.friend_add(all[0], all[2]).await?;
    store.friend_add(all[3], all[0]).await?;
    let write = async |round: &str| {
        let mut batch = Vec::new();
        for (number, other) in all[1..].iter().enumerate() {
            let place = direct(&*store, all[0], *other).await?;
            for sender in [all[0], *other] {
                let entry = text(place, sender, &format!("{round} {number}"), "");
                batch.push(Append { friends_only: true, ..entry });
            }
        }
        let outcomes = store.append(&batch).await?;
        Ok::<Vec<bool>, StoreError>(outcomes.iter().map(|&outcome| outcome != Outcome::Forbidden).collect())
    };
    assert_eq!(write("first").await?, [true, true, false, false, false, false, false, false]);
    store.friend_remove(all[0], all[1]).await?;
    store.friend_accept(all[0], all[3]).await?;
    assert_eq!(write("second").await?, [false, false, false, false, true, true, false, false]);
    Ok(())
}

/// Mixes entries for friends with others of the same sender in one batch, both before and after a block.
pub async fn only_the_entries_for_friends_need_one(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place = direct(&*store, all[0], all[1]).await?;
    let batch = |round: &str| {
        let entry = |number: usize, friends_only| Append {
            friends_only,
            ..text(place, all[0], &format!("{round} {number}"), "")
        };
        [entry(1, false), entry(2, true), entry(3, false)]
    };
    let outcomes = store.append(&batch("first")).await?;
    assert_eq!((stored(outcomes[0]), outcomes[1], stored(outcomes[2])), (1, Outcome::Forbidden, 2));
    store.block(all[1], all[0], true).await?;
    assert_eq!(store.append(&batch("second")).await?, [Outcome::Forbidden; 3]);
    Ok(())
}

/// Blocks whom nobody can block.
pub async fn a_block_of_oneself_or_of_somebody_unknown_is_nothing(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let unknown = UserId::new(1_000_000).expect("a valid id");
    for (user, other) in [(all[0], all[0]), (all[0], unknown), (unknown, all[0])] {
        store.block(user, other, true).await?;
        store.block(user, other, false).await?;
    }
    let place = direct(&*store, all[0], all[1]).await?;
    assert_eq!(stored(say(&*store, place, all[0], "key", 1).await?[0]), 1);
    Ok(())
}
