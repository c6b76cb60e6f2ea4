//! Who is where.

use super::FreshLog;
use super::scene::{claim, direct, group, node, users};
use crate::model::store::{Claimed, NAMED_RECIPIENTS, Presence, PresenceChange, Store, StoreError};
use crate::model::{ConversationKind, UserId};

/// Claims a node and returns its epoch.
async fn up(store: &dyn Store, id: &str) -> Result<u64, StoreError> {
    match store.node_claim(&claim(id, "a process")).await? {
        Claimed::Ours { epoch, .. } => Ok(epoch),
        held => panic!("{held:?}"),
    }
}

fn here(users: &[UserId]) -> Vec<PresenceChange> {
    users.iter().map(|&user| PresenceChange { user, here: true }).collect()
}

/// Asks where the members of two conversations are, from one of three nodes.
pub async fn presence_names_the_members_on_other_nodes(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 5).await?;
    let (room, pair) = (group(&*store, &all[..4]).await?, direct(&*store, all[0], all[4]).await?);
    for (id, there) in [("a", &[all[0], all[1]][..]), ("b", &[all[2], all[1], all[0]]), ("c", &[all[4]])] {
        let epoch = up(&*store, id).await?;
        assert!(store.presence_change(&node(id), epoch, &here(there)).await?);
    }
    let presence = |conversation, id, users: &[UserId]| {
        let kind = if conversation == room { ConversationKind::Group } else { ConversationKind::Direct };
        Presence { conversation, kind, node: node(id), users: users.to_vec() }
    };
    let mut found = store.presence(&[pair, room, pair], &node("a")).await?;
    found.sort_by_key(|row| (row.conversation, row.node.clone()));
    assert_eq!(found, [presence(room, "b", &all[..3]), presence(pair, "b", &all[..1]), presence(pair, "c", &all[4..])]);
    assert!(store.presence(&[pair], &node("d")).await?.contains(&presence(pair, "a", &all[..1])));
    Ok(())
}

/// Fills a group up to the limit of names, and one above it.
pub async fn many_members_on_a_node_are_not_named(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, NAMED_RECIPIENTS + 1).await?;
    let (few, many) = (group(&*store, &all[1..]).await?, group(&*store, &all).await?);
    let epoch = up(&*store, "a").await?;
    store.presence_change(&node("a"), epoch, &here(&all)).await?;
    let mut found = store.presence(&[few, many], &node("b")).await?;
    found.sort_by_key(|row| row.conversation);
    assert_eq!(found[0].users, all[1..]);
    assert!(found[1].users.is_empty() && found.len() == 2, "{found:?}");
    Ok(())
}

/// Comes twice, goes without being there, and both in one batch.
pub async fn the_last_change_of_a_user_counts(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 4).await?;
    let (a, epoch) = (node("a"), up(&*store, "a").await?);
    let change = |user: usize, here| PresenceChange { user: all[user], here };
    assert!(store.presence_change(&a, epoch, &[change(0, true), change(0, true), change(1, false)]).await?);
    assert!(store.presence_change(&a, epoch, &[change(0, true), change(1, true), change(1, false)]).await?);
    assert!(store.presence_change(&a, epoch, &[change(2, false), change(2, true), change(3, true)]).await?);
    assert_eq!(store.online(&all).await?, [all[0], all[2], all[3]]);
    assert!(store.presence_change(&a, epoch, &[change(3, false), change(0, false)]).await?);
    assert_eq!(store.online(&all).await?, [all[2]]);
    Ok(())
}

/// Changes presence by an epoch that was never given, one that is past, and for a node that is not there.
pub async fn a_node_that_lost_its_epoch_changes_nothing(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let (a, epoch) = (node("a"), up(&*store, "a").await?);
    assert!(store.presence_change(&a, epoch, &here(&all[..1])).await?);
    let batch = [PresenceChange { user: all[0], here: false }, PresenceChange { user: all[1], here: true }];
    assert!(!store.presence_change(&a, epoch + 1, &batch).await?);
    assert!(!store.presence_change(&node("b"), epoch, &batch).await?);
    assert_eq!(store.online(&all).await?, all[..1]);
    let next = up(&*store, "a").await?;
    assert!(!store.presence_change(&a, epoch, &batch).await?);
    assert!(store.online(&all).await?.is_empty());
    store.node_release(&a, next).await?;
    assert!(!store.presence_change(&a, next, &batch).await?);
    assert!(store.online(&all).await?.is_empty());
    Ok(())
}

/// Has one user on two nodes.
pub async fn a_user_is_online_while_any_node_has_them(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let (a, b) = (up(&*store, "a").await?, up(&*store, "b").await?);
    store.presence_change(&node("a"), a, &here(&all[..2])).await?;
    store.presence_change(&node("b"), b, &here(&all[..1])).await?;
    assert_eq!(store.online(&[all[2], all[1], all[0]]).await?, all[..2]);
    let gone: Vec<_> = all.iter().map(|&user| PresenceChange { user, here: false }).collect();
    store.presence_change(&node("a"), a, &gone).await?;
    assert_eq!(store.online(&all).await?, all[..1]);
    Ok(())
}
