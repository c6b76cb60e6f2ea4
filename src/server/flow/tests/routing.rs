//! What goes to which node, and what a node does about what it did not expect.

use std::time::Duration;

use super::ROUTING;
use crate::bus::Outgoing;
use crate::model::store::{NAMED_RECIPIENTS, Range, StoreErrorKind};
use crate::model::{MessageKind, UserId};
use crate::protocol::{SendTarget, ServerFrame};
use crate::server::flow::Entry;
use crate::server::flow::envelope::{Delivery, Origin, Packet, Recipients};
use crate::server::scene::{Call, Client, Cluster, eventually};
use crate::server::service;

fn to(user: UserId) -> SendTarget {
    SendTarget::User { to: user }
}

#[tokio::test(start_paused = true)]
async fn a_resend_is_routed_again() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let (mut alice, mut bob) = (Client::login(&a, alice).await, Client::login(&b, bob).await);
    alice.sent("1", to(bob.user), "hello").await;
    bob.hears("hello").await;
    // It is stored, and as a repetition only does the node learn its seq. Nothing follows that would show a hole.
    a.store.lose_answer(Call::Append);
    assert_eq!(alice.sent("2", to(bob.user), "stored already").await, 2);
    bob.hears("stored already").await;
}

#[tokio::test(start_paused = true)]
async fn peers_are_asked_through_the_bus_to_sweep() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let (mut alice, mut bob) = (Client::login(&a, alice).await, Client::login(&b, bob).await);
    eventually("they see each other", || a.core.lease.live_peers().contains(&b.core.node)).await;
    // The row that says the same is not read for longer than anybody waits here.
    let looks: Vec<_> = (0..20).map(|_| b.store.hold_before(Call::Nodes)).collect();
    looks[0].reached().await;
    a.store.fail(Call::Presence, StoreErrorKind::Unavailable);
    alice.sent("1", to(bob.user), "to whom").await;
    bob.hears("to whom").await;
}

#[tokio::test(start_paused = true)]
async fn a_leave_reaches_the_sessions_of_the_leaver_where_no_member_is_left() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let group = cluster.group(&[alice, bob]).await;
    let leaves = Client::login(&a, bob).await;
    let mut device = Client::login(&b, bob).await;
    eventually("they see each other", || a.core.lease.live_peers().contains(&b.core.node)).await;
    service::group_leave(&a.core, leaves.member.as_ref().unwrap().session(), None, group).await.unwrap();
    let left = |frame: &ServerFrame| matches!(frame, ServerFrame::Message(m) if m.kind == MessageKind::Leave);
    device.until("the leave", |frames| frames.iter().any(left)).await;
    assert_eq!(b.core.timelines.position(group), None, "nobody listens any more");
}

#[tokio::test(start_paused = true)]
async fn a_leave_reaches_a_node_that_has_only_just_started() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    a.hears().await;
    // From here on it learns of no other node.
    let looks: Vec<_> = (0..20).map(|_| a.store.hold_before(Call::Nodes)).collect();
    looks[0].reached().await;
    let b = cluster.node("node-b").await;
    b.hears().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let group = cluster.group(&[alice, bob]).await;
    let (owner, mut leaver) = (Client::login(&a, alice).await, Client::login(&b, bob).await);
    let begun = tokio::time::Instant::now();
    let session = owner.member.as_ref().unwrap().session();
    service::group_remove(&a.core, session, None, group, bob).await.unwrap();
    assert_eq!(a.core.lease.live_peers(), []);
    let left = |frame: &ServerFrame| matches!(frame, ServerFrame::Message(m) if m.kind == MessageKind::Leave);
    leaver.until("the leave", |frames| frames.iter().any(left)).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "no audit was needed");
}

#[tokio::test(start_paused = true)]
async fn members_that_are_too_many_to_name_are_put_into_a_timeline_all_the_same() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice] = cluster.users(["alice"]).await;
    let mut speaker = Client::login(&a, alice).await;
    let (mut members, mut listeners) = (vec![alice], Vec::new());
    for number in 0..=NAMED_RECIPIENTS {
        let user = cluster.user(&format!("user-{number}")).await;
        listeners.push(Client::login(&b, user).await);
        members.push(user);
    }
    // Nobody told the node of these joins.
    let group = cluster.group(&members).await;
    speaker.sent("1", SendTarget::Conversation { conversation: group }, "to all").await;
    for listener in &mut listeners {
        listener.hears("to all").await;
    }
}

#[tokio::test(start_paused = true)]
async fn holes_are_fetched_together_and_one_fetch_at_a_time() {
    let cluster = Cluster::routed(ROUTING).await;
    let b = cluster.node("node-b").await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let mut groups = Vec::new();
    for _ in 0..5 {
        groups.push(cluster.group(&[alice, bob]).await);
    }
    let mut bob = Client::login(&b, bob).await;
    let mut out_of_order = Vec::new();
    for (number, &group) in groups.iter().enumerate() {
        cluster.write(group, alice, MessageKind::Text, "lost").await;
        let seq = cluster.write(group, alice, MessageKind::Text, &format!("next {number}")).await;
        let range = Range { conversation: group, after: seq - 1, until: seq };
        let mut rows = cluster.log.messages(&[range], 1).await.unwrap();
        out_of_order.push((group, Entry::encode(rows.remove(0))));
    }
    let last = out_of_order.pop().unwrap();
    let before = b.store.calls(Call::Messages);
    let fetch = b.store.hold_before(Call::Messages);
    for (group, entry) in out_of_order {
        b.core.timelines.feed(group, entry, None);
    }
    b.core.repairs.holes();
    fetch.reached().await;
    b.core.timelines.feed(last.0, last.1, None);
    b.core.repairs.holes();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(b.store.calls(Call::Messages), before + 1, "the second waits for the first");
    drop(fetch);
    for number in 0..5 {
        bob.hears(&format!("next {number}")).await;
    }
    assert_eq!(b.store.calls(Call::Messages), before + 2, "four at once, and the one that came later");
}

#[tokio::test(start_paused = true)]
async fn a_packet_of_another_cluster_is_ignored() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let (mut alice, mut bob) = (Client::login(&a, alice).await, Client::login(&b, bob).await);
    alice.sent("1", to(bob.user), "hello").await;
    let message = bob.hears("hello").await;
    let conversation = message.conversation;
    let forged = crate::model::Message { seq: 2, body: "forged".to_owned(), ..message };
    let delivery = Delivery { conversation, entry: Entry::encode(forged), to: Recipients::Users(vec![bob.user]) };
    let origin = Origin { cluster: "0123456789abcdef".to_owned(), ..a.core.origin() };
    let payload = Packet::Messages(vec![delivery]).encode(&origin);
    let published = a.core.bus.publish(vec![Outgoing { subject: b.core.inbox_of(&b.core.node), payload }]).await;
    assert!(published.iter().all(Result::is_ok), "{published:?}");
    alice.sent("2", to(bob.user), "real").await;
    bob.hears("real").await;
    assert_eq!(bob.seqs(conversation), [1, 2]);
    assert!(!bob.was_told(|frame| matches!(frame, ServerFrame::Message(m) if m.body == "forged")));
}
