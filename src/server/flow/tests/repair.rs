//! What the bus does not bring comes from the log, in time, and nobody is told that all is well before it has.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::time::Instant;

use super::ROUTING;
use crate::bus::memory::Operation;
use crate::model::store::StoreErrorKind;
use crate::model::{MessageKind, UserId};
use crate::protocol::{CloseReason, ErrorCode, SendTarget, ServerFrame};
use crate::server::flow::Address;
use crate::server::scene::{Call, Client, Cluster, Host, PATIENCE, eventually};
use crate::telemetry;

/// Two users who know each other, on two nodes.
struct Scene {
    cluster: Cluster,
    a: Host,
    b: Host,
    alice: Client,
    bob: Client,
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::routed(ROUTING).await;
        let (a, b) = cluster.pair().await;
        let [alice, bob] = cluster.users(["alice", "bob"]).await;
        let (mut alice, mut bob) = (Client::login(&a, alice).await, Client::login(&b, bob).await);
        alice.sent("hello", to(bob.user), "hello").await;
        bob.hears("hello").await;
        Self { cluster, a, b, alice, bob }
    }

    async fn say(&mut self, body: &str) {
        self.alice.sent(body, to(self.bob.user), body).await;
    }

    /// What node a's row says of its publishes.
    async fn dirty_since(&self) -> Option<i64> {
        let (_, rows) = self.cluster.log.nodes().await.unwrap();
        rows.iter().find(|row| row.node == self.a.core.node).unwrap().dirty_since
    }

    async fn is_told_to_sweep(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.dirty_since().await.is_none() {
            assert!(Instant::now() < deadline, "the row says nothing");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn bus_lost(&self) {
        self.cluster.broker.refuse(true);
        self.cluster.broker.disconnect();
    }
}

fn to(user: UserId) -> SendTarget {
    SendTarget::User { to: user }
}

fn degraded(frame: &ServerFrame) -> bool {
    matches!(frame, ServerFrame::Degraded { .. })
}

fn restored(frame: &ServerFrame) -> bool {
    matches!(frame, ServerFrame::Restored {})
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_with_a_successor_comes_after_the_park_timer() {
    let mut scene = Scene::new().await;
    scene.cluster.lose_next();
    scene.say("lost").await;
    let lost = Instant::now();
    scene.say("next").await;
    scene.bob.hears("next").await;
    assert!(lost.elapsed() >= Duration::from_millis(20) && lost.elapsed() < Duration::from_millis(300));
    assert_eq!(scene.bob.seqs(scene.cluster.direct(scene.alice.user, scene.bob.user).await), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_silently_lost_comes_with_the_audit() {
    let mut scene = Scene::new().await;
    let started = Instant::now();
    scene.cluster.lose_next();
    scene.say("lost").await;
    let conversation = scene.cluster.direct(scene.alice.user, scene.bob.user).await;
    let arrived = || scene.b.core.timelines.position(conversation) == Some(2);
    while !arrived() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(started.elapsed() < Duration::from_secs(31), "the audit comes every 30 s");
    }
    assert!(started.elapsed() > Duration::from_secs(29), "nothing but the audit can know");
    scene.bob.hears("lost").await;
}

#[tokio::test(start_paused = true)]
async fn what_an_audit_finds_while_the_log_carries_messages_is_no_repair_of_it() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let mut scene = Scene::new().await;
    let started = Instant::now();
    scene.bus_lost();
    tokio::time::sleep(Duration::from_millis(29_400)).await;
    // The next sweep is late, as on a busy machine, so the audit is first.
    let looks: Vec<_> = (0..20).map(|_| scene.b.store.hold_before(Call::Nodes)).collect();
    looks[0].reached().await;
    scene.say("said").await;
    scene.bob.hears("said").await;
    assert!(started.elapsed() > Duration::from_secs(29) && started.elapsed() < Duration::from_secs(31), "by the audit");
    let said = recorder.handle().render();
    assert!(said.contains(telemetry::SWEEPS) && !said.contains(telemetry::AUDIT_REPAIRED), "{said}");
}

#[tokio::test(start_paused = true)]
async fn an_audit_puts_a_session_back_that_is_missing_in_a_timeline_beside_another_of_its_user() {
    let mut scene = Scene::new().await;
    let mut device = Client::login(&scene.b, scene.bob.user).await;
    let conversation = scene.cluster.direct(scene.alice.user, scene.bob.user).await;
    scene.b.core.timelines.detach(conversation, device.member.as_ref().unwrap().session().number);
    scene.say("one is missing").await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    device.hears("one is missing").await;
}

#[tokio::test(start_paused = true)]
async fn without_a_bus_messages_come_through_the_log_within_a_second() {
    let mut scene = Scene::new().await;
    scene.bus_lost();
    scene.bob.until("degraded", |frames| frames.iter().any(degraded)).await;
    for number in 0..5 {
        let body = format!("message {number}");
        scene.say(&body).await;
        let sent = Instant::now();
        scene.bob.hears(&body).await;
        assert!(sent.elapsed() <= Duration::from_secs(1), "{:?}", sent.elapsed());
    }
    // Somebody whom they have never spoken to, too.
    let carol = scene.cluster.user("carol").await;
    let mut carol = Client::login(&scene.b, carol).await;
    let sent = Instant::now();
    scene.alice.sent("carol", to(carol.user), "and you").await;
    carol.hears("and you").await;
    assert!(sent.elapsed() <= Duration::from_secs(1), "{:?}", sent.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lost_bus_is_in_the_row_at_once_and_told_after_a_second() {
    let mut scene = Scene::new().await;
    let lost = Instant::now();
    scene.bus_lost();
    loop {
        let (_, rows) = scene.cluster.log.nodes().await.unwrap();
        if rows.iter().all(|row| !row.bus_ok) {
            break;
        }
        assert!(lost.elapsed() < Duration::from_millis(100), "the row waits for the next beat");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    scene.bob.until("degraded", |frames| frames.iter().any(degraded)).await;
    assert!(
        (Duration::from_millis(1000)..Duration::from_millis(1300)).contains(&lost.elapsed()),
        "{:?}",
        lost.elapsed()
    );
    // Whoever logs in now is told too, once.
    let mut late = Client::login(&scene.b, scene.alice.user).await;
    late.until("degraded", |frames| frames.iter().any(degraded)).await;
    assert_eq!(late.frames.iter().filter(|frame| degraded(frame)).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_back_within_a_second_is_nobodys_business() {
    let mut scene = Scene::new().await;
    scene.cluster.broker.disconnect();
    scene.b.hears().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.say("end").await;
    scene.bob.hears("end").await;
    assert!(!scene.bob.was_told(|frame| degraded(frame) || restored(frame)));
}

#[tokio::test(start_paused = true)]
async fn restored_is_said_only_after_a_sweep_that_began_after_the_bus_was_back() {
    let mut scene = Scene::new().await;
    scene.bus_lost();
    scene.bob.until("degraded", |frames| frames.iter().any(degraded)).await;
    // One sweep is under way, and the next is held too.
    let under_way = scene.b.store.hold_after(Call::Changes);
    under_way.reached().await;
    let after = scene.b.store.hold_before(Call::Changes);
    scene.say("before it is back").await;
    scene.cluster.broker.refuse(false);
    scene.b.hears().await;
    drop(under_way);
    after.reached().await;
    scene.bob.take();
    assert!(!scene.bob.was_told(restored));
    let mut late = Client::login(&scene.b, scene.alice.user).await;
    assert!(late.was_told(degraded), "it is not over yet");
    drop(after);
    for client in [&mut scene.bob, &mut late] {
        client.until("restored", |frames| frames.iter().any(restored)).await;
        let heard = |frame: &ServerFrame| matches!(frame, ServerFrame::Message(m) if m.body == "before it is back");
        let (heard, told) = (client.frames.iter().position(heard), client.frames.iter().position(restored));
        assert!(heard < told, "{:?}", client.frames);
        assert_eq!(client.frames.iter().filter(|frame| degraded(frame)).count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_broker_does_not_delay_a_login() {
    let scene = Scene::new().await;
    scene.bus_lost();
    let begun = Instant::now();
    drop(Client::login(&scene.b, scene.bob.user).await);
    scene.cluster.broker.refuse(false);
    scene.cluster.broker.pause();
    drop(Client::login(&scene.b, scene.bob.user).await);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_is_not_accepted_in_time_is_swept_for() {
    let mut scene = Scene::new().await;
    scene.cluster.broker.stall(Operation::Publish);
    scene.say("stuck").await;
    let sent = Instant::now();
    scene.bob.hears("stuck").await;
    assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());
    assert!(scene.dirty_since().await.is_some(), "whoever misses the request to sweep sees it there");
}

#[tokio::test(start_paused = true)]
async fn a_subject_that_nobody_listens_to_is_a_failed_publish() {
    let mut scene = Scene::new().await;
    // Its presence stays, and its lease for a while.
    let subjects = [Address::Inbox, Address::User(scene.bob.user)].map(|address| scene.b.core.subject_of(address));
    scene.b.crash();
    let nobody = || subjects.iter().all(|subject| scene.cluster.broker.listeners(subject) == 0);
    eventually("nobody listens", nobody).await;
    scene.say("nobody listens").await;
    scene.is_told_to_sweep().await;
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_cannot_see_who_is_where_asks_for_a_sweep() {
    let mut scene = Scene::new().await;
    scene.a.store.fail(Call::Presence, StoreErrorKind::Unavailable);
    scene.say("to whom").await;
    let sent = Instant::now();
    scene.bob.hears("to whom").await;
    assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_the_router_has_no_room_for_is_a_failed_publish() {
    let mut scene = Scene::new().await;
    let held = scene.a.store.hold_before(Call::Presence);
    for number in 0..300 {
        scene.say(&format!("message {number}")).await;
    }
    scene.is_told_to_sweep().await;
    scene.bob.hears("message 299").await;
    drop(held);
    scene.say("end").await;
    scene.bob.hears("end").await;
    let conversation = scene.cluster.direct(scene.alice.user, scene.bob.user).await;
    assert_eq!(scene.bob.seqs(conversation), (1..=302).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_nobody_knows_the_end_of_is_swept_for() {
    let mut scene = Scene::new().await;
    scene.a.store.lose_answer(Call::Append);
    scene.alice.send_to("unknown", scene.bob.user, "perhaps");
    eventually("it was tried", || scene.a.store.calls(Call::Append) == 2).await;
    scene.a.store.away(Call::Append, true);
    let answered = |frames: &[ServerFrame]| frames.iter().any(|frame| matches!(frame, ServerFrame::Error { .. }));
    scene.alice.until("an answer", answered).await;
    let unavailable = |frame: &ServerFrame| matches!(frame, ServerFrame::Error { code: ErrorCode::Unavailable, .. });
    assert!(scene.alice.was_told(unavailable));
    scene.bob.hears("perhaps").await;
    scene.a.store.away(Call::Append, false);
    assert_eq!(scene.alice.sent("unknown", to(scene.bob.user), "perhaps").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_away_for_a_moment_is_waited_for_and_then_the_senders_are_told() {
    let mut scene = Scene::new().await;
    scene.a.store.away(Call::Append, true);
    let begun = Instant::now();
    scene.alice.send_to("short", scene.bob.user, "patience");
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.a.store.away(Call::Append, false);
    scene.bob.hears("patience").await;
    scene.a.store.away(Call::Append, true);
    let again = Instant::now();
    scene.alice.send_to("long", scene.bob.user, "no more");
    let told = |frame: &ServerFrame| matches!(frame, ServerFrame::Error { code: ErrorCode::Unavailable, .. });
    scene.alice.until("an error", |frames| frames.iter().any(told)).await;
    assert!(begun.elapsed() > Duration::from_secs(2) && again.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_log_that_went_back_sends_its_sessions_away() {
    let mut scene = Scene::new().await;
    let conversation = scene.cluster.direct(scene.alice.user, scene.bob.user).await;
    scene.b.core.repairs.swept(0).await;
    assert_eq!(scene.bob.outbox.closing(), None);
    // The failover lost what another node had committed and published.
    scene.b.core.timelines.feed(conversation, super::entry(conversation, 2), None);
    scene.b.core.repairs.swept(0).await;
    assert_eq!(scene.bob.outbox.closing(), Some(CloseReason::LogReset));
    assert_eq!(scene.b.core.timelines.position(conversation), None);
    let mut again = Client::login_since(&scene.b, scene.bob.user, [(conversation, 1)]).await;
    scene.say("another second").await;
    again.hears("another second").await;
    assert_eq!(again.seqs(conversation), [2]);
}

#[tokio::test]
async fn a_commit_between_the_two_looks_of_a_sweep_is_no_log_that_went_back() {
    let mut scene = Scene::new().await;
    let held = scene.b.store.hold_after(Call::Changes);
    scene.b.core.repairs.sweep(0);
    held.reached().await;
    scene.say("meanwhile").await;
    scene.bob.hears("meanwhile").await;
    drop(held);
    scene.b.core.repairs.swept(0).await;
    assert_eq!(scene.bob.outbox.closing(), None);
}

#[tokio::test(start_paused = true)]
async fn repairs_that_fail_are_wanted_again() {
    let mut scene = Scene::new().await;
    let carol = scene.cluster.user("carol").await;
    let mut carol = Client::login(&scene.b, carol).await;
    scene.b.store.fail(Call::MembershipsIn, StoreErrorKind::Unavailable);
    scene.alice.sent("carol", to(carol.user), "a new one").await;
    carol.hears("a new one").await;
    scene.b.store.fail(Call::Messages, StoreErrorKind::Unavailable);
    scene.cluster.lose_next();
    scene.say("lost").await;
    scene.say("next").await;
    scene.bob.hears("next").await;
    scene.b.store.fail(Call::Changes, StoreErrorKind::Unavailable);
    scene.b.core.repairs.swept(0).await;
}

#[tokio::test(start_paused = true)]
async fn an_audit_that_fails_is_made_up_for() {
    let mut scene = Scene::new().await;
    let started = Instant::now();
    scene.cluster.lose_next();
    scene.say("lost").await;
    scene.b.store.fail(Call::ConversationsOf, StoreErrorKind::Unavailable);
    let conversation = scene.cluster.direct(scene.alice.user, scene.bob.user).await;
    while scene.b.core.timelines.position(conversation) != Some(2) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(started.elapsed() < Duration::from_secs(32), "the next audit is half a minute away");
    }
}

#[tokio::test(start_paused = true)]
async fn an_envelope_that_cannot_be_read_starts_a_sweep() {
    let scene = Scene::new().await;
    let before = scene.b.store.calls(Call::Changes);
    let subject = scene.b.core.inbox_of(&scene.b.core.node);
    let payload = bytes::Bytes::from_static(b"\x09nonsense");
    scene.a.core.bus.publish(vec![crate::bus::Outgoing { subject, payload }]).await;
    eventually("a sweep", || scene.b.store.calls(Call::Changes) > before).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_its_bus_looks_into_the_log_whatever_the_others_say() {
    let cluster = Cluster::routed(ROUTING).await;
    let b = cluster.node("node-b").await;
    b.hears().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let conversation = cluster.direct(alice, bob).await;
    let mut bob = Client::login(&b, bob).await;
    cluster.broker.refuse(true);
    cluster.broker.disconnect();
    bob.until("degraded", |frames| frames.iter().any(degraded)).await;
    cluster.write(conversation, alice, MessageKind::Text, "unheard").await;
    let written = Instant::now();
    bob.hears("unheard").await;
    assert!(written.elapsed() <= Duration::from_secs(1), "{:?}", written.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_nobody_knows_the_end_of_reaches_the_sessions_beside_its_sender_too() {
    let cluster = Cluster::routed(ROUTING).await;
    let a = cluster.node("node-a").await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let (mut alice, mut bob) = (Client::login(&a, alice).await, Client::login(&a, bob).await);
    alice.sent("hello", to(bob.user), "hello").await;
    bob.hears("hello").await;
    a.hears().await;
    a.core.repairs.swept(0).await;
    a.store.lose_answer(Call::Append);
    alice.send_to("unknown", bob.user, "perhaps");
    eventually("it was tried", || a.store.calls(Call::Append) == 2).await;
    a.store.away(Call::Append, true);
    bob.hears("perhaps").await;
}

#[tokio::test(start_paused = true)]
async fn restored_is_said_only_after_everything_was_fetched_however_much_it_is() {
    let mut scene = Scene::new().await;
    let conversation = scene.cluster.direct(scene.alice.user, scene.bob.user).await;
    scene.bus_lost();
    scene.bob.until("degraded", |frames| frames.iter().any(degraded)).await;
    // One sweep has seen nothing of it, and the next is the one that counts.
    let under_way = scene.b.store.hold_after(Call::Changes);
    under_way.reached().await;
    let sweep = scene.b.store.hold_before(Call::Changes);
    for _ in 0..600 {
        scene.cluster.write(conversation, scene.alice.user, MessageKind::Text, "much").await;
    }
    scene.cluster.broker.refuse(false);
    scene.b.hears().await;
    drop(under_way);
    sweep.reached().await;
    drop(sweep);
    scene.bob.until("restored", |frames| frames.iter().any(restored)).await;
    let told = scene.bob.frames.iter().position(restored).unwrap();
    let heard = |frame: &&ServerFrame| matches!(frame, ServerFrame::Message(m) if m.body == "much");
    assert_eq!(scene.bob.frames[..told].iter().filter(heard).count(), 600);
}
