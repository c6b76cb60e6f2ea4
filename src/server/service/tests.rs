//! Logins that break off, and what they leave behind: nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{LoginFailure, conversations, history, received};
use crate::model::store::NodeState;
use crate::model::{MessageKind, UserId};
use crate::protocol::{CloseReason, ErrorCode, SendTarget, ServerFrame};
use crate::server::LimitsConfig;
use crate::server::scene::{Call, Client, Cluster, Host, eventually};

/// Waits until a node has forgotten everybody.
async fn forgets(cluster: &Cluster, host: &Host, users: &[UserId]) {
    eventually("nobody is here", || host.core.locals.count() == 0).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !cluster.log.online(users).await.unwrap().is_empty() {
        assert!(Instant::now() < deadline, "the log still says that somebody is here");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_login_that_breaks_off_leaves_nothing_behind() {
    for call in [Call::PresenceChange, Call::ConversationsOf, Call::Memberships, Call::Messages] {
        let cluster = Cluster::new().await;
        let a = cluster.node("node-a").await;
        let [alice, bob] = cluster.users(["alice", "bob"]).await;
        let conversation = cluster.direct(alice, bob).await;
        cluster.write(conversation, alice, MessageKind::Text, "hello").await;
        for after in [false, true] {
            let held = if after { a.store.hold_after(call) } else { a.store.hold_before(call) };
            let login = Client::new(&a, bob).begin_login();
            held.reached().await;
            login.abort();
            assert!(login.await.is_err_and(|error| error.is_cancelled()));
            drop(held);
            forgets(&cluster, &a, &[bob]).await;
            assert_eq!(a.core.timelines.position(conversation), None, "{call:?}");
        }
    }
}

#[tokio::test]
async fn catching_up_that_breaks_off_leaves_nothing_behind() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let conversation = cluster.direct(alice, bob).await;
    cluster.write(conversation, alice, MessageKind::Text, "hello").await;
    let mut client = Client::login(&a, bob).await;
    client.outbox.fall_behind(conversation, 1);
    let held = a.store.hold_before(Call::Messages);
    tokio::select! {
        () = client.until("nothing", |_| false) => {}
        () = held.reached() => {}
    }
    drop((client, held));
    forgets(&cluster, &a, &[bob]).await;
    assert_eq!(a.core.timelines.position(conversation), None);
}

#[tokio::test(start_paused = true)]
async fn a_login_waits_for_the_log_for_so_long_and_no_longer() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let bob = cluster.user("bob").await;
    a.store.away(Call::PresenceChange, true);
    let mut client = Client::new(&a, bob);
    let (begun, request) = (Instant::now(), client.request(BTreeMap::new()));
    match client.try_login(request).await {
        Err(LoginFailure::Refused(error)) => assert_eq!(error.code(), ErrorCode::Unavailable),
        other => panic!("{other:?}"),
    }
    assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&begun.elapsed()));
    a.store.away(Call::PresenceChange, false);
    forgets(&cluster, &a, &[bob]).await;
}

#[tokio::test]
async fn a_node_that_stops_takes_no_more_logins() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let bob = cluster.user("bob").await;
    a.core.lease.set_state(NodeState::Draining);
    let mut client = Client::new(&a, bob);
    let request = client.request(BTreeMap::new());
    let refused = client.try_login(request).await;
    assert!(matches!(refused, Err(LoginFailure::SentAway)), "{refused:?}");
    forgets(&cluster, &a, &[bob]).await;
}

#[tokio::test]
async fn one_session_too_many_takes_nobodys_place() {
    let cluster = Cluster::new().await;
    let limits = LimitsConfig { sessions_per_user: 1, ..LimitsConfig::default() };
    let a = cluster.start("node-a", limits).await;
    let bob = cluster.user("bob").await;
    let first = Client::login(&a, bob).await;
    let mut second = Client::new(&a, bob);
    let request = second.request(BTreeMap::new());
    let refused = second.try_login(request).await;
    assert!(matches!(refused, Err(LoginFailure::Closed(CloseReason::TooManySessions))), "{refused:?}");
    drop(second);
    assert_eq!(a.core.locals.count(), 1);
    drop(first);
    drop(Client::login(&a, bob).await);
    forgets(&cluster, &a, &[bob]).await;
}

#[tokio::test(start_paused = true)]
async fn cursors_in_conversations_of_more_than_fifty_are_not_told() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let mut users = Vec::new();
    for number in 0..51 {
        users.push(cluster.user(&format!("user-{number}")).await);
    }
    let (many, few) = (cluster.group(&users).await, cluster.group(&users[..50]).await);
    let (mut alice, bob) = (Client::login(&a, users[0]).await, Client::login(&a, users[1]).await);
    let session = bob.member.as_ref().unwrap().session();
    received(&a.core, session, many, 50);
    let deadline = Instant::now() + Duration::from_secs(20);
    while cluster.log.memberships_in(&[many], &users[1..2]).await.unwrap()[0].delivered != 50 {
        assert!(Instant::now() < deadline, "the cursor is not written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    received(&a.core, session, few, 49);
    let of = |frame: &ServerFrame| match frame {
        ServerFrame::Cursor { conversation, .. } => Some(*conversation),
        _ => None,
    };
    alice.until("the cursor", |frames| frames.iter().any(|frame| of(frame) == Some(few))).await;
    assert!(!alice.was_told(|frame| of(frame) == Some(many)));
}

#[tokio::test]
async fn lists_and_pages_hold_two_hundred_at_most() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let bob = cluster.user("bob").await;
    let mut group = None;
    for _ in 0..201 {
        group = Some(cluster.group(&[bob]).await);
    }
    let group = group.unwrap();
    for _ in 0..201 {
        cluster.write(group, bob, MessageKind::Text, "hello").await;
    }
    let client = Client::login_since(&a, bob, [(group, 201)]).await;
    assert!(
        client.was_told(
            |frame| matches!(frame, ServerFrame::Welcome { conversations, .. } if conversations.len() == 200)
        )
    );
    match conversations(&a.core, bob, None, None, Some(10_000)).await {
        Ok(ServerFrame::Conversations { conversations, more: true, .. }) => assert_eq!(conversations.len(), 200),
        other => panic!("{other:?}"),
    }
    match history(&a.core, bob, None, group, (None, None), Some(10_000)).await {
        Ok(ServerFrame::History { messages, more: true, .. }) => assert_eq!(messages.len(), 200),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_no_log_has_is_told_when_the_bus_is_back() {
    let cluster = Cluster::new().await;
    let (a, b) = cluster.pair().await;
    let [alice, bob, carol] = cluster.users(["alice", "bob", "carol"]).await;
    let conversation = cluster.direct(alice, bob).await;
    cluster.write(conversation, alice, MessageKind::Text, "hello").await;
    cluster.log.friend_add(alice, bob).await.unwrap();
    cluster.log.friend_accept(bob, alice).await.unwrap();
    let mut alice = Client::login(&a, alice).await;
    cluster.broker.refuse(true);
    cluster.broker.disconnect();
    let bob = Client::login(&b, bob).await;
    b.core.cursors.received(conversation, bob.user, 1);
    cluster.log.friend_add(carol, alice.user).await.unwrap();
    alice.until("degraded", |frames| frames.iter().any(|frame| matches!(frame, ServerFrame::Degraded { .. }))).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while cluster.log.memberships(&[bob.user], None, 1).await.unwrap()[0].delivered == 0 {
        assert!(Instant::now() < deadline, "the cursor is never written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let is_news = |frame: &ServerFrame| match frame {
        ServerFrame::Presence { user, online } => (*user, *online) == (bob.user, true),
        ServerFrame::FriendRequest { user, .. } => *user == carol,
        ServerFrame::Cursor { user, delivered, .. } => (*user, *delivered) == (bob.user, 1),
        _ => false,
    };
    assert!(!alice.was_told(is_news), "without a bus, by whom? {:#?}", alice.frames);
    cluster.broker.refuse(false);
    alice.until("three pieces of news", |frames| frames.iter().filter(|frame| is_news(frame)).count() >= 3).await;
}

#[tokio::test]
async fn whoever_makes_a_group_is_not_told_of_it_by_others() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    a.hears().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let (mut owner, mut device) = (Client::login(&a, alice).await, Client::login(&a, alice).await);
    let mut bob = Client::login(&a, bob).await;
    let created = a.store.hold_after(Call::Other);
    let (core, session) = (Arc::clone(&a.core), Arc::clone(owner.member.as_ref().unwrap().session()));
    let creating = tokio::spawn(async move { super::group_create(&core, &session, None, "tea", "").await });
    created.reached().await;
    // The log has the group, and somebody looks; somebody else begins to talk.
    a.core.repairs.swept(0).await;
    bob.sent("1", SendTarget::User { to: alice }, "hello").await;
    device.until("the group", |frames| frames.iter().any(|frame| matches!(frame, ServerFrame::Conversation(_)))).await;
    drop(created);
    let Ok(ServerFrame::Group { conversation, .. }) = creating.await.unwrap() else { panic!("no group") };
    owner.hears("hello").await;
    device.sent("2", SendTarget::Conversation { conversation }, "tea is ready").await;
    owner.hears("tea is ready").await;
    let told =
        |frame: &ServerFrame| matches!(frame, ServerFrame::Conversation(view) if view.conversation == conversation);
    assert!(!owner.was_told(told));
}

#[tokio::test]
async fn of_two_nodes_where_a_friend_comes_neither_leaves_it_to_the_other() {
    let cluster = Cluster::new().await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    cluster.log.friend_add(alice, bob).await.unwrap();
    cluster.log.friend_accept(bob, alice).await.unwrap();
    let mut alice = Client::login(&a, alice).await;
    // Whatever the other node has to say of it is lost.
    cluster.broker.drop_if(|_| true);
    let _there = Client::login(&b, bob).await;
    let _here = Client::login(&a, bob).await;
    let came = |frame: &ServerFrame| matches!(frame, ServerFrame::Presence { user, online: true } if *user == bob);
    alice.until("that bob is here", |frames| frames.iter().any(came)).await;
}
