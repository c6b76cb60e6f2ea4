//! What most cases begin with: some users, a conversation, something to say.

use crate::model::store::{
    Append, Claim, Claimed, Friendship, Head, Outcome, PresenceChange, Range, Store, StoreError,
};
use crate::model::{ConversationId, ConversationKind, Key, Message, MessageKind, Millis, Name, NodeId, Seq, UserId};

/// Registers `count` users, called `user-1`, `user-2`, ...
pub(super) async fn users(store: &dyn Store, count: usize) -> Result<Vec<UserId>, StoreError> {
    let mut users = Vec::new();
    for number in 1..=count {
        users.push(store.user_create(&name(&format!("user-{number}")), "hash").await?);
    }
    Ok(users)
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

/// Creates a group of the first user, which the others join.
pub(super) async fn group(store: &dyn Store, members: &[UserId]) -> Result<ConversationId, StoreError> {
    let group = store.group_create(members[0], "a group", "").await?.conversation;
    let joins: Vec<Append> = members[1..].iter().map(|user| join(group, *user, &format!("join {group}"))).collect();
    store.append(&joins).await?;
    Ok(group)
}

/// Finds or creates the direct conversation of two users.
pub(super) async fn direct(store: &dyn Store, one: UserId, other: UserId) -> Result<ConversationId, StoreError> {
    Ok(store.direct(&[(one, other)]).await?[0].expect("both exist"))
}

pub(super) fn group_at(conversation: ConversationId, head: Seq) -> Head {
    Head { conversation, kind: ConversationKind::Group, head }
}

pub(super) fn direct_at(conversation: ConversationId, head: Seq) -> Head {
    Head { conversation, kind: ConversationKind::Direct, head }
}

pub(super) fn text(conversation: ConversationId, sender: UserId, key: &str, body: &str) -> Append {
    entry(conversation, sender, key, MessageKind::Text, body)
}

pub(super) fn join(conversation: ConversationId, sender: UserId, key: &str) -> Append {
    entry(conversation, sender, key, MessageKind::Join, "")
}

pub(super) fn leave(conversation: ConversationId, sender: UserId, key: &str) -> Append {
    entry(conversation, sender, key, MessageKind::Leave, "")
}

fn entry(conversation: ConversationId, sender: UserId, key: &str, kind: MessageKind, body: &str) -> Append {
    Append {
        conversation,
        sender,
        key: Key::new(key).expect("a valid key"),
        kind,
        body: body.to_owned(),
        friends_only: false,
    }
}

/// Appends `count` texts of one sender, one batch, with the keys `<prefix> 1`, `<prefix> 2`, ...
pub(super) async fn say(
    store: &dyn Store,
    conversation: ConversationId,
    sender: UserId,
    prefix: &str,
    count: usize,
) -> Result<Vec<Outcome>, StoreError> {
    let texts = (1..=count).map(|number| text(conversation, sender, &format!("{prefix} {number}"), "hello"));
    store.append(&texts.collect::<Vec<_>>()).await
}

/// Returns the seq of an entry that was stored.
pub(super) fn stored(outcome: Outcome) -> Seq {
    match outcome {
        Outcome::Stored { seq, .. } => seq,
        other => panic!("not stored: {other:?}"),
    }
}

/// Reads everything in a conversation.
pub(super) async fn everything(store: &dyn Store, conversation: ConversationId) -> Result<Vec<Message>, StoreError> {
    store.messages(&[Range { conversation, after: 0, until: Seq::MAX >> 1 }], 1_000_000).await
}

pub(super) fn node(text: &str) -> NodeId {
    NodeId::new(text).expect("a valid node id")
}

/// A claim for a node with a lease of a minute.
pub(super) fn claim(id: &str, holder: &str) -> Claim {
    Claim {
        node: node(id),
        holder: holder.to_owned(),
        tcp: "127.0.0.1:6000".to_owned(),
        http: "127.0.0.1:7000".to_owned(),
        weight: 1,
        lease_ms: 60_000,
        take_over: false,
    }
}

/// Claims a node and puts users on it. Returns its epoch.
pub(super) async fn put(store: &dyn Store, id: &str, users: &[UserId]) -> Result<u64, StoreError> {
    let claimed = store.node_claim(&claim(id, "a process")).await?;
    let Claimed::Ours { epoch, .. } = claimed else { panic!("{claimed:?}") };
    let here: Vec<_> = users.iter().map(|&user| PresenceChange { user, here: true }).collect();
    assert!(store.presence_change(&node(id), epoch, &here).await?);
    Ok(epoch)
}

/// Makes two users friends.
pub(super) async fn befriend(store: &dyn Store, one: UserId, other: UserId) -> Result<(), StoreError> {
    assert_eq!(store.friend_add(one, other).await?, Friendship::Requested);
    assert!(store.friend_accept(other, one).await?);
    Ok(())
}

/// Waits until the database's clock is past a moment.
pub(super) async fn until_past(store: &dyn Store, moment: Millis) -> Result<(), StoreError> {
    while store.now().await? <= moment {
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Waits until what happens next has another time than what has happened.
pub(super) async fn next_moment(store: &dyn Store) -> Result<(), StoreError> {
    until_past(store, store.now().await?).await
}
