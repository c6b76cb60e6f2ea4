//! Reading the log beside what passes live.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::{ConversationId, MessageKind, UserId};
use crate::protocol::{SendTarget, ServerFrame};
use crate::server::scene::{Call, Client, Cluster, Host, eventually};

fn to(user: UserId) -> SendTarget {
    SendTarget::User { to: user }
}

/// Two users who have spoken to each other on one node, which has nothing left to repair.
async fn pair() -> (Cluster, Host, Client, Client, ConversationId) {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let (mut alice, mut bob) = (Client::login(&a, alice).await, Client::login(&a, bob).await);
    alice.sent("1", to(bob.user), "hello").await;
    let conversation = bob.hears("hello").await.conversation;
    bob.sent("0", to(alice.user), "hello yourself").await;
    alice.hears("hello yourself").await;
    a.hears().await;
    a.core.repairs.swept(0).await;
    (cluster, a, alice, bob, conversation)
}

#[tokio::test(start_paused = true)]
async fn a_sender_is_not_given_its_own_message_by_whoever_fetches_a_hole_first() {
    let (_cluster, a, mut alice, mut bob, conversation) = pair().await;
    let committed = a.store.hold_after(Call::Append);
    alice.send_to("2", bob.user, "mine");
    committed.reached().await;
    // The log has it, its timeline not yet.
    let fetches = a.store.calls(Call::Messages);
    a.core.timelines.due(conversation);
    a.core.repairs.holes();
    eventually("the hole is fetched", || a.store.calls(Call::Messages) > fetches).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(committed);
    bob.hears("mine").await;
    bob.sent("1", to(alice.user), "end").await;
    alice.hears("end").await;
    assert_eq!((alice.seqs(conversation), bob.seqs(conversation)), (vec![2, 4], vec![1, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_catches_up_is_not_given_its_own_message() {
    let (_cluster, a, mut alice, mut bob, conversation) = pair().await;
    let committed = a.store.hold_after(Call::Append);
    alice.send_to("2", bob.user, "mine");
    committed.reached().await;
    let pages = a.store.calls(Call::Messages);
    alice.outbox.fall_behind(conversation, 3);
    tokio::select! {
        () = alice.until("nothing", |_| false) => {}
        () = async {
            eventually("a page is read", || a.store.calls(Call::Messages) > pages).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        } => {}
    }
    drop(committed);
    bob.hears("mine").await;
    bob.sent("1", to(alice.user), "end").await;
    alice.hears("end").await;
    assert_eq!(alice.seqs(conversation), [2, 4]);
}

#[tokio::test(start_paused = true)]
async fn more_than_a_login_can_keep_while_it_reads_is_read_again() {
    let (_cluster, a, mut alice, bob, conversation) = pair().await;
    let page = a.store.hold_before(Call::Messages);
    let login = Client::new(&a, bob.user).begin_login();
    page.reached().await;
    for number in 2..=300 {
        alice.sent(&number.to_string(), to(bob.user), "meanwhile").await;
    }
    drop(page);
    let mut device = login.await.unwrap();
    alice.sent("end", to(bob.user), "end").await;
    device.hears("end").await;
    assert_eq!(device.seqs(conversation), (1..=302).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn more_than_a_buffer_keeps_while_a_session_catches_up_is_read_again() {
    let (_cluster, a, mut alice, mut bob, conversation) = pair().await;
    let page = a.store.hold_after(Call::Messages);
    bob.outbox.fall_behind(conversation, 3);
    tokio::select! {
        () = bob.until("nothing", |_| false) => {}
        () = page.reached() => {}
    }
    for number in 2..=300 {
        alice.sent(&number.to_string(), to(bob.user), "meanwhile").await;
    }
    drop(page);
    alice.sent("end", to(bob.user), "end").await;
    bob.hears("end").await;
    assert_eq!(bob.seqs(conversation), [1].into_iter().chain(3..=302).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_was_lost_on_its_way_here_comes_with_the_next_message_of_this_node() {
    let (cluster, _a, mut alice, mut bob, conversation) = pair().await;
    cluster.write(conversation, alice.user, MessageKind::Text, "lost").await;
    let begun = Instant::now();
    alice.sent("2", to(bob.user), "next").await;
    bob.hears("next").await;
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!(bob.seqs(conversation), [1, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn who_left_unheard_gets_the_leave_with_the_audit_and_nothing_after_it() {
    let (cluster, a, _alice, bob, _) = pair().await;
    // Nobody else of it is here.
    let carol = cluster.user("carol").await;
    let group = cluster.group(&[carol, bob.user]).await;
    let mut device = Client::login(&a, bob.user).await;
    cluster.write(group, bob.user, MessageKind::Leave, "").await;
    cluster.write(group, carol, MessageKind::Text, "a secret").await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    let left = |frame: &ServerFrame| matches!(frame, ServerFrame::Message(m) if m.kind == MessageKind::Leave);
    device.until("the leave", |frames| frames.iter().any(left)).await;
    eventually("they are let go", || !a.core.timelines.holds_user(group, bob.user)).await;
    device.take();
    assert!(!device.was_told(|frame| matches!(frame, ServerFrame::Message(m) if m.body == "a secret")));
}

#[tokio::test(start_paused = true)]
async fn what_a_login_finds_in_the_log_is_fetched_for_the_others_too() {
    let (cluster, a, alice, mut bob, conversation) = pair().await;
    cluster.write(conversation, alice.user, MessageKind::Text, "lost").await;
    let begun = Instant::now();
    let _device = Client::login(&a, bob.user).await;
    bob.hears("lost").await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_while_logging_in_is_in_no_timeline_and_who_comes_back_is() {
    let (cluster, a, mut alice, bob, _) = pair().await;
    let group = cluster.group(&[alice.user, bob.user]).await;
    for comes_back in [false, true] {
        let listed = a.store.hold_after(Call::ConversationsOf);
        let login = Client::new(&a, bob.user).begin_login();
        listed.reached().await;
        cluster.write(group, bob.user, MessageKind::Leave, "").await;
        let read = a.store.hold_after(Call::Memberships);
        drop(listed);
        read.reached().await;
        if comes_back {
            cluster.write(group, bob.user, MessageKind::Join, "").await;
        }
        drop(read);
        let mut device = login.await.unwrap();
        if comes_back {
            alice.sent("back", SendTarget::Conversation { conversation: group }, "welcome back").await;
            device.hears("welcome back").await;
        } else {
            assert!(!a.core.timelines.holds_user(group, bob.user));
            cluster.write(group, bob.user, MessageKind::Join, "").await;
        }
    }
}
