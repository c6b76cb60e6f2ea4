//! A subject per user and per group: when it is subscribed, for how long, and what becomes of those who depend on it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{ROUTING, entry};
use crate::bus::memory::Operation;
use crate::bus::{Outgoing, Routing};
use crate::model::{ConversationId, MessageKind, UserId};
use crate::protocol::{SendTarget, ServerFrame};
use crate::server::flow::Address;
use crate::server::flow::envelope::{Delivery, Packet, Recipients};
use crate::server::scene::{Call, Client, Cluster, Held, Host, PATIENCE, eventually};
use crate::server::service::{group_join, group_leave};

/// As long as a subject lingers, and a moment.
const LINGER: Duration = Duration::from_millis(10_100);

fn to(user: UserId) -> SendTarget {
    SendTarget::User { to: user }
}

fn at(conversation: ConversationId) -> SendTarget {
    SendTarget::Conversation { conversation }
}

/// Counts the nodes that hear a subject.
fn listeners(cluster: &Cluster, host: &Host, address: Address) -> usize {
    cluster.broker.listeners(&host.core.subject_of(address))
}

/// Notes the subjects of everything that is published from now on, without what stands before the address.
fn overhear(cluster: &Cluster) -> Arc<Mutex<Vec<String>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    cluster.broker.drop_if(move |outgoing| {
        let address = outgoing.subject.as_str().splitn(3, '.').nth(2).unwrap_or_default().to_owned();
        hears.lock().unwrap().push(address);
        false
    });
    heard
}

/// Keeps a node from looking at the node table, and with that from sweeping by itself; what was wanted is done.
async fn no_looks(host: &Host) -> Vec<Held> {
    // Each is given up after a while.
    let held: Vec<Held> = (0..20).map(|_| host.store.hold_before(Call::Nodes)).collect();
    held[0].reached().await;
    host.core.repairs.swept(host.core.lease.database_now()).await;
    held
}

#[tokio::test]
async fn what_is_said_between_two_goes_to_each_who_is_elsewhere_and_nowhere_else() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob, carol] = cluster.users(["alice", "bob", "carol"]).await;
    let mut sender = Client::login(&a, alice).await;
    let mut carol = Client::login(&a, carol).await;
    let published = overhear(&cluster);
    let looked = a.store.hold_after(Call::Presence);
    sender.sent("1", to(carol.user), "here").await;
    carol.hears("here").await;
    looked.reached().await;
    drop(looked);
    let mut device = Client::login(&b, alice).await;
    let mut others = [Client::login(&a, bob).await, Client::login(&b, bob).await];
    sender.sent("2", to(bob), "there").await;
    for client in others.iter_mut().chain([&mut device]) {
        client.hears("there").await;
    }
    let mut published = published.lock().unwrap();
    published.sort_unstable();
    let mut expected = [alice, bob].map(|user| format!("u.{user}"));
    expected.sort_unstable();
    assert_eq!(*published, expected);
}

#[tokio::test]
async fn what_is_said_in_a_group_goes_out_once_for_all_nodes() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let c = cluster.node("node-c").await;
    c.hears().await;
    let members = cluster.users(["alice", "bob", "carol", "dave"]).await;
    let group = cluster.group(&members).await;
    let mut alice = Client::login(&a, members[0]).await;
    let mut others =
        [Client::login(&b, members[1]).await, Client::login(&b, members[2]).await, Client::login(&c, members[3]).await];
    assert_eq!(listeners(&cluster, &a, Address::Group(group)), 3);
    let published = overhear(&cluster);
    alice.sent("1", at(group), "all").await;
    for other in &mut others {
        other.hears("all").await;
    }
    assert_eq!(*published.lock().unwrap(), [format!("g.{group}")]);
}

#[tokio::test]
async fn a_node_leaves_alone_what_it_hears_of_itself() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let group = cluster.group(&[alice, bob]).await;
    let _clients = [Client::login(&a, alice).await, Client::login(&b, bob).await];
    let position = |host: &Host| host.core.timelines.position(group);
    let before = position(&a).unwrap();
    assert_eq!(position(&b), Some(before));
    let delivery = Delivery { conversation: group, entry: entry(group, before + 1), to: Recipients::Listeners };
    let packet = Packet::Messages(vec![delivery]);
    let (subject, own) = (a.core.subject_of(Address::Group(group)), a.core.origin());
    let publish = |payload| a.core.bus.publish(vec![Outgoing { subject: subject.clone(), payload }]);
    publish(packet.encode(&own)).await;
    eventually("the other node hears it", || position(&b) == Some(before + 1)).await;
    // Another process had the node's name before, and what it has said is news.
    let mut earlier = own.clone();
    earlier.epoch -= 1;
    assert_eq!(position(&a), Some(before));
    publish(packet.encode(&earlier)).await;
    eventually("it hears its predecessor", || position(&a) == Some(before + 1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_only_its_own_node_hears_is_a_failed_publish() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let group = cluster.group(&[alice, bob]).await;
    let mut alice = Client::login(&a, alice).await;
    let _bob = Client::login(&b, bob).await;
    assert_eq!(listeners(&cluster, &a, Address::Group(group)), 2);
    b.crash();
    eventually("one is left", || listeners(&cluster, &a, Address::Group(group)) == 1).await;
    assert_eq!(a.core.router.dirty_since(a.core.lease.database_now()), None);
    alice.sent("1", at(group), "nobody listens").await;
    eventually("the failure", || a.core.router.dirty_since(a.core.lease.database_now()).is_some()).await;
}

#[tokio::test(start_paused = true)]
async fn a_subject_lingers_when_the_last_session_has_gone_and_a_login_cancels_its_end() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let group = cluster.group(&[alice, bob]).await;
    let mut alice = Client::login(&a, alice).await;
    let subjects = [Address::User(bob), Address::Group(group)];
    let heard = || subjects.map(|address| listeners(&cluster, &b, address) - usize::from(address != subjects[0]));
    let first = Client::login(&b, bob).await;
    let second = Client::login(&b, bob).await;
    drop(first);
    sleep(LINGER * 2).await;
    assert_eq!(heard(), [1, 1], "another session needs them");
    drop(second);
    sleep(LINGER - Duration::from_secs(1)).await;
    let mut back = Client::login(&b, bob).await;
    sleep(LINGER * 2).await;
    assert_eq!(heard(), [1, 1], "who is back needs them");
    alice.sent("1", to(bob), "still there?").await;
    back.hears("still there?").await;
    drop(back);
    sleep(LINGER - Duration::from_secs(1)).await;
    assert_eq!(heard(), [1, 1]);
    sleep(Duration::from_secs(2)).await;
    eventually("they are let go", || heard() == [0, 0]).await;
    assert!(!b.core.subscriptions.hears(subjects[0]) && !b.core.subscriptions.hears(subjects[1]));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_meets_the_end_of_a_subject_is_heard_in_the_end() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let mut alice = Client::login(&a, alice).await;
    drop(Client::login(&b, bob).await);
    sleep(LINGER - Duration::from_secs(1)).await;
    cluster.broker.stall(Operation::Subscribe);
    // The end is on its way to the broker.
    sleep(Duration::from_secs(2)).await;
    assert!(!b.core.subscriptions.hears(Address::User(bob)));
    let login = Client::new(&b, bob).begin_login();
    eventually("the login holds it", || b.core.subscriptions.hears(Address::User(bob))).await;
    cluster.broker.resume();
    let mut bob = login.await.unwrap();
    assert_eq!(listeners(&cluster, &b, Address::User(bob.user)), 1);
    let looks = no_looks(&b).await;
    alice.sent("1", to(bob.user), "there you are").await;
    bob.hears("there you are").await;
    drop(looks);
}

#[tokio::test(start_paused = true)]
async fn a_second_session_waits_for_the_barrier_of_the_first() {
    let cluster = Cluster::routed(ROUTING).await;
    let (_a, b) = cluster.pair().await;
    let bob = cluster.user("bob").await;
    cluster.broker.stall(Operation::Subscribe);
    let first = Client::new(&b, bob).begin_login();
    eventually("it is on its way", || b.core.subscriptions.hears(Address::User(bob))).await;
    let second = Client::new(&b, bob).begin_login();
    eventually("both are there", || b.core.locals.count() == 2).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(b.store.calls(Call::ConversationsOf), 0, "neither reads before the node hears the user");
    cluster.broker.resume();
    for login in [first, second] {
        login.await.unwrap();
    }
    assert_eq!(listeners(&cluster, &b, Address::User(bob)), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_answer_delays_a_login_by_a_second_and_no_more() {
    let cluster = Cluster::routed(ROUTING).await;
    let (_a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let groups = [cluster.group(&[alice, bob]).await, cluster.group(&[bob]).await];
    cluster.broker.stall(Operation::Subscribe);
    let begun = Instant::now();
    let _bob = Client::login(&b, bob).await;
    let took = begun.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_millis(1_300)).contains(&took), "{took:?}");
    cluster.broker.resume();
    let addresses = [Address::User(bob), Address::Group(groups[0]), Address::Group(groups[1])];
    // What it did not wait for comes all the same.
    for address in addresses {
        eventually("it lands", || listeners(&cluster, &b, address) == 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_whose_barrier_is_awaited_get_everything_through_the_log_in_time() {
    let cluster = Cluster::routed(ROUTING).await;
    let (_a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let conversation = cluster.direct(alice, bob).await;
    cluster.broker.stall(Operation::Subscribe);
    let mut bob = Client::login(&b, bob).await;
    for number in 0..3 {
        // Not even a peer says that anything went wrong.
        let body = format!("message {number}");
        cluster.write(conversation, alice, MessageKind::Text, &body).await;
        let written = Instant::now();
        bob.hears(&body).await;
        assert!(written.elapsed() < Duration::from_secs(1), "{:?}", written.elapsed());
    }
    assert!(b.core.subscriptions.uncovered());
}

#[tokio::test(start_paused = true)]
async fn a_login_reads_nothing_of_a_group_before_the_node_hears_it() {
    let cluster = Cluster::routed(ROUTING).await;
    let (_a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    // The user is heard already.
    let _device = Client::login(&b, bob).await;
    let group = cluster.group(&[alice, bob]).await;
    let reads = b.store.calls(Call::Memberships);
    cluster.broker.stall(Operation::Subscribe);
    let login = Client::new(&b, bob).begin_login();
    eventually("it is on its way", || b.core.subscriptions.hears(Address::Group(group))).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!(b.store.calls(Call::Memberships), reads);
    cluster.broker.resume();
    login.await.unwrap();
    assert_eq!(listeners(&cluster, &b, Address::Group(group)), 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_nobody_here_listens_to_any_more_costs_no_look_into_the_log() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let c = cluster.node("node-c").await;
    c.hears().await;
    let [alice, bob, carol] = cluster.users(["alice", "bob", "carol"]).await;
    let group = cluster.group(&[alice, bob, carol]).await;
    let mut alice = Client::login(&a, alice).await;
    let mut carol = Client::login(&c, carol).await;
    // Somebody else is here, who could be a member.
    let mut other = Client::login(&b, cluster.user("dave").await).await;
    alice.sent("0", to(other.user), "hello").await;
    other.hears("hello").await;
    drop(Client::login(&b, bob).await);
    eventually("nobody is", || b.core.timelines.position(group).is_none()).await;
    assert_eq!(listeners(&cluster, &b, Address::Group(group)), 3, "its subject lingers");
    let looks = b.store.calls(Call::MembershipsIn);
    alice.sent("1", at(group), "to those who are there").await;
    carol.hears("to those who are there").await;
    // It has heard that when it hears this.
    alice.sent("2", to(other.user), "end").await;
    other.hears("end").await;
    assert_eq!(b.store.calls(Call::MembershipsIn), looks);
}

#[tokio::test(start_paused = true)]
async fn one_more_sweep_follows_a_barrier_that_was_not_waited_for() {
    let cluster = Cluster::routed(ROUTING).await;
    let (_a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let conversation = cluster.direct(alice, bob).await;
    cluster.broker.stall(Operation::Subscribe);
    let mut bob = Client::login(&b, bob).await;
    let begun = Instant::now();
    let looks = no_looks(&b).await;
    cluster.write(conversation, alice, MessageKind::Text, "a moment before").await;
    cluster.broker.resume();
    eventually("it lands", || !b.core.subscriptions.uncovered()).await;
    bob.hears("a moment before").await;
    assert!(begun.elapsed() < Duration::from_secs(10), "an audit found it: {:?}", begun.elapsed());
    drop(looks);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_gave_the_barrier_up_and_reads_slowly_misses_nothing() {
    let cluster = Cluster::routed(ROUTING).await;
    let (_a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let conversation = cluster.direct(alice, bob).await;
    cluster.broker.stall(Operation::Subscribe);
    // It has read where the conversation stands, and its timeline does not know yet.
    let read = b.store.hold_after(Call::Memberships);
    let login = Client::new(&b, bob).begin_login();
    read.reached().await;
    let looks = no_looks(&b).await;
    cluster.write(conversation, alice, MessageKind::Text, "between").await;
    cluster.broker.resume();
    eventually("it lands", || !b.core.subscriptions.uncovered()).await;
    b.core.repairs.swept(b.core.lease.database_now()).await;
    drop(read);
    let begun = Instant::now();
    let mut bob = login.await.unwrap();
    bob.hears("between").await;
    assert!(begun.elapsed() < Duration::from_secs(10), "an audit found it: {:?}", begun.elapsed());
    drop(looks);
}

#[tokio::test(start_paused = true)]
async fn a_subject_that_the_broker_refuses_holds_nobody_up_and_is_asked_for_again() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let conversation = cluster.direct(alice, bob).await;
    let mut alice = Client::login(&a, alice).await;
    let refused = b.core.subject_of(Address::User(bob));
    cluster.broker.reject_if(move |subject| *subject == refused);
    let begun = Instant::now();
    let mut bob = Client::login(&b, bob).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(listeners(&cluster, &b, Address::User(bob.user)), 0);
    cluster.write(conversation, alice.user, MessageKind::Text, "refused").await;
    let written = Instant::now();
    bob.hears("refused").await;
    assert!(written.elapsed() < Duration::from_secs(1), "{:?}", written.elapsed());
    cluster.broker.reject_if(|_| false);
    sleep(Duration::from_millis(1_100)).await;
    assert!(!b.core.subscriptions.uncovered());
    let looks = no_looks(&b).await;
    alice.sent("1", to(bob.user), "heard").await;
    bob.hears("heard").await;
    drop(looks);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_that_all_is_well_before_every_subject_is_heard_again() {
    let cluster = Cluster::routed(ROUTING).await;
    let (_a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let conversation = cluster.direct(alice, bob).await;
    let mut bob = Client::login(&b, bob).await;
    cluster.broker.refuse(true);
    cluster.broker.disconnect();
    let degraded = |frame: &ServerFrame| matches!(frame, ServerFrame::Degraded { .. });
    let restored = |frame: &ServerFrame| matches!(frame, ServerFrame::Restored {});
    bob.until("degraded", |frames| frames.iter().any(degraded)).await;
    cluster.broker.stall(Operation::Subscribe);
    cluster.broker.refuse(false);
    sleep(Duration::from_secs(3)).await;
    bob.take();
    assert!(!bob.was_told(restored) && !b.core.health.bus_ok(), "it is connected and hears nothing yet");
    let sweep = b.store.hold_before(Call::Changes);
    sweep.reached().await;
    cluster.write(conversation, alice, MessageKind::Text, "meanwhile").await;
    cluster.broker.resume();
    b.hears().await;
    assert_eq!(listeners(&cluster, &b, Address::User(bob.user)), 1);
    drop(sweep);
    bob.until("restored", |frames| frames.iter().any(restored)).await;
    let heard = |frame: &ServerFrame| matches!(frame, ServerFrame::Message(message) if message.body == "meanwhile");
    assert!(bob.frames.iter().position(heard) < bob.frames.iter().position(restored), "{:?}", bob.frames);
    assert!(bob.was_told(heard));
}

#[tokio::test(start_paused = true)]
async fn a_device_on_a_node_without_the_group_follows_a_join_by_its_users_subject() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let group = cluster.group(&[alice]).await;
    let mut alice = Client::login(&a, alice).await;
    let joins = Client::login(&a, bob).await;
    let mut device = Client::login(&b, bob).await;
    assert_eq!(listeners(&cluster, &b, Address::Group(group)), 1, "the other node only");
    let (published, looks) = (overhear(&cluster), no_looks(&b).await);
    let session = Arc::clone(joins.member.as_ref().unwrap().session());
    group_join(&a.core, &session, None, group).await.unwrap();
    eventually("both nodes hear it", || listeners(&cluster, &b, Address::Group(group)) == 2).await;
    assert!(published.lock().unwrap().contains(&format!("u.{bob}")));
    let sweeps = b.store.calls(Call::Changes);
    alice.sent("1", at(group), "welcome").await;
    device.hears("welcome").await;
    assert_eq!(device.seqs(group), [2], "what comes after the join");
    assert_eq!(b.store.calls(Call::Changes), sweeps, "it came through the bus");
    assert_eq!(a.core.router.dirty_since(a.core.lease.database_now()), None, "nothing has failed");
    drop(looks);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_before_the_barrier_of_a_joined_group_lands_is_read_from_the_log() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let group = cluster.group(&[alice]).await;
    let joins = Client::login(&a, bob).await;
    let mut device = Client::login(&b, bob).await;
    let looks = no_looks(&b).await;
    cluster.broker.stall(Operation::Subscribe);
    let session = Arc::clone(joins.member.as_ref().unwrap().session());
    group_join(&a.core, &session, None, group).await.unwrap();
    let begun = Instant::now();
    let told = |frame: &ServerFrame| matches!(frame, ServerFrame::Conversation(view) if view.conversation == group);
    device.until("the conversation", |frames| frames.iter().any(told)).await;
    cluster.write(group, alice, MessageKind::Text, "read while it catches up").await;
    device.hears("read while it catches up").await;
    sleep(Duration::from_millis(10)).await;
    b.core.repairs.swept(b.core.lease.database_now()).await;
    cluster.write(group, alice, MessageKind::Text, "welcome").await;
    cluster.broker.resume();
    device.hears("welcome").await;
    assert!(begun.elapsed() < Duration::from_secs(10), "an audit found it: {:?}", begun.elapsed());
    drop(looks);
}

#[tokio::test(start_paused = true)]
async fn the_last_member_who_leaves_takes_the_groups_subject_along() {
    let cluster = Cluster::routed(ROUTING).await;
    let (a, b) = cluster.pair().await;
    let [alice, bob, carol] = cluster.users(["alice", "bob", "carol"]).await;
    let group = cluster.group(&[alice, bob, carol]).await;
    let mut alice = Client::login(&a, alice).await;
    let leaves = [Client::login(&a, bob).await, Client::login(&a, carol).await];
    let mut devices = [Client::login(&b, bob).await, Client::login(&b, carol).await];
    for (last, (leaves, device)) in leaves.iter().zip(&mut devices).enumerate() {
        let session = Arc::clone(leaves.member.as_ref().unwrap().session());
        let looks = no_looks(&b).await;
        group_leave(&a.core, &session, None, group).await.unwrap();
        let left = |frame: &ServerFrame| {
            matches!(frame, ServerFrame::Message(message)
                if message.kind == MessageKind::Leave && message.from == leaves.user && message.conversation == group)
        };
        device.until("the leave", |frames| frames.iter().any(left)).await;
        drop(looks);
        sleep(LINGER).await;
        assert_eq!(listeners(&cluster, &b, Address::Group(group)), 2 - last);
    }
    alice.sent("1", at(group), "a secret").await;
    for device in &mut devices {
        alice.sent(&device.user.to_string(), to(device.user), "end").await;
        device.hears("end").await;
        assert!(!device.was_told(|frame| matches!(frame, ServerFrame::Message(message) if message.body == "a secret")));
    }
}

#[tokio::test(start_paused = true)]
async fn an_audit_that_repairs_something_subscribes_its_subject_anew() {
    for routing in [Routing::PerUser, Routing::PerNode] {
        let cluster = Cluster::routed(routing).await;
        let (a, b) = cluster.pair().await;
        let [alice, bob] = cluster.users(["alice", "bob"]).await;
        let (group, direct) = (cluster.group(&[alice, bob]).await, cluster.direct(alice, bob).await);
        let mut alice = Client::login(&a, alice).await;
        let mut bob = Client::login(&b, bob).await;
        let users = [(direct, Address::User(bob.user)), (group, Address::Group(group))];
        let nodes = [(direct, Address::Inbox), (group, Address::Inbox)];
        for (conversation, address) in if routing == Routing::PerUser { users } else { nodes } {
            let before = listeners(&cluster, &b, address);
            cluster.broker.forget(&b.core.subject_of(address));
            // Nobody has published it, so nobody knows that it was missed.
            cluster.write(conversation, alice.user, MessageKind::Text, &format!("lost in {conversation}")).await;
            sleep(Duration::from_secs(31)).await;
            bob.hears(&format!("lost in {conversation}")).await;
            // The group's other node has not noticed anything.
            let back = if conversation == group && routing == Routing::PerUser { before - 1 } else { before };
            let again = timeout(PATIENCE, async {
                while listeners(&cluster, &b, address) < back {
                    sleep(Duration::from_millis(10)).await;
                }
            });
            again.await.unwrap_or_else(|_| panic!("{address:?} is deaf"));
        }
        let looks = no_looks(&b).await;
        alice.sent("1", to(bob.user), "heard again").await;
        bob.hears("heard again").await;
        drop(looks);
    }
}

#[tokio::test]
async fn an_inbox_that_the_broker_refuses_is_asked_for_until_it_has_it() {
    let cluster = Cluster::routed(ROUTING).await;
    let a = cluster.node("node-a").await;
    a.hears().await;
    let inbox = a.core.subject_of(Address::Inbox);
    let refused = inbox.clone();
    cluster.broker.reject_if(move |subject| *subject == refused);
    cluster.broker.forget(&inbox);
    eventually("it is deaf", || !a.core.health.bus_ok()).await;
    assert!(a.core.bus.state().borrow().is_connected());
    assert_eq!(cluster.broker.listeners(&inbox), 0);
    cluster.broker.reject_if(|_| false);
    eventually("it hears again", || a.core.health.bus_ok()).await;
}

#[tokio::test]
async fn a_renewal_waits_for_everything_but_what_the_broker_refuses() {
    let cluster = Cluster::routed(ROUTING).await;
    let a = cluster.node("node-a").await;
    a.hears().await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let _alice = Client::login(&a, alice).await;
    let refused = a.core.subject_of(Address::User(bob));
    cluster.broker.reject_if(move |subject| *subject == refused);
    let _bob = Client::login(&a, bob).await;
    let (inbox, user) = (a.core.subject_of(Address::Inbox), a.core.subject_of(Address::User(alice)));
    cluster.broker.forget(&inbox);
    cluster.broker.forget(&user);
    cluster.broker.stall(Operation::Subscribe);
    let mut renewal = std::pin::pin!(a.core.subscriptions.renew_all(a.core.lease.database_now()));
    assert!(timeout(Duration::from_millis(300), &mut renewal).await.is_err(), "the broker has not answered");
    assert!(a.core.subscriptions.uncovered());
    cluster.broker.resume();
    timeout(PATIENCE, renewal).await.expect("what is refused is not waited for");
    assert_eq!([cluster.broker.listeners(&inbox), cluster.broker.listeners(&user)], [1, 1]);
}
