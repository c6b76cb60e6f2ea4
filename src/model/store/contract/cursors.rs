//! How far members have got.

use super::FreshLog;
use super::scene::{direct, say, users};
use crate::model::store::{CursorMoved, CursorUpdate, Store, StoreError};
use crate::model::{ConversationId, Seq, UserId};

async fn cursors(store: &dyn Store, conversation: ConversationId, user: UserId) -> Result<(Seq, Seq), StoreError> {
    let seat = &store.memberships_in(&[conversation], &[user]).await?[0];
    Ok((seat.delivered, seat.read))
}

/// Raises, lowers and overshoots.
pub async fn cursors_never_fall_and_stop_at_the_head(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let (conversation, user) = (direct(&*store, all[0], all[1]).await?, all[1]);
    say(&*store, conversation, all[0], "key", 5).await?;
    for (delivered, read, expected) in
        [(3, 0, (3, 0)), (2, 1, (3, 1)), (0, 0, (3, 1)), (4, 2, (4, 2)), (9, Seq::MAX, (5, 5)), (1, 1, (5, 5))]
    {
        let before = cursors(&*store, conversation, user).await?;
        let moved = store.cursors(&[CursorUpdate { conversation, user, delivered, read }]).await?;
        assert_eq!(cursors(&*store, conversation, user).await?, expected, "after {delivered}, {read}");
        let now = CursorMoved { conversation, user, delivered: expected.0, read: expected.1, members: 2 };
        assert_eq!(moved, if before == expected { vec![] } else { vec![now] }, "after {delivered}, {read}");
    }
    assert_eq!(cursors(&*store, conversation, all[0]).await?, (0, 5));
    Ok(())
}

/// Updates one member from two devices at once.
pub async fn a_member_named_twice_gets_the_higher_of_both(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let (conversation, user) = (direct(&*store, all[0], all[1]).await?, all[1]);
    say(&*store, conversation, all[0], "key", 5).await?;
    let update = |delivered, read| CursorUpdate { conversation, user, delivered, read };
    store.cursors(&[update(4, 1), update(2, 2), update(3, 0)]).await?;
    assert_eq!(cursors(&*store, conversation, user).await?, (4, 2));
    Ok(())
}

/// Mixes one good update with three that hit nothing.
pub async fn cursors_of_no_membership_are_ignored(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let place = direct(&*store, all[0], all[1]).await?;
    say(&*store, place, all[0], "key", 5).await?;
    let (nowhere, nobody) = (ConversationId::new(1_000_000).expect("valid"), UserId::new(1_000_000).expect("valid"));
    let updates = [(place, all[2]), (nowhere, all[1]), (place, all[1]), (place, nobody)];
    let updates = updates.map(|(conversation, user)| CursorUpdate { conversation, user, delivered: 2, read: 2 });
    store.cursors(&updates).await?;
    assert_eq!(cursors(&*store, place, all[1]).await?, (2, 2));
    assert_eq!(store.memberships_in(&[place], &all).await?.len(), 2);
    Ok(())
}
