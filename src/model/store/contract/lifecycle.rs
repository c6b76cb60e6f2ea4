//! Opening, closing, and callers who go away.

use std::time::Duration;

use futures_util::future::poll_immediate;

use super::FreshLog;
use super::scene::{claim, direct, everything, group, name, node, say, text, users};
use crate::model::store::{Beat, NodeState, Page, StoreError, StoreErrorKind, UserChange};
use crate::model::{ConversationId, Seq};

/// Compares what two stores know of their cluster.
pub async fn stores_of_one_log_share_its_identity(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (one, other) = (log.open().await?, log.open().await?);
    let (here, there) = (one.meta(), other.meta());
    assert_eq!((&here.cluster_id, &here.token_key), (&there.cluster_id, &there.token_key));
    assert!(here.cluster_id.len() == 16 && here.cluster_id.bytes().all(|b| b"0123456789abcdef".contains(&b)));
    assert_eq!(here.token_key.len(), 32);
    assert!(here.token_key.iter().any(|byte| *byte != here.token_key[0]));
    Ok(())
}

/// Writes with one store and reads with the other.
pub async fn what_one_store_commits_another_reads_at_once(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (one, other) = (log.open().await?, log.open().await?);
    let all = users(&*one, 2).await?;
    let place = direct(&*one, all[0], all[1]).await?;
    for round in 1..=20 {
        let (writer, reader) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        say(&**writer, place, all[0], &format!("{round}"), 1).await?;
        assert_eq!(reader.heads(&[place]).await?[0].head, round);
    }
    Ok(())
}

/// Drops calls before they are polled to their end, then uses the same stores.
pub async fn a_dropped_call_leaves_no_open_transaction(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (one, other) = (log.open().await?, log.open().await?);
    let all = users(&*one, 2).await?;
    let place = direct(&*one, all[0], all[1]).await?;
    for round in 0..30 {
        let batch = [text(place, all[0], &format!("{round}"), "hello")];
        let mut call = Box::pin(one.append(&batch));
        // Goes a little further in each round before it is dropped.
        for _ in 0..round {
            if poll_immediate(&mut call).await.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        let mut read = Box::pin(one.history(all[0], place, Page::Newest, 10));
        assert!(poll_immediate(&mut read).await.is_none_or(|page| page.is_ok()));
        drop(read);
    }
    let deadline = Duration::from_secs(30);
    tokio::time::timeout(deadline, say(&*other, place, all[1], "other", 1)).await.expect("nothing is in the way")?;
    tokio::time::timeout(deadline, say(&*one, place, all[1], "one", 1)).await.expect("nothing is in the way")?;
    let seqs: Vec<Seq> = everything(&*other, place).await?.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as Seq).collect::<Vec<_>>());
    Ok(())
}

/// Calls every method that takes a batch with an empty one.
pub async fn an_empty_batch_is_answered_with_nothing(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 1).await?;
    assert!(store.direct(&[]).await?.is_empty());
    assert!(store.append(&[]).await?.is_empty());
    assert!(store.presence(&[], &node("a")).await?.is_empty());
    assert!(store.heads(&[]).await?.is_empty());
    assert!(store.messages(&[], 10).await?.is_empty());
    assert!(store.conversations_of(&[]).await?.is_empty());
    assert!(store.memberships(&[], None, 10).await?.is_empty());
    assert!(store.memberships_in(&[], &all).await?.is_empty());
    assert!(store.online(&[]).await?.is_empty());
    assert!(store.friends(&[]).await?.is_empty());
    assert!(store.whereabouts(&[]).await?.is_empty());
    store.cursors(&[]).await.map(drop)
}

/// Closes twice and calls every method.
pub async fn close_is_idempotent_and_later_calls_are_unavailable(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place = group(&*store, &all).await?;
    tokio::join!(store.close(), store.close());
    store.close().await;

    let entry = [text(place, all[0], "key", "")];
    let a = node("a");
    let beat = Beat {
        node: a.clone(),
        epoch: 1,
        state: NodeState::Ready,
        bus_ok: true,
        heard: true,
        dirty_since: None,
        sessions: 0,
        lease_ms: 1,
    };
    let range = crate::model::store::Range { conversation: place, after: 0, until: 1 };
    let cursor = crate::model::store::CursorUpdate { conversation: place, user: all[0], delivered: 1, read: 1 };
    let errors = [
        store.now().await.err(),
        store.user_create(&name("late"), "hash").await.err(),
        store.user_by_name(&name("user-1")).await.err(),
        store.users(&all[..1]).await.err(),
        store.user_list(None, 1).await.err(),
        store.user_change(all[0], &UserChange::Deleted).await.err(),
        store.friend_add(all[0], all[1]).await.err(),
        store.friend_accept(all[0], all[1]).await.err(),
        store.friend_remove(all[0], all[1]).await.err(),
        store.friends(&all).await.err(),
        store.block(all[0], all[1], true).await.err(),
        store.group_find("", 1).await.err(),
        store.group_members(place, None, 1).await.err(),
        store.whereabouts(&all).await.err(),
        store.prune(0, 1).await.err(),
        store.direct(&[(all[0], all[1])]).await.err(),
        store.group_create(all[0], "late", "").await.err(),
        store.group(place).await.err(),
        store.append(&entry).await.err(),
        store.presence(&[place], &a).await.err(),
        store.heads(&[place]).await.err(),
        store.messages(&[range], 1).await.err(),
        store.history(all[0], place, Page::Newest, 1).await.err(),
        store.conversations_of(&all).await.err(),
        store.memberships(&all, None, 1).await.err(),
        store.memberships_in(&[place], &all).await.err(),
        store.cursors(&[cursor]).await.err(),
        store.changes(0).await.err(),
        store.presence_change(&a, 1, &[]).await.err(),
        store.online(&all).await.err(),
        store.node_claim(&claim("a", "late")).await.err(),
        store.node_beat(&beat).await.err(),
        store.nodes().await.err(),
        store.node_drain(&a, 1).await.err(),
        store.node_expire(&a, 1).await.err(),
        store.node_release(&a, 1).await.err(),
    ];
    for (place, error) in errors.into_iter().enumerate() {
        let error = error.unwrap_or_else(|| panic!("call {place} went through after close"));
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "call {place}: {error:?}");
    }
    Ok(())
}

/// Closes a store while another task appends, and looks at what was acknowledged.
pub async fn close_lets_a_running_append_finish(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place: ConversationId = direct(&*store, all[0], all[1]).await?;
    let appender = store.clone();
    let (started, first) = tokio::sync::oneshot::channel();
    let appending = tokio::spawn(async move {
        let mut started = Some(started);
        for round in 1.. {
            if let Err(error) = say(&*appender, place, all[0], &format!("{round}"), 1).await {
                return (round - 1, error);
            }
            if let Some(Err(())) = started.take().map(|started| started.send(())) {
                panic!("nobody waits");
            }
        }
        unreachable!("the store is closed some time");
    });
    first.await.expect("the first append goes through");
    store.close().await;
    let (acknowledged, error) = appending.await.expect("no panic");
    assert!(acknowledged >= 1);
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    Ok(())
}
