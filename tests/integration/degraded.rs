//! The broker is an accelerator, not the truth: without it, or with one that loses things, users keep chatting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use switchboard::bus::memory::Operation;
use switchboard::bus::{Outgoing, Routing};

use crate::harness::cluster::{Bus, Cluster, Settings, run};
use crate::harness::{ANY, DEADLINE, User, eventually, get, metric, on_each_bus};

on_each_bus! { crate::harness::cluster::Settings::default(), OwnRedis;
    users_keep_chatting_while_the_broker_is_away
    traffic_through_outages_is_neither_lost_nor_repeated_nor_reordered
}

mod from_the_start {
    use super::a_node_starts_without_its_broker;
    use crate::harness::on_each_bus;

    on_each_bus! { crate::harness::cluster::Settings { without_broker: true, ..Default::default() }, OwnRedis;
        a_node_starts_without_its_broker
    }
}

/// Says something each way and waits until it has arrived.
async fn converse(alice: &mut User, bob: &mut User, round: &str) {
    for number in 0..4 {
        let key = format!("{round} {number}");
        let there = alice.tell(bob.id, &key, "can you hear me?").await;
        let message = alice.message(there, &key, "can you hear me?");
        assert_eq!(bob.hear_past(&["conversation"], "message").await, message);
        let back = bob.tell(alice.id, &key, "loud and clear").await;
        let message = bob.message(back, &key, "loud and clear");
        assert_eq!(alice.hear_past(&["conversation"], "message").await, message);
        assert_eq!(back.seq, there.seq + 1);
    }
}

async fn readiness(cluster: &Cluster, node: usize) -> (u16, Value) {
    let (status, body) = get(cluster.http(node), "/readyz").await.expect("the node answers");
    (status, serde_json::from_str(&body).expect("JSON"))
}

async fn users_keep_chatting_while_the_broker_is_away(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    converse(&mut alice, &mut bob, "before").await;
    cluster.broker.cut();
    for user in [&mut alice, &mut bob] {
        let degraded = user.condition("degraded").await;
        assert_eq!(degraded.as_object().unwrap().len(), 2);
        assert!(degraded["since"].as_i64().unwrap() > 1_700_000_000_000);
    }
    converse(&mut alice, &mut bob, "without").await;
    // Whoever comes now is told at once, and finds everything working: logging in, new conversations, groups.
    let mut carol = User::new(cluster.tcp(1), "carol").await;
    carol.condition("degraded").await;
    converse(&mut alice, &mut carol, "to carol").await;
    let group = alice.found("in the dark").await;
    let joined = carol.join(group).await;
    alice.expect(carol.moved("join", group, joined)).await;
    let sent = alice.post(group, "in the group", "hello").await;
    carol.expect(alice.message(sent, "in the group", "hello")).await;
    for node in 0..2 {
        let expected = json!({"node": format!("node-{node}"), "state": "ready", "degraded": true});
        assert_eq!(readiness(cluster, node).await, (200, expected));
    }

    cluster.broker.heal().await;
    for user in [&mut alice, &mut bob, &mut carol] {
        assert_eq!(user.condition("restored").await, json!({"type": "restored"}));
    }
    converse(&mut alice, &mut bob, "after").await;
    converse(&mut carol, &mut alice, "carol after").await;
    for node in 0..2 {
        assert_eq!(readiness(cluster, node).await.1["degraded"], false);
    }
    User::new(cluster.tcp(0), "dave").await.quiet().await;
}

async fn traffic_through_outages_is_neither_lost_nor_repeated_nor_reordered(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    let bob_id = bob.id;
    let stop = Arc::new(AtomicBool::new(false));
    let speaking = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let mut last = 0;
            while !stop.load(Ordering::Acquire) {
                last = alice.tell(bob_id, &last.to_string(), "and on").await.seq;
            }
            (alice, last)
        }
    });
    let mut ear = Ear::default();
    for _ in 0..2 {
        ear.hear_messages(&mut bob, 20).await;
        cluster.broker.cut();
        ear.hear_condition(&mut bob, "degraded").await;
        ear.hear_messages(&mut bob, 20).await;
        cluster.broker.heal().await;
        ear.hear_condition(&mut bob, "restored").await;
    }
    ear.hear_messages(&mut bob, 20).await;
    stop.store(true, Ordering::Release);
    let (mut alice, last) = speaking.await.unwrap();
    ear.hear_messages(&mut bob, last - ear.seq).await;
    assert_eq!(ear.seq, last);
    let end = bob.tell(alice.id, "end", "enough").await;
    let message = bob.message(end, "end", "enough");
    assert_eq!(alice.hear_past(&["conversation"], "message").await, message);
}

/// Follows one conversation: every message comes once, and in order.
#[derive(Default)]
struct Ear {
    seq: u64,
    condition: Option<String>,
}

impl Ear {
    async fn hear(&mut self, user: &mut User) {
        let frame = user.hear_any().await.expect("the connection stays open");
        match frame["type"].as_str() {
            Some("message") => {
                assert_eq!(frame["seq"], self.seq + 1, "{frame}");
                self.seq += 1;
            }
            Some("conversation" | "cursor") => {}
            Some(condition @ ("degraded" | "restored")) => {
                assert_ne!(self.condition.as_deref(), Some(condition), "said twice");
                self.condition = Some(condition.to_owned());
            }
            _ => panic!("{frame}"),
        }
    }

    async fn hear_messages(&mut self, user: &mut User, count: u64) {
        let enough = self.seq + count;
        while self.seq < enough {
            self.hear(user).await;
        }
    }

    async fn hear_condition(&mut self, user: &mut User, condition: &str) {
        while self.condition.as_deref() != Some(condition) {
            self.hear(user).await;
        }
    }
}

async fn a_node_starts_without_its_broker(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    assert_eq!(readiness(cluster, 0).await.0, 200);
    converse(&mut alice, &mut bob, "without").await;
    // They may have been told in between, or are now.
    for user in [&mut alice, &mut bob] {
        user.condition("degraded").await;
    }
    cluster.broker.heal().await;
    for user in [&mut alice, &mut bob] {
        user.condition("restored").await;
    }
    converse(&mut alice, &mut bob, "with").await;
}

/// Runs a case in both routings at once.
async fn in_memory(case: impl AsyncFn(&mut Cluster)) {
    let routed = |routing| run(Bus::Memory, Settings { routing, ..Settings::default() }, &case);
    tokio::join!(routed(Routing::PerUser), routed(Routing::PerNode));
}

/// Tells whether a packet is what a node sends itself every second to hear whether it hears.
fn is_canary(outgoing: &Outgoing) -> bool {
    outgoing.payload[1] == 4
}

/// Loses the packets that a rule picks by their number, from 0, and counts all of them. The canaries that nodes send
/// themselves are none of them.
fn lose(cluster: &Cluster, rule: impl Fn(u64) -> bool + Send + 'static) -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&count);
    cluster
        .broker
        .in_memory()
        .drop_if(move |outgoing| !is_canary(outgoing) && rule(counting.fetch_add(1, Ordering::AcqRel)));
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_was_dropped_without_a_word_comes_with_the_next() {
    in_memory(async |cluster: &mut Cluster| {
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        let mut bob = User::new(cluster.tcp(1), "bob").await;
        converse(&mut alice, &mut bob, "before").await;
        for round in 0..5 {
            let (lost, next) = (format!("lost {round}"), format!("next {round}"));
            let packets = lose(cluster, |number| number == 0);
            let first = alice.tell(bob.id, &lost, "dropped").await;
            // Otherwise both could go in one packet.
            eventually("the packet is dropped", DEADLINE, || async { packets.load(Ordering::Acquire) == 1 }).await;
            let second = alice.tell(bob.id, &next, "passed on").await;
            bob.expect(alice.message(first, &lost, "dropped")).await;
            bob.expect(alice.message(second, &next, "passed on")).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_loses_every_second_packet_loses_no_message() {
    const EACH: u64 = 300;
    in_memory(async |cluster: &mut Cluster| {
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        let mut bob = User::new(cluster.tcp(1), "bob").await;
        let group = alice.found("lossy").await;
        bob.join(group).await;
        alice.hear_past(&[], "message").await;
        let packets = lose(cluster, |number| number % 2 == 0);
        let (mut heard_by_alice, mut heard_by_bob) = (vec![1], vec![]);
        tokio::join!(
            say_and_hear(&mut alice, group, "k", EACH, &mut heard_by_alice),
            say_and_hear(&mut bob, group, "k", EACH, &mut heard_by_bob)
        );
        assert!(packets.load(Ordering::Acquire) > 4, "enough has been lost");
        // What was lost last has no successor yet: now it has one.
        lose(cluster, |_| false);
        let last = 1 + 2 * EACH;
        say_and_hear(&mut alice, group, "end", 1, &mut heard_by_alice).await;
        hear_up_to(&mut bob, last + 1, &mut heard_by_bob).await;
        say_and_hear(&mut bob, group, "end", 1, &mut heard_by_bob).await;
        hear_up_to(&mut alice, last + 2, &mut heard_by_alice).await;
        assert_eq!(heard_by_bob.len() as u64, EACH + 1);
        assert_eq!(heard_by_alice.len() as u64, EACH + 2);
    })
    .await;
}

/// Says so much, one thing after the other, and notes what comes in between.
async fn say_and_hear(user: &mut User, group: u64, key: &str, count: u64, heard: &mut Vec<u64>) {
    for number in 0..count {
        user.say(json!({"type": "send", "key": format!("{key} {number}"), "conversation": group, "body": "x"})).await;
        loop {
            let frame = user.hear().await;
            if frame["type"] == "sent" {
                break;
            }
            note(&frame, heard);
        }
    }
}

async fn hear_up_to(user: &mut User, last: u64, heard: &mut Vec<u64>) {
    while heard.last().is_none_or(|seq| *seq < last) {
        let frame = user.hear().await;
        note(&frame, heard);
    }
}

fn note(frame: &Value, heard: &mut Vec<u64>) {
    let seq = frame["seq"].as_u64().unwrap();
    assert_eq!(frame["type"], "message");
    assert!(heard.last().is_none_or(|last| *last < seq), "{frame} after {heard:?}");
    heard.push(seq);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_message_of_a_conversation_is_found_by_the_audit_when_the_broker_drops_it() {
    in_memory(async |cluster: &mut Cluster| {
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        let mut bob = User::new(cluster.tcp(1), "bob").await;
        converse(&mut alice, &mut bob, "before").await;
        let repaired = "switchboard_audit_repaired_total";
        let before = metric(cluster.http(1), repaired).await;
        lose(cluster, |_| true);
        let lost = alice.tell(bob.id, "lost", "the last word").await;
        // An audit comes every 30 s.
        bob.expect(alice.message(lost, "lost", "the last word")).await;
        assert!(metric(cluster.http(1), repaired).await > before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broker_accepts_late_or_never_comes_through_the_log_and_only_once() {
    in_memory(async |cluster: &mut Cluster| {
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        let mut bob = User::new(cluster.tcp(1), "bob").await;
        converse(&mut alice, &mut bob, "before").await;
        cluster.broker.in_memory().stall(Operation::Publish);
        converse(&mut alice, &mut bob, "stalled").await;
        cluster.broker.in_memory().resume();
        converse(&mut alice, &mut bob, "after").await;
        alice.quiet().await;
        bob.quiet().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_broker_neither_repeats_nor_reorders() {
    in_memory(async |cluster: &mut Cluster| {
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        let mut bob = User::new(cluster.tcp(1), "bob").await;
        cluster.broker.in_memory().delay(Duration::from_millis(200));
        let send = |n: u64| json!({"type": "send", "key": n.to_string(), "to": bob.id, "body": "late"});
        alice.say_all((1..=50).map(send)).await;
        for seq in 1..=50 {
            alice.expect(json!({"type": "sent", "key": ANY, "conversation": ANY, "seq": seq, "at": ANY})).await;
        }
        // A login takes from the log what is still under way to it.
        let mut device = bob.again(cluster.tcp(1), Value::Null).await;
        for seq in 1..=50 {
            assert_eq!(device.hear_past(&["conversation", "caught_up"], "message").await["seq"], seq);
        }
        for seq in 1..=50 {
            assert_eq!(bob.hear_past(&["conversation"], "message").await["seq"], seq);
        }
        let last = alice.tell(bob.id, "last", "on time").await;
        bob.expect(alice.message(last, "last", "on time")).await;
        let message = alice.message(last, "last", "on time");
        assert_eq!(device.hear_past(&["caught_up"], "message").await, message);
    })
    .await;
}
