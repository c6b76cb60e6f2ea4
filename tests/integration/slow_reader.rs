//! A slow reader hurts only itself: others get everything meanwhile, and what it missed it gets from the log.

use std::time::Duration;

use bytesize::ByteSize;
use serde_json::{Value, json};
use switchboard::server::LimitsConfig;

use crate::harness::cluster::{Bus, Cluster, Settings, run};
use crate::harness::{DEADLINE, User, Wire, eventually, metric, on_each_bus};

/// What goes by while somebody does not read: 20 MB, far more than the sockets between hold.
const COUNT: u64 = 2_000;
const BODY: usize = 10_000;
/// Said at once.
const BURST: u64 = 100;

on_each_bus! { crate::slow_reader::small_outboxes(), Redis;
    who_stops_reading_misses_nothing_and_holds_up_nobody
}

fn small_outboxes() -> Settings {
    // However long a busy machine takes for all that goes by: nobody here is to be closed for being slow.
    let slow_after = Duration::from_secs(600);
    let limits = LimitsConfig { outbox: ByteSize::kib(64), slow_after, ..LimitsConfig::default() };
    Settings { limits, ..Settings::default() }
}

fn post(group: u64, key: String, body: &str) -> Value {
    json!({"type": "send", "key": key, "conversation": group, "body": body})
}

/// Logs a user in again over a narrow connection, with nothing missed.
async fn narrow(cluster: &Cluster, node: usize, user: &User) -> User {
    let wire = Wire::connect_narrow(cluster.tcp(node)).await;
    let mut user = User::welcomed(wire, json!({"type": "login", "token": user.token})).await;
    user.expect(json!({"type": "caught_up", "more": []})).await;
    user
}

/// Reads until a session has all of `from..=last`, as messages or as answers to what it has said itself: messages in
/// ascending order, nothing twice. Returns how many were its own.
async fn read_all(user: &mut User, from: u64, last: u64) -> usize {
    let (mut messages, mut own): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
    while ((messages.len() + own.len()) as u64) < last + 1 - from {
        let frame = user.hear().await;
        let seq = frame["seq"].as_u64().unwrap_or_else(|| panic!("{frame}"));
        let so_far = if frame["type"] == "message" { &mut messages } else { &mut own };
        assert!(so_far.last().is_none_or(|last| *last < seq), "{} {seq} after {so_far:?}", frame["type"]);
        so_far.push(seq);
    }
    let count = own.len();
    messages.extend(own);
    messages.sort_unstable();
    assert_eq!(messages, (from..=last).collect::<Vec<_>>());
    user.quiet().await;
    count
}

async fn who_stops_reading_misses_nothing_and_holds_up_nobody(cluster: &mut Cluster) {
    let mut speaker = User::new(cluster.tcp(0), "speaker").await;
    let group = speaker.found("busy").await;
    let mut reader = User::new(cluster.tcp(1), "reader").await;
    reader.join(group).await;
    let mut sleepers = Vec::new();
    for (node, joined) in [(0, 2), (1, 3)] {
        let mut sleeper = User::new(cluster.tcp(node), &format!("sleeper-{node}")).await;
        assert_eq!(sleeper.join(group).await, joined);
        sleepers.push(narrow(cluster, node, &sleeper).await);
    }
    let overflows = "switchboard_outbox_overflows_total";
    let before = metric(cluster.http(0), overflows).await;

    let body = "x".repeat(BODY);
    let speaking = async {
        for burst in 0..COUNT / BURST {
            let keys = burst * BURST..(burst + 1) * BURST;
            speaker.say_all(keys.map(|n| post(group, n.to_string(), &body))).await;
            // Those who do not read may still speak.
            for sleeper in &mut sleepers {
                sleeper.say(post(group, burst.to_string(), "am I heard?")).await;
            }
            for _ in 0..BURST {
                speaker.hear_past(&["message"], "sent").await;
            }
        }
    };
    let reading = async {
        let (mut heard, mut last) = (0, 1);
        while heard < COUNT {
            let frame = reader.hear_past(&[], "message").await;
            last += 1;
            assert_eq!(frame["seq"], last);
            heard += u64::from(frame["name"] == "speaker");
        }
        last
    };
    // The reader has all of it while the others have read nothing.
    let ((), reader_at) = tokio::join!(speaking, reading);
    assert!(metric(cluster.http(0), overflows).await > before, "somebody fell behind");

    let own = COUNT / BURST;
    let head = 3 + COUNT + 2 * own;
    // Together, because what one has said may only go out when it reads.
    let [first, second] = &mut sleepers[..] else { panic!("there are two") };
    let said =
        tokio::join!(read_all(first, 3, head), read_all(second, 4, head), read_all(&mut reader, reader_at + 1, head));
    assert_eq!(said, (own as usize, own as usize, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_behind_large_answers_are_answered_too() {
    run(Bus::Memory, Settings::default(), large_answers).await;
}

async fn large_answers(cluster: &mut Cluster) {
    const PAGES: u64 = 16;
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let group = alice.found("long reads").await;
    let body = "x".repeat(60_000);
    for number in 1..=14 {
        alice.post(group, &format!("k-{number}"), &body).await;
    }
    let mut reader = alice.again(cluster.tcp(0), json!({group.to_string(): 14})).await;
    reader.expect(json!({"type": "caught_up", "more": []})).await;
    // Each answer is larger than the outbox, so that the next request has to wait for room, and all of them together
    // are more than the sockets hold.
    let history = |n: u64| json!({"type": "history", "id": n, "conversation": group});
    reader.say_all((1..=PAGES).map(history).chain([json!({"type": "ping", "id": "last"})])).await;
    // As many answers to somebody else: by then the reader's have filled its sockets.
    for number in 1..=PAGES {
        alice.say(history(number)).await;
        alice.hear_past(&[], "history").await;
    }
    for number in 1..=PAGES {
        let page = reader.hear().await;
        assert_eq!((&page["type"], &page["id"]), (&json!("history"), &json!(number)));
        assert_eq!(page["messages"].as_array().unwrap().len(), 14);
    }
    reader.expect(json!({"type": "pong", "id": "last"})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_arrives_although_the_client_goes_on_writing() {
    run(Bus::Memory, Settings::default(), async |cluster: &mut Cluster| {
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        let group = alice.found("long reads").await;
        let body = "x".repeat(60_000);
        for number in 1..=14 {
            alice.post(group, &format!("k-{number}"), &body).await;
        }
        let login = json!({"type": "login", "token": alice.token, "since": {group.to_string(): 14}});
        let mut slow = User::welcomed(Wire::connect_narrow(cluster.tcp(0)).await, login).await;
        slow.expect(json!({"type": "caught_up", "more": []})).await;
        // The answer is on its way for a while yet when the server is done, with much more to read.
        let history = json!({"type": "history", "conversation": group});
        slow.say_all([history, json!({"type": "logout"})]).await;
        slow.try_say_bytes("{\"type\":\"ping\"}\n".repeat(20_000).as_bytes()).await;
        let nodes = &*cluster;
        eventually("the session is over", DEADLINE, || async { nodes.sessions(0) == 1 }).await;
        assert_eq!(slow.hear().await["messages"].as_array().unwrap().len(), 14);
        slow.closed_with(4100, "logout").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_reads_is_closed_and_resumes_where_it_was() {
    let limits = LimitsConfig { slow_after: Duration::from_secs(1), ..small_outboxes().limits };
    run(Bus::Memory, Settings { limits, ..Settings::default() }, async |cluster: &mut Cluster| {
        let mut speaker = User::new(cluster.tcp(0), "speaker").await;
        let group = speaker.found("busy").await;
        let mut sleeper = User::new(cluster.tcp(1), "sleeper").await;
        assert_eq!(sleeper.join(group).await, 1);
        speaker.hear_past(&[], "message").await;
        let mut asleep = narrow(cluster, 1, &sleeper).await;
        drop(sleeper);
        let closed = "switchboard_sessions_closed_total{reason=\"slow\"}";
        let before = metric(cluster.http(1), closed).await;

        let body = "x".repeat(BODY);
        for burst in 0..10 {
            speaker.say_all((0..BURST).map(|n| post(group, format!("{burst}-{n}"), &body))).await;
            for _ in 0..BURST {
                speaker.hear_past(&[], "sent").await;
            }
        }
        let nodes = &*cluster;
        eventually("the session is closed", DEADLINE, || async { nodes.sessions(1) == 0 }).await;
        assert_eq!(metric(cluster.http(1), closed).await, before + 1.0);

        // What was on its way when it was closed is a prefix; the rest follows when it says how far it got.
        let mut has = 1;
        while let Some(frame) = asleep.hear_any().await {
            if frame["type"] == "closing" {
                assert_eq!(frame["code"], 4004);
                continue;
            }
            has += 1;
            assert_eq!((&frame["type"], &frame["seq"]), (&json!("message"), &json!(has)));
        }
        let head = 1 + 10 * BURST;
        assert!(has < head, "the sockets held everything");
        let mut awake = asleep.again(cluster.tcp(0), json!({group.to_string(): has})).await;
        for seq in has + 1..=head {
            assert_eq!(awake.hear_past(&[], "message").await["seq"], seq);
        }
        awake.expect(json!({"type": "caught_up", "more": []})).await;
    })
    .await;
}
