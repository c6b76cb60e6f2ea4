//! From one user to another, with every step of one held while the other goes on.

use super::ROUTING;
use crate::model::{ConversationId, MessageKind, Seq, UserId};
use crate::protocol::{ErrorCode, SendTarget, ServerFrame};
use crate::server::flow::Repairs;
use crate::server::scene::{Call, Client, Cluster, Host, eventually};

const NOTHING: [Seq; 0] = [];

fn to(user: UserId) -> SendTarget {
    SendTarget::User { to: user }
}

fn error(frames: &[ServerFrame], of: &str) -> Option<ErrorCode> {
    frames.iter().find_map(|frame| match frame {
        ServerFrame::Error { key: Some(key), code, .. } if key.as_str() == of => Some(*code),
        _ => None,
    })
}

/// The only conversation of a client that has got messages.
fn conversation_of(client: &Client) -> ConversationId {
    let found = client.frames.iter().find_map(|frame| match frame {
        ServerFrame::Message(message) => Some(message.conversation),
        ServerFrame::Sent { conversation, .. } => Some(*conversation),
        _ => None,
    });
    found.expect("it has said or heard something")
}

/// Proves that a node's repair task still does what it is asked to.
async fn repairs(host: &Host) {
    tokio::time::timeout(crate::server::scene::PATIENCE, Repairs::swept(&host.core.repairs, 0)).await.unwrap();
}

#[tokio::test]
async fn a_resend_gets_the_first_answer_and_nobody_hears_it_twice() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let (mut one, mut other) = (Client::login(&a, alice).await, Client::login(&b, bob).await);
    assert_eq!(one.sent("k", to(bob), "hello").await, 1);
    // On another node, as a device does that has changed over.
    let mut again = Client::login(&b, alice).await;
    assert_eq!(again.sent("k", to(bob), "hello").await, 1);
    // Twice in one batch.
    let held = a.store.hold_before(Call::Append);
    one.send_to("x", bob, "first");
    held.reached().await;
    for body in ["twice", "twice", "else"] {
        one.send_to("y", bob, body);
    }
    drop(held);
    one.until("an error", |frames| error(frames, "y").is_some()).await;
    assert_eq!(error(&one.frames, "y"), Some(ErrorCode::Conflict));
    let seqs = one.frames.iter().filter_map(|frame| match frame {
        ServerFrame::Sent { key, seq, .. } if key.as_str() == "y" => Some(*seq),
        _ => None,
    });
    assert_eq!(seqs.collect::<Vec<_>>(), [3, 3]);
    one.sent("end", to(bob), "end").await;
    other.hears("end").await;
    assert_eq!(other.seqs(conversation_of(&other)), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_by_its_keys() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let (mut one, mut other) = (Client::login(&a, alice).await, Client::login(&b, bob).await);
    a.store.lose_answer(Call::Append);
    assert_eq!(one.sent("k", to(bob), "hello").await, 1);
    assert_eq!(one.sent("l", to(bob), "end").await, 2);
    other.hears("end").await;
    assert_eq!(other.seqs(conversation_of(&other)), [1, 2]);
    assert_eq!(one.seqs(conversation_of(&one)), NOTHING, "it is the sender");
}

#[tokio::test]
async fn messages_of_one_sender_arrive_in_order_without_a_look_into_the_log() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let (mut one, mut other) = (Client::login(&a, alice).await, Client::login(&b, bob).await);
    one.sent("first", to(bob), "first").await;
    other.hears("first").await;
    let looks = || (b.store.calls(Call::Messages), b.store.calls(Call::Changes));
    let before = looks();
    for number in 0..500 {
        one.send_to(&format!("k-{number}"), bob, &format!("message {number}"));
        tokio::task::yield_now().await;
    }
    other.hears("message 499").await;
    assert_eq!(other.seqs(conversation_of(&other)), (1..=501).collect::<Vec<_>>());
    assert_eq!(looks(), before, "neither a hole nor a sweep");
}

#[tokio::test]
async fn a_login_reads_nothing_before_its_presence_is_committed() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let mut one = Client::login(&a, alice).await;
    let held = b.store.hold_before(Call::PresenceChange);
    let login = Client::new(&b, bob).begin_login();
    held.reached().await;
    one.sent("k", to(bob), "nobody saw them").await;
    assert_eq!(b.store.calls(Call::ConversationsOf), 0);
    drop(held);
    let mut other = login.await.unwrap();
    other.hears("nobody saw them").await;
}

#[tokio::test]
async fn what_passes_while_a_login_reads_the_log_comes_behind_it_and_once() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let mut one = Client::login(&a, alice).await;
    one.sent("1", to(bob), "long ago").await;
    let before = b.store.hold_before(Call::Memberships);
    let login = Client::new(&b, bob).begin_login();
    before.reached().await;
    one.sent("2", to(bob), "before the read").await;
    let after = b.store.hold_after(Call::Memberships);
    let second = b.store.hold_before(Call::Messages);
    drop(before);
    second.reached().await;
    one.sent("3", to(bob), "after the read").await;
    drop((second, after));
    let mut other = login.await.unwrap();
    one.sent("4", to(bob), "end").await;
    other.hears("end").await;
    assert_eq!(other.seqs(conversation_of(&other)), [1, 2, 3, 4]);
    repairs(&b).await;
    assert!(b.store.calls(Call::Messages) < 10, "the log is not asked without end");
}

#[tokio::test]
async fn a_sender_who_looks_late_repeats_nothing_that_a_login_has_read() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let mut one = Client::login(&a, alice).await;
    let held = a.store.hold_before(Call::Presence);
    one.sent("1", to(bob), "committed").await;
    held.reached().await;
    let mut other = Client::login(&b, bob).await;
    drop(held);
    one.sent("2", to(bob), "end").await;
    other.hears("end").await;
    assert_eq!(other.seqs(conversation_of(&other)), [1, 2]);
}

#[tokio::test]
async fn a_conversation_that_is_born_while_a_login_lists_is_not_missed() {
    for call in [Call::ConversationsOf, Call::Memberships] {
        let cluster = Cluster::routed(ROUTING).await;
        let (a, b) = cluster.pair().await;
        let [alice, bob] = cluster.users(["alice", "bob"]).await;
        let mut one = Client::login(&a, alice).await;
        let held = b.store.hold_after(call);
        let login = Client::new(&b, bob).begin_login();
        held.reached().await;
        one.sent("1", to(bob), "born").await;
        // Whatever the envelope asks for is done while the login still waits.
        eventually("the envelope arrives", || b.store.calls(Call::MembershipsIn) > 0).await;
        drop(held);
        let mut other = login.await.unwrap();
        other.hears("born").await;
        one.sent("2", to(bob), "end").await;
        other.hears("end").await;
        assert_eq!(other.seqs(conversation_of(&other)), [1, 2], "{call:?}");
    }
}

#[tokio::test]
async fn a_first_message_reaches_everybody_but_the_session_that_sent_it() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let mut sender = Client::login(&a, alice).await;
    let mut others = [
        Client::login(&a, alice).await,
        Client::login(&b, alice).await,
        Client::login(&a, bob).await,
        Client::login(&b, bob).await,
    ];
    sender.sent("1", to(bob), "hello").await;
    sender.sent("2", to(bob), "end").await;
    for other in &mut others {
        other.hears("end").await;
        let conversation = conversation_of(other);
        assert_eq!(other.seqs(conversation), [1, 2]);
        let told =
            |frame: &ServerFrame| matches!(frame, ServerFrame::Conversation(view) if view.conversation == conversation);
        let first = other.frames.iter().position(|frame| matches!(frame, ServerFrame::Message(_))).unwrap();
        assert!(other.frames[..first].iter().any(told), "the conversation comes first");
        assert_eq!(other.frames.iter().filter(|frame| told(frame)).count(), 1);
    }
    others[3].sent("3", to(alice), "answer").await;
    sender.hears("answer").await;
    assert_eq!(sender.seqs(conversation_of(&sender)), [3]);
}

#[tokio::test]
async fn a_lost_first_message_comes_with_the_second() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let (mut one, mut other) = (Client::login(&a, alice).await, Client::login(&b, bob).await);
    cluster.lose_next();
    one.sent("1", to(bob), "lost").await;
    one.sent("2", to(bob), "end").await;
    other.hears("end").await;
    assert_eq!(other.seqs(conversation_of(&other)), [1, 2]);
}

#[tokio::test]
async fn a_first_message_that_meets_the_timeline_of_a_login_reaches_the_others() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let mut sender = Client::login(&a, alice).await;
    let mut other = Client::login(&b, bob).await;
    let held = a.store.hold_before(Call::Presence);
    sender.sent("1", to(bob), "hello").await;
    held.reached().await;
    // It lists the new conversation; bob's session does not know of it.
    let _login = Client::login(&b, alice).await;
    drop(held);
    other.hears("hello").await;
}

#[tokio::test]
async fn a_first_message_that_meets_the_timeline_of_a_login_on_its_own_node_reaches_the_others() {
    let cluster = Cluster::routed(ROUTING).await;
    let a = cluster.node("node-a").await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let sender = Client::login(&a, alice).await;
    let mut other = Client::login(&a, bob).await;
    let held = a.store.hold_before(Call::Append);
    sender.send_to("1", bob, "hello");
    held.reached().await;
    let _login = Client::login(&a, alice).await;
    drop(held);
    other.hears("hello").await;
}

#[tokio::test]
async fn a_join_that_meets_the_timeline_of_a_login_reaches_the_other_devices() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob, carol] = cluster.users(["alice", "bob", "carol"]).await;
    let group = cluster.group(&[alice, carol]).await;
    let joins = Client::login(&a, bob).await;
    let mut device = Client::login(&b, bob).await;
    let held = a.store.hold_before(Call::Presence);
    let core = std::sync::Arc::clone(&a.core);
    let session = std::sync::Arc::clone(joins.member.as_ref().unwrap().session());
    crate::server::service::group_join(&core, &session, None, group).await.unwrap();
    held.reached().await;
    // Its timeline begins behind the join.
    let mut carol = Client::login(&b, carol).await;
    drop(held);
    let mut alice = Client::login(&a, alice).await;
    alice.sent("1", SendTarget::Conversation { conversation: group }, "welcome").await;
    carol.hears("welcome").await;
    device.hears("welcome").await;
    assert!(device.was_told(|frame| matches!(frame, ServerFrame::Conversation(view) if view.conversation == group)));
    assert_eq!(device.seqs(group), [3], "live messages begin above the join");
}

#[tokio::test]
async fn who_leaves_while_being_put_into_a_timeline_hears_the_leave_and_nothing_after() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let group = cluster.group(&[alice]).await;
    let mut alice = Client::login(&a, alice).await;
    let elsewhere = Client::login(&a, bob).await;
    let mut device = Client::login(&b, bob).await;
    let session = std::sync::Arc::clone(elsewhere.member.as_ref().unwrap().session());
    let held = b.store.hold_after(Call::MembershipsIn);
    crate::server::service::group_join(&a.core, &session, None, group).await.unwrap();
    held.reached().await;
    // It was read as a member's, and is one no more.
    crate::server::service::group_leave(&a.core, &session, None, group).await.unwrap();
    drop(held);
    repairs(&b).await;
    alice.sent("1", SendTarget::Conversation { conversation: group }, "a secret").await;
    alice.sent("2", to(bob), "end").await;
    device.hears("end").await;
    // It was told of the group, so it is told that it is over.
    let left = |frame: &ServerFrame| matches!(frame, ServerFrame::Message(m) if m.kind == MessageKind::Leave);
    device.until("the leave", |frames| frames.iter().any(left)).await;
    repairs(&b).await;
    assert_eq!(b.core.timelines.position(group), None, "nobody listens");
    device.take();
    assert_eq!(device.seqs(group), [2]);
}

#[tokio::test]
async fn an_envelope_reaches_every_session_of_its_timeline_whoever_it_names() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob, carol] = cluster.users(["alice", "bob", "carol"]).await;
    let group = cluster.group(&[alice, bob, carol]).await;
    let mut alice = Client::login(&a, alice).await;
    let mut bob = Client::login(&b, bob).await;
    // The sender has looked already when carol comes, and her login has read already when the envelope comes.
    let looked = a.store.hold_after(Call::Presence);
    let listed = b.store.hold_after(Call::Memberships);
    let login = Client::new(&b, carol).begin_login();
    listed.reached().await;
    alice.sent("1", SendTarget::Conversation { conversation: group }, "hello").await;
    looked.reached().await;
    drop(looked);
    bob.hears("hello").await;
    drop(listed);
    let mut carol = login.await.unwrap();
    carol.hears("hello").await;
    assert_eq!(carol.seqs(group).last(), Some(&3));
}

#[tokio::test]
async fn a_group_is_live_for_its_founder_from_the_first_message_on() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let mut founder = Client::login(&a, alice).await;
    let session = std::sync::Arc::clone(founder.member.as_ref().unwrap().session());
    let created = crate::server::service::group_create(&a.core, &session, None, "a group", "").await.unwrap();
    let ServerFrame::Group { conversation, .. } = created else { panic!("{created:?}") };
    let guest = Client::login(&b, bob).await;
    let joins = std::sync::Arc::clone(guest.member.as_ref().unwrap().session());
    crate::server::service::group_join(&b.core, &joins, None, conversation).await.unwrap();
    guest.say("1", conversation, "hello");
    founder.hears("hello").await;
    assert_eq!(founder.seqs(conversation), [1, 2]);
}

#[tokio::test]
async fn a_hole_that_the_log_cannot_fill_keeps_nobody_else_waiting() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob, carol] = cluster.users(["alice", "bob", "carol"]).await;
    let mut one = Client::login(&a, alice).await;
    let mut other = Client::login(&b, bob).await;
    one.sent("1", to(bob), "hello").await;
    let conversation = other.hears("hello").await.conversation;
    // A node whose database lost this commit had published it.
    b.core.timelines.feed(conversation, super::entry(conversation, 9), None);
    b.core.repairs.holes();
    eventually("the log is asked", || b.store.calls(Call::Messages) > 2).await;
    // Being put into a new conversation takes the same task.
    let mut carol = Client::login(&a, carol).await;
    carol.sent("1", to(bob), "and I").await;
    other.hears("and I").await;
}

#[tokio::test]
async fn messages_of_a_member_who_left_are_refused_and_a_direct_conversation_cannot_be_joined() {
    let cluster = Cluster::routed(ROUTING).await;
    let a = cluster.node("node-a").await;
    let [alice, bob, carol] = cluster.users(["alice", "bob", "carol"]).await;
    let conversation = cluster.direct(alice, bob).await;
    cluster.write(conversation, alice, MessageKind::Text, "private").await;
    let mut carol = Client::login(&a, carol).await;
    let session = std::sync::Arc::clone(carol.member.as_ref().unwrap().session());
    let joined = crate::server::service::group_join(&a.core, &session, None, conversation).await;
    assert_eq!(joined.unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(a.core.timelines.position(conversation), None, "nothing is left of the attempt");
    carol.say("1", conversation, "let me in");
    carol.until("an error", |frames| error(frames, "1").is_some()).await;
    assert_eq!(error(&carol.frames, "1"), Some(ErrorCode::NotMember));
}
