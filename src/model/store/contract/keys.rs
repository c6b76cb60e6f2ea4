//! A key names one message of its sender for ever.

use super::FreshLog;
use super::scene::{direct, everything, group, join, leave, say, stored, text, users};
use crate::model::Seq;
use crate::model::store::{Outcome, StoreError};

/// Resends after other entries, from another store, and after the sender has left.
pub async fn a_repeated_key_returns_the_first_seq(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (store, other) = (log.open().await?, log.open().await?);
    let all = users(&*store, 2).await?;
    let place = group(&*store, &all).await?;
    let first = store.append(&[text(place, all[1], "key", "hello")]).await?[0];
    let Outcome::Stored { seq: 2, at } = first else { panic!("{first:?}") };
    say(&*store, place, all[0], "more", 5).await?;
    let again = other.append(&[text(place, all[1], "key", "hello"), text(place, all[0], "last", "")]).await?;
    assert_eq!(again[0], Outcome::Repeat { seq: 2, at });
    assert_eq!(stored(again[1]), 8);

    store.append(&[leave(place, all[1], "bye")]).await?;
    let again = store.append(&[text(place, all[1], "key", "hello"), leave(place, all[1], "bye")]).await?;
    assert_eq!(again[0], Outcome::Repeat { seq: 2, at });
    assert!(matches!(again[1], Outcome::Repeat { seq: 9, .. }), "{again:?}");
    assert_eq!(everything(&*store, place).await?.len(), 9);
    Ok(())
}

/// Uses a key again for three other things.
pub async fn a_key_with_another_body_kind_or_conversation_is_a_conflict(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place = group(&*store, &all).await?;
    let elsewhere = direct(&*store, all[0], all[1]).await?;
    say(&*store, place, all[1], "key", 1).await?;
    let batch = [
        text(place, all[1], "key 1", "Hello"),
        text(elsewhere, all[1], "key 1", "hello"),
        leave(place, all[1], "key 1"),
        join(place, all[1], "key 1"),
    ];
    assert_eq!(store.append(&batch).await?, [Outcome::Conflict; 4]);
    assert_eq!(store.heads(&[elsewhere]).await?[0].head, 0);
    assert_eq!(everything(&*store, place).await?.len(), 2);
    Ok(())
}

/// Sends a key three times in one batch, once with another body.
pub async fn duplicates_inside_one_batch_are_resolved_in_order(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place = direct(&*store, all[0], all[1]).await?;
    let batch = [
        text(place, all[0], "k", "one"),
        text(place, all[0], "k", "two"),
        text(place, all[0], "k2", "three"),
        text(place, all[0], "k", "one"),
    ];
    let outcomes = store.append(&batch).await?;
    let Outcome::Stored { seq: 1, at } = outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!((outcomes[1], outcomes[3]), (Outcome::Conflict, Outcome::Repeat { seq: 1, at }));
    assert_eq!(stored(outcomes[2]), 2);
    let bodies: Vec<String> = everything(&*store, place).await?.into_iter().map(|entry| entry.body).collect();
    assert_eq!(bodies, ["one", "three"]);
    Ok(())
}

/// Lets two senders use the same key, and one sender two spellings of a key.
pub async fn keys_of_two_senders_do_not_meet(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place = direct(&*store, all[0], all[1]).await?;
    let batch = [
        text(place, all[0], "k", "one"),
        text(place, all[1], "k", "two"),
        text(place, all[0], "K", "three"),
        text(place, all[0], "k ", "four"),
    ];
    let seqs: Vec<Seq> = store.append(&batch).await?.into_iter().map(stored).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
    Ok(())
}

/// Sends the same messages from two stores at the same moment, as a client does that changed nodes.
pub async fn the_same_keys_on_two_stores_at_once_are_stored_once(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (one, other) = (log.open().await?, log.open().await?);
    let all = users(&*one, 2).await?;
    let place = direct(&*one, all[0], all[1]).await?;
    for round in 0..20 {
        let batch: Vec<_> = (0..5).map(|n| text(place, all[0], &format!("{round} {n}"), "hello")).collect();
        let (here, there) = tokio::join!(one.append(&batch), other.append(&batch));
        for (here, there) in here?.into_iter().zip(there?) {
            match (here, there) {
                (Outcome::Stored { seq, at }, Outcome::Repeat { seq: first, at: then })
                | (Outcome::Repeat { seq: first, at: then }, Outcome::Stored { seq, at }) => {
                    assert_eq!((seq, at), (first, then));
                }
                both => panic!("{both:?}"),
            }
        }
    }
    assert_eq!(everything(&*one, place).await?.len(), 100);
    Ok(())
}
