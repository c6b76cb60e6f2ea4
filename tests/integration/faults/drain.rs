//! A node that drains: by a signal, by a second one, and at an operator's wish.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use serde_json::{Value, json};
use switchboard::model::store::{NodeState, Range, Store};
use switchboard::model::{ConversationId, Seq};
use tokio::sync::watch;

use super::turn;
use crate::harness::nginx::balance;
use crate::harness::process::{NodeFile, Process, Site};
use crate::harness::{DEADLINE, Sent, User, eventually, get, register};

const SESSIONS: usize = 500;

async fn readiness(node: &NodeFile) -> Option<(u16, Value)> {
    let (status, body) = get(node.http, "/readyz").await?;
    Some((status, serde_json::from_str(&body).expect("JSON")))
}

/// Waits until a node says that it drains.
async fn drains(node: &NodeFile) {
    eventually("the node says that it drains", DEADLINE, || async {
        let Some((status, said)) = readiness(node).await else { return false };
        assert!(status == 200 || said["reason"].as_str().is_some_and(|reason| reason.contains("stops")), "{said}");
        status == 503 && said["state"] == "draining"
    })
    .await;
}

async fn state(log: &dyn Store, node: &str) -> NodeState {
    let (_, rows) = log.nodes().await.unwrap();
    rows.iter().find(|row| row.node.as_str() == node).expect("the node has a row").state
}

/// Somebody who has talked until they were sent away.
struct Speaker {
    user: User,
    /// What was acknowledged, by seq, and in which conversation.
    sent: Vec<(Seq, String)>,
    conversation: u64,
    /// What has no answer.
    unanswered: String,
    closing: Value,
}

/// Sends one message after the other from a signal on, until the server closes.
async fn speak(mut user: User, to: u64, mut go: watch::Receiver<bool>, answers: Arc<AtomicU64>) -> Speaker {
    go.wait_for(|go| *go).await.expect("the signal comes");
    let (mut sent, mut conversation) = (Vec::new(), 0);
    loop {
        let key = sent.len().to_string();
        let send = json!({"type": "send", "key": key, "to": to, "body": "x"});
        // Whoever is sent away may find that out only by reading.
        user.try_say_bytes(format!("{send}\n").as_bytes()).await;
        let frame = user.hear().await;
        if frame["type"] == "closing" {
            user.ended().await;
            return Speaker { user, sent, conversation, unanswered: key, closing: frame };
        }
        assert_eq!((&frame["type"], &frame["key"]), (&json!("sent"), &json!(key)), "{frame}");
        let answer = Sent::of(&frame);
        conversation = answer.conversation;
        sent.push((answer.seq, key));
        answers.fetch_add(1, Ordering::AcqRel);
    }
}

/// Reads the keys of a conversation, in the order of their seqs, which have no hole.
async fn keys(log: &dyn Store, conversation: ConversationId) -> Vec<String> {
    let range = Range { conversation, after: 0, until: Seq::MAX >> 1 };
    let messages = log.messages(&[range], 1_000_000).await.unwrap();
    let seqs: Vec<Seq> = messages.iter().map(|message| message.seq).collect();
    assert_eq!(seqs, (1..=messages.len() as Seq).collect::<Vec<_>>());
    messages.into_iter().map(|message| message.key.as_str().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_sessions_that_all_send_are_sent_to_the_other_node_and_nothing_is_lost_or_there_twice() {
    let _turn = turn().await;
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node_with("node-a", "node.drain_notice = \"1s\""), site.node("node-b"));
    let (mut draining, staying) = (site.start(&a).await, site.start(&b).await);
    let log = site.log().await;
    // Nobody listens: what is in the log has arrived.
    let to = register(staying.tcp(), "listener").await;
    let (start, go) = watch::channel(false);
    let answers = Arc::new(AtomicU64::new(0));
    let mut speakers = Vec::new();
    for group in (0..SESSIONS).collect::<Vec<_>>().chunks(50) {
        let names: Vec<String> = group.iter().map(|number| format!("speaker-{number}")).collect();
        for user in join_all(names.iter().map(|name| User::new(draining.tcp(), name))).await {
            speakers.push(tokio::spawn(speak(user, to, go.clone(), Arc::clone(&answers))));
        }
    }
    start.send_replace(true);
    eventually("everybody talks", DEADLINE, || async { answers.load(Ordering::Acquire) > SESSIONS as u64 }).await;
    draining.terminate();
    drains(&a).await;

    let mut waits = BTreeSet::new();
    for speaker in speakers {
        let Speaker { user, mut sent, conversation, unanswered, closing } = speaker.await.unwrap();
        assert_eq!((&closing["code"], &closing["reason"]), (&json!(4001), &json!("drain")));
        assert_eq!(closing["reconnect"], true);
        // Nobody is told before the balancers can know.
        assert_ne!(state(&*log, "node-a").await, NodeState::Ready);
        let after = closing["after_ms"].as_u64().unwrap();
        assert!(after <= 1_000, "{closing}");
        waits.insert(after);
        let has = sent.last().map_or(json!({}), |(seq, _)| json!({conversation.to_string(): seq}));
        let mut again = user.again(staying.tcp(), has).await;
        // Had the node stored what it has not answered, it would come here.
        again.expect(json!({"type": "caught_up", "more": []})).await;
        let last = again.tell(to, &unanswered, "x").await;
        sent.push((last.seq, unanswered));
        let stored = keys(&*log, ConversationId::new(last.conversation).unwrap()).await;
        assert_eq!(sent, (1..).zip(stored).collect::<Vec<(Seq, String)>>());
    }
    // Of five hundred chances among a thousand.
    assert!(waits.len() > 100, "all come back at the same moments: {waits:?}");
    let status = draining.ended().await;
    assert_eq!(status.code(), Some(0), "{}", draining.said());
    assert_eq!(state(&*log, "node-a").await, NodeState::Stopped);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_node_that_drains_at_once() {
    let Some(site) = Site::new().await else { return };
    let a = site.node_with("node-a", "node.drain_notice = \"1m\"");
    let mut draining = site.start(&a).await;
    let mut alice = User::new(draining.tcp(), "alice").await;
    draining.terminate();
    drains(&a).await;
    alice.quiet().await;
    draining.interrupt();
    let status = draining.ended().await;
    assert_eq!(status.code(), Some(1), "{}", draining.said());
    assert!(draining.said().contains("by the second signal"), "{}", draining.said());
    assert_eq!(alice.hear_any().await, None, "there was no time for a farewell");
}

/// Runs `switchboard drain` to its end.
async fn drain(node: &NodeFile, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.env_clear().arg("drain").args(arguments).arg("--config").arg(node.path());
    let run = tokio::task::spawn_blocking(move || command.output().expect("the program runs"));
    let Output { status, stdout, stderr } =
        tokio::time::timeout(DEADLINE, run).await.expect("in time").expect("no panic");
    let said = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (status.code(), said)
}

/// Waits until a process has printed something.
async fn says(process: &Process, what: &str) {
    eventually(what, DEADLINE, || async { process.said().contains(what) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_drains_a_node_by_its_name_and_follows_it_to_its_end() {
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node_with("node-a", "node.drain_notice = \"1m\""), site.node("node-b"));
    let (code, said) = drain(&a, &["node-a"]).await;
    assert!(code == Some(1) && said.contains("does not exist; correct store.url"), "{said}");
    let (mut draining, staying) = (site.start(&a).await, site.start(&b).await);
    let (code, said) = drain(&a, &["node-x"]).await;
    let known = "there is no node node-x; the log knows node-a (ready), node-b (ready)";
    assert!(code == Some(1) && said.contains(known), "{said}");
    assert_eq!(drain(&a, &["no node"]).await.0, Some(64));

    let mut alice = User::new(draining.tcp(), "alice").await;
    let log = site.log().await;
    eventually("the row knows of the session", DEADLINE, || async {
        log.nodes().await.unwrap().1.iter().any(|row| row.sessions == 1)
    })
    .await;
    let (code, said) = drain(&a, &["node-a", "--no-wait"]).await;
    assert_eq!((code, said.as_str()), (Some(0), "node-a is asked to drain, with 1 session\n"));
    drains(&a).await;
    alice.quiet().await;

    // Whoever stops to watch does not stop the node.
    let mut watcher = site.launch_command(&a, &["drain", "node-a"]);
    says(&watcher, "node-a was draining already").await;
    says(&watcher, "node-a drains, 1 session left").await;
    watcher.interrupt();
    assert_eq!(watcher.ended().await.code(), Some(1));
    assert!(watcher.said().contains("node-a drains on"), "{}", watcher.said());
    let mut watcher = site.launch_command(&b, &["drain", "node-a"]);
    says(&watcher, "node-a drains, 1 session left").await;
    alice.quiet().await;
    // Without sessions there is nothing to wait for.
    alice.say(json!({"type": "logout"})).await;
    alice.closed_with(4100, "logout").await;
    assert_eq!(draining.ended().await.code(), Some(0), "{}", draining.said());
    assert_eq!(watcher.ended().await.code(), Some(0));
    assert!(watcher.said().ends_with("node-a has drained\n"), "{}", watcher.said());
    let (code, said) = drain(&b, &["node-a"]).await;
    assert!(code == Some(1) && said.contains("node-a has stopped already"), "{said}");

    // A node that was started again has forgotten the wish.
    let again = site.start(&a).await;
    User::new(again.tcp(), "bob").await.quiet().await;
    let (_, rows) = log.nodes().await.unwrap();
    assert!(rows.iter().all(|row| row.drain_asked_at.is_none()), "{rows:?}");

    staying.kill();
    let (code, said) = drain(&b, &["node-b"]).await;
    assert!(code == Some(1) && said.contains("node-b died while it drained"), "{said}");
    let (code, said) = drain(&b, &["node-b"]).await;
    assert!(code == Some(1) && said.contains("node-b is dead"), "{said}");
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_balancer_has_left_a_node_before_its_sessions_are_sent_away() {
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node("node-a"), site.node_with("node-b", "node.drain_notice = \"20s\""));
    let (_staying, mut draining) = (site.start(&a).await, site.start(&b).await);
    let Some(nginx) = balance(&[a.tcp, b.tcp]).await else { return };
    let _watch = site.watch(&nginx);
    let mut alice = User::new(draining.tcp(), "alice").await;
    draining.terminate();
    eventually("the balancer has left the node", DEADLINE, || async { nginx.nodes() == BTreeSet::from([a.tcp]) }).await;
    // Until now she has heard nothing of it.
    alice.quiet().await;
    alice.closed_with(4001, "drain").await;
    let back = alice.again(nginx.address(), Value::Null).await;
    assert_eq!(back.node, "node-a");
    assert_eq!(draining.ended().await.code(), Some(0), "{}", draining.said());
}
