//! A node among others: what it does about those that fail, and what is done about it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::lease::LEASE_MS;
use super::{release, run_retention};
use crate::model::store::{Beat, Claim, Claimed, NodeState, PresenceChange, Range};
use crate::model::{ConversationId, MessageKind, Millis, NodeId};
use crate::protocol::{SendTarget, ServerFrame};
use crate::server::scene::{Call, Client, Cluster, Host, eventually};

/// A node that is only a row, beside a real one with a user who is in a conversation.
struct Scene {
    cluster: Cluster,
    b: Host,
    bob: Client,
    alice: crate::model::UserId,
    conversation: ConversationId,
    row: NodeId,
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::new().await;
        let b = cluster.node("node-b").await;
        let [alice, bob] = cluster.users(["alice", "bob"]).await;
        let conversation = cluster.direct(alice, bob).await;
        let bob = Client::login(&b, bob).await;
        let scene = Self { cluster, b, bob, alice, conversation, row: NodeId::new("node-z").unwrap() };
        scene.claim().await;
        scene.beat(1, true, None).await;
        eventually("its peer sees it", || scene.b.core.lease.live_peers().contains(&scene.row)).await;
        scene
    }

    async fn claim(&self) {
        let claim = Claim {
            node: self.row.clone(),
            holder: "elsewhere".to_owned(),
            tcp: "127.0.0.1:1".to_owned(),
            http: "127.0.0.1:2".to_owned(),
            weight: 1,
            lease_ms: 1_000,
            take_over: true,
        };
        assert!(matches!(self.cluster.log.node_claim(&claim).await.unwrap(), Claimed::Ours { .. }));
    }

    async fn beat(&self, epoch: u64, bus_ok: bool, dirty_since: Option<Millis>) {
        self.beat_for(60_000, epoch, bus_ok, dirty_since).await;
    }

    async fn beat_for(&self, lease_ms: u32, epoch: u64, bus_ok: bool, dirty_since: Option<Millis>) {
        let beat = Beat {
            node: self.row.clone(),
            epoch,
            state: NodeState::Ready,
            bus_ok,
            heard: false,
            dirty_since,
            sessions: 0,
            lease_ms,
        };
        self.cluster.log.node_beat(&beat).await.unwrap();
    }

    /// Waits until the node has read the table once more and done what follows from it.
    async fn looked(&self) {
        let looks = self.b.store.calls(Call::Nodes);
        eventually("a look", || self.b.store.calls(Call::Nodes) > looks + 1).await;
        self.b.core.repairs.swept(self.b.core.lease.database_now()).await;
    }

    /// Commits on the row's node a message that it does not publish, and holds the eyes of the other until then.
    async fn last_words(&self) {
        self.cluster.write(self.conversation, self.alice, MessageKind::Text, "last words").await;
    }
}

#[tokio::test]
async fn what_a_node_committed_before_its_lease_ran_out_is_swept_for() {
    let mut scene = Scene::new().await;
    scene.looked().await;
    let looks = scene.b.store.hold_before(Call::Nodes);
    looks.reached().await;
    scene.last_words().await;
    scene.beat_for(1, 1, true, None).await;
    let beaten = scene.cluster.log.now().await.unwrap();
    while scene.cluster.log.now().await.unwrap() <= beaten + 1 {}
    drop(looks);
    scene.bob.hears("last words").await;
    let (_, rows) = scene.cluster.log.nodes().await.unwrap();
    let row = rows.iter().find(|row| row.node == scene.row).unwrap();
    assert_eq!((row.state, row.epoch), (NodeState::Expired, 2));
}

#[tokio::test]
async fn what_a_node_committed_before_it_was_taken_over_is_swept_for() {
    let mut scene = Scene::new().await;
    scene.looked().await;
    let looks = scene.b.store.hold_before(Call::Nodes);
    looks.reached().await;
    scene.last_words().await;
    scene.claim().await;
    scene.beat(2, true, None).await;
    drop(looks);
    scene.bob.hears("last words").await;
}

#[tokio::test]
async fn what_a_node_says_it_could_not_publish_is_swept_for() {
    let mut scene = Scene::new().await;
    scene.looked().await;
    let looks = scene.b.store.hold_before(Call::Nodes);
    looks.reached().await;
    scene.last_words().await;
    scene.beat(1, true, Some(scene.b.core.lease.database_now() - 1_000)).await;
    drop(looks);
    scene.bob.hears("last words").await;
}

#[tokio::test]
async fn what_fails_while_a_row_still_tells_of_an_earlier_failure_is_swept_for() {
    let mut scene = Scene::new().await;
    scene.beat(1, true, Some(scene.b.core.lease.database_now() - 1_000)).await;
    scene.looked().await;
    scene.last_words().await;
    scene.bob.hears("last words").await;
}

#[tokio::test]
async fn messages_of_a_node_without_its_bus_are_swept_for() {
    let mut scene = Scene::new().await;
    scene.looked().await;
    scene.beat(1, false, None).await;
    scene.looked().await;
    scene.last_words().await;
    scene.bob.hears("last words").await;
}

#[tokio::test]
async fn a_node_that_stops_says_what_it_could_not_publish() {
    let mut scene = Scene::new().await;
    let a = scene.cluster.node("node-a").await;
    eventually("they see each other", || scene.b.core.lease.live_peers().contains(&a.core.node)).await;
    // Its last publish fails when its lease is not looked after any more.
    a.crash();
    scene.looked().await;
    let looks = scene.b.store.hold_before(Call::Nodes);
    looks.reached().await;
    scene.last_words().await;
    a.core.router.failed(&a.core, a.core.lease.database_now(), "for the test");
    release(&a.core).await.unwrap();
    drop(looks);
    scene.bob.hears("last words").await;
}

#[tokio::test]
async fn a_node_that_owes_nothing_is_not_swept_for_when_it_stops() {
    let scene = Scene::new().await;
    scene.looked().await;
    let sweeps = scene.b.store.calls(Call::Changes);
    scene.cluster.log.node_release(&scene.row, 1).await.unwrap();
    eventually("its peer sees it", || scene.b.core.lease.live_peers().is_empty()).await;
    assert_eq!(scene.b.store.calls(Call::Changes), sweeps);
}

#[tokio::test]
async fn a_fenced_node_sweeps_behind_its_new_presence() {
    let cluster = Cluster::new().await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let (mut alice, mut bob) = (Client::login(&a, alice).await, Client::login(&b, bob).await);
    let to_bob = || SendTarget::User { to: bob.user };
    alice.sent("1", to_bob(), "hello").await;
    let held = b.store.hold_before(Call::PresenceChange);
    let (epoch, target) = (b.core.lease.epoch(), to_bob());
    b.fence(&cluster).await;
    held.reached().await;
    assert_eq!(b.core.lease.epoch(), epoch + 1);
    // The sweep that a new epoch begins with is over, and still no sender can see bob.
    b.core.repairs.swept(b.core.lease.database_now()).await;
    alice.sent("2", target, "unseen").await;
    eventually("its sender has looked", || a.store.calls(Call::Presence) >= 2).await;
    drop(held);
    bob.hears("unseen").await;
    alice.sent("3", target, "seen").await;
    bob.hears("seen").await;
}

#[tokio::test(start_paused = true)]
async fn friends_hear_within_ten_seconds_of_its_last_beat_that_the_users_of_a_crashed_node_have_gone() {
    let mut scene = Scene::new().await;
    let (log, bob) = (Arc::clone(&scene.cluster.log), scene.bob.user);
    log.friend_add(scene.alice, bob).await.unwrap();
    log.friend_add(bob, scene.alice).await.unwrap();
    let come = [PresenceChange { user: scene.alice, here: true }];
    assert!(log.presence_change(&scene.row, 1, &come).await.unwrap());
    // The lease is by the log's clock, which does not run ahead with this test's.
    scene.beat_for(1, 1, true, None).await;
    let beaten = log.now().await.unwrap();
    while log.now().await.unwrap() <= beaten + 1 {}
    let (lapsed, alice) = (Instant::now(), scene.alice);
    let gone = |frame: &ServerFrame| matches!(frame, ServerFrame::Presence { user, online: false } if *user == alice);
    scene.bob.until("that she has gone", |frames| frames.iter().any(gone)).await;
    let lease = Duration::from_millis(LEASE_MS.into());
    assert!(lease + lapsed.elapsed() <= Duration::from_secs(10), "{:?} behind the end of the lease", lapsed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn friends_are_told_who_has_gone_before_a_node_that_drains_has_nobody_left_to_tell_them() {
    let cluster = Cluster::new().await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    cluster.log.friend_add(alice, bob).await.unwrap();
    cluster.log.friend_add(bob, alice).await.unwrap();
    let (user, alice, mut bob) = (alice, Client::login(&a, alice).await, Client::login(&b, bob).await);
    a.core.presence.written().await;
    drop(alice);
    a.core.presence.written().await;
    assert_eq!(cluster.log.online(&[user]).await.unwrap(), []);
    a.core.announcer.told().await;
    // Nothing of the node but its router goes on.
    a.crash();
    let gone =
        |frame: &ServerFrame| matches!(frame, ServerFrame::Presence { user: who, online: false } if *who == user);
    bob.until("that she has gone", |frames| frames.iter().any(gone)).await;
}

/// Follows how long a node goes without some call while another one is never answered.
async fn longest_without(call: Call, unanswered: Call) -> Duration {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let _never: Vec<_> = (0..20).map(|_| a.store.hold_before(unanswered)).collect();
    let (mut last, mut longest) = ((a.store.calls(call), Instant::now()), Duration::ZERO);
    let end = Instant::now() + Duration::from_secs(40);
    while Instant::now() < end {
        sleep(Duration::from_millis(50)).await;
        let calls = a.store.calls(call);
        longest = longest.max(last.1.elapsed());
        if calls > last.0 {
            last = (calls, Instant::now());
        }
    }
    longest
}

#[tokio::test(start_paused = true)]
async fn a_log_that_answers_looks_slowly_does_not_delay_the_beats() {
    assert!(longest_without(Call::NodeBeat, Call::Nodes).await < Duration::from_millis(1_500));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_answers_beats_slowly_does_not_delay_the_looks() {
    assert!(longest_without(Call::Nodes, Call::NodeBeat).await < Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_published_stays_in_the_row_for_ten_seconds_after_it_was_written() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    a.crash();
    let router = &a.core.router;
    assert_eq!(router.dirty_since(1_000_000), None);
    router.failed(&a.core, 1_000_000, "for the test");
    let since = router.dirty_since(1_000_000);
    assert!(since.is_some_and(|since| since <= 1_000_000));
    assert_eq!(router.dirty_since(9_000_000), since, "no row has said so yet");
    router.dirty_told(2_000_000);
    assert_eq!(router.dirty_since(2_010_000), since);
    // Another failure begins the time anew, and what was first stays first.
    router.failed(&a.core, 2_010_000, "for the test");
    assert_eq!(router.dirty_since(2_020_000), since);
    router.dirty_told(2_020_000);
    assert_eq!(router.dirty_since(2_030_000), since);
    assert_eq!(router.dirty_since(2_030_001), None);
}

#[tokio::test]
async fn entries_that_are_too_old_go_and_the_conversation_goes_on() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let conversation = cluster.direct(alice, bob).await;
    for number in 0..700 {
        cluster.write(conversation, alice, MessageKind::Text, &format!("old {number}")).await;
    }
    let stop = CancellationToken::new();
    let retention = tokio::spawn(run_retention(Arc::clone(&a.core), Duration::from_millis(1), stop.clone()));
    let everything = [Range { conversation, after: 0, until: 1_000 }];
    let deadline = Instant::now() + Duration::from_secs(30);
    let left = loop {
        let left = cluster.log.messages(&everything, 1_000).await.unwrap();
        if left.len() == 1 {
            break left;
        }
        assert!(Instant::now() < deadline, "{} are left", left.len());
        sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(left[0].seq, 700);
    let mut bob = Client::login(&a, bob).await;
    let mut alice = Client::login(&a, alice).await;
    alice.sent("new", SendTarget::Conversation { conversation }, "new").await;
    bob.hears("old 699").await;
    bob.hears("new").await;
    stop.cancel();
    retention.await.unwrap();
}
