//! Old entries go, and what is left is read as if they had never been looked for.

use super::FreshLog;
use super::scene::{direct, everything, group, next_moment, say, stored, text, users};
use crate::model::store::{CursorUpdate, Outcome, Page, Range, Store, StoreError};
use crate::model::{ConversationId, Millis, Seq, UserId};

const END: Seq = Seq::MAX >> 1;

/// Returns a moment after everything that is in the log and before everything that is not yet.
async fn now(store: &dyn Store) -> Result<Millis, StoreError> {
    next_moment(store).await?;
    let now = store.now().await?;
    next_moment(store).await?;
    Ok(now)
}

async fn seqs(store: &dyn Store, conversation: ConversationId) -> Result<Vec<Seq>, StoreError> {
    Ok(everything(store, conversation).await?.iter().map(|entry| entry.seq).collect())
}

/// A direct conversation of two users with `old` entries of the first, keys `old 1`, ..., then `new` of the second.
async fn past(
    store: &dyn Store,
    users: &[UserId],
    old: usize,
    new: usize,
) -> Result<(ConversationId, Millis), StoreError> {
    let place = direct(store, users[0], users[1]).await?;
    say(store, place, users[0], "old", old).await?;
    let moment = now(store).await?;
    say(store, place, users[1], "new", new).await?;
    Ok((place, moment))
}

/// Writes in turns into two conversations and prunes a few at a time.
pub async fn old_entries_go_oldest_first_and_at_most_as_many_as_allowed(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let (one, other) = (direct(&*store, all[0], all[1]).await?, direct(&*store, all[0], all[2]).await?);
    for round in 0..4 {
        for place in [one, other] {
            store.append(&[text(place, all[0], &format!("{place} {round}"), "")]).await?;
        }
    }
    let moment = now(&*store).await?;
    assert_eq!(store.prune(moment, 0).await?, 0);
    assert_eq!(store.prune(moment, 3).await?, 3);
    assert_eq!((seqs(&*store, one).await?, seqs(&*store, other).await?), (vec![3, 4], vec![2, 3, 4]));
    assert_eq!(store.prune(moment, 2).await?, 2);
    assert_eq!((seqs(&*store, one).await?, seqs(&*store, other).await?), (vec![4], vec![3, 4]));
    assert_eq!(store.prune(moment, 100).await?, 1);
    assert_eq!(store.prune(moment, 100).await?, 0);
    Ok(())
}

/// Prunes many conversations that are quiet, with a limit below their number.
pub async fn the_newest_entry_of_a_conversation_stays(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let owner = users(&*store, 1).await?[0];
    let mut places = Vec::new();
    for _ in 0..10 {
        places.push(group(&*store, &[owner]).await?);
    }
    for place in &places {
        say(&*store, *place, owner, &format!("{place}"), 1).await?;
    }
    // The last one has more to lose, behind the newest entries of all the others.
    say(&*store, places[9], owner, "more", 4).await?;
    let moment = now(&*store).await?;
    assert_eq!(store.prune(moment, 3).await?, 3);
    assert_eq!(store.prune(moment, 3).await?, 1);
    for place in &places[..9] {
        assert_eq!(seqs(&*store, *place).await?, [1]);
    }
    assert_eq!(seqs(&*store, places[9]).await?, [5]);
    Ok(())
}

/// Prunes between two times of one conversation, and at the very time of an entry.
pub async fn what_is_not_old_stays(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let (place, moment) = past(&*store, &all, 3, 3).await?;
    let first = everything(&*store, place).await?[0].at;
    assert_eq!(store.prune(first, 100).await?, 0);
    assert_eq!(store.prune(moment, 100).await?, 3);
    assert_eq!(seqs(&*store, place).await?, [4, 5, 6]);
    Ok(())
}

/// Pages through a conversation whose first half is gone.
pub async fn history_ends_where_the_kept_entries_begin(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let (place, moment) = past(&*store, &all, 5, 4).await?;
    assert_eq!(store.prune(moment, 100).await?, 5);
    for (page, limit, expected, more) in [
        (Page::Newest, 4, vec![6, 7, 8, 9], false),
        (Page::Newest, 3, vec![7, 8, 9], true),
        (Page::Before(7), 3, vec![6], false),
        (Page::Before(6), 3, vec![], false),
        (Page::Before(3), 3, vec![], false),
        (Page::After(0), 2, vec![6, 7], true),
        (Page::After(2), 4, vec![6, 7, 8, 9], false),
        (Page::After(7), 4, vec![8, 9], false),
    ] {
        let history = store.history(all[0], place, page, limit).await?.expect("a member");
        let seqs: Vec<Seq> = history.messages.iter().map(|entry| entry.seq).collect();
        assert_eq!((seqs, history.more), (expected, more), "{page:?} {limit}");
    }
    Ok(())
}

/// Reads ranges that begin far below what is left, with small limits.
pub async fn ranges_begin_at_the_first_kept_entry(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let (place, moment) = past(&*store, &all, 50, 4).await?;
    let other = direct(&*store, all[1], all[2]).await?;
    say(&*store, other, all[1], "other", 2).await?;
    assert_eq!(store.prune(moment, 100).await?, 50);
    let range = |conversation, after, until| Range { conversation, after, until };
    for (ranges, limit, expected) in [
        (vec![range(place, 0, END)], 3, vec![51, 52, 53]),
        (vec![range(place, 10, 52)], 3, vec![51, 52]),
        (vec![range(place, 10, 50)], 3, vec![]),
        (vec![range(place, 53, END)], 3, vec![54]),
        (vec![range(place, 54, END)], 3, vec![]),
        (vec![range(place, 0, 30), range(other, 0, END), range(place, 52, END)], 3, vec![1, 2, 53]),
        (vec![range(place, 0, END), range(other, 0, END)], 5, vec![51, 52, 53, 54, 1]),
    ] {
        let read: Vec<Seq> = store.messages(&ranges, limit).await?.iter().map(|entry| entry.seq).collect();
        assert_eq!(read, expected, "{ranges:?} {limit}");
    }
    Ok(())
}

/// Writes on and moves cursors after everything old is gone.
pub async fn heads_and_seqs_go_on_after_pruning(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let (place, _) = past(&*store, &all, 5, 1).await?;
    let moment = now(&*store).await?;
    assert_eq!(store.prune(moment, 100).await?, 5);
    assert_eq!(store.heads(&[place]).await?[0].head, 6);
    assert_eq!(stored(say(&*store, place, all[0], "next", 1).await?[0]), 7);
    let moved = store.cursors(&[CursorUpdate { conversation: place, user: all[1], delivered: 3, read: 2 }]).await?;
    // The second user's own text had moved their `read` already.
    assert_eq!(moved.iter().map(|cursor| (cursor.delivered, cursor.read)).collect::<Vec<_>>(), [(3, 6)]);
    assert_eq!(seqs(&*store, place).await?, [6, 7]);
    Ok(())
}

/// Sends both keys again.
pub async fn a_pruned_key_is_free_and_a_kept_one_is_not(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let (place, moment) = past(&*store, &all, 2, 1).await?;
    store.prune(moment, 100).await?;
    let outcomes =
        store.append(&[text(place, all[0], "old 1", "hello"), text(place, all[1], "new 1", "hello")]).await?;
    assert_eq!(stored(outcomes[0]), 4);
    assert!(matches!(outcomes[1], Outcome::Repeat { seq: 3, .. }), "{outcomes:?}");
    Ok(())
}

/// Prunes from two stores while a third call writes.
pub async fn two_stores_that_prune_at_once_delete_each_entry_once(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (one, other) = (log.open().await?, log.open().await?);
    let all = users(&*one, 2).await?;
    let (place, moment) = past(&*one, &all, 200, 1).await?;
    let mut deleted = 0;
    for round in 0..8 {
        let key = format!("round {round}");
        let (here, there, said) =
            tokio::join!(one.prune(moment, 30), other.prune(moment, 30), say(&*one, place, all[0], &key, 1));
        deleted += here? + there?;
        stored(said?[0]);
    }
    assert_eq!(deleted, 200);
    assert_eq!(seqs(&*other, place).await?, (201..=209).collect::<Vec<_>>());
    Ok(())
}
