//! Nodes that lose their lease while they do not run.

use serde_json::{Value, json};
use switchboard::model::store::{NodeRow, NodeState, Store};

use crate::harness::process::{NodeFile, Site};
use crate::harness::{DEADLINE, User, eventually, get};

async fn row(log: &dyn Store, node: &str) -> NodeRow {
    let (_, rows) = log.nodes().await.unwrap();
    rows.into_iter().find(|row| row.node.as_str() == node).expect("the node has a row")
}

async fn readiness(node: &NodeFile) -> Option<(u16, Value)> {
    let (status, body) = get(node.http, "/readyz").await?;
    Some((status, serde_json::from_str(&body).expect("JSON")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_stopped_past_its_lease_and_goes_on_loses_nothing_of_its_users() {
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node("node-a"), site.node("node-b"));
    let (running, stopped) = (site.start(&a).await, site.start(&b).await);
    let log = site.log().await;
    let mut alice = User::new(running.tcp(), "alice").await;
    let mut bob = User::new(stopped.tcp(), "bob").await;
    let first = alice.tell(bob.id, "0", "x").await;
    assert_eq!(bob.hear_past(&["conversation"], "message").await, alice.message(first, "0", "x"));
    let epoch = row(&*log, "node-b").await.epoch;

    site.freeze(&stopped).await;
    let mut messages = Vec::new();
    let mut say = async |alice: &mut User, key: &str| {
        let sent = alice.tell(bob.id, key, "x").await;
        messages.push(alice.message(sent, key, "x"));
    };
    say(&mut alice, "while nobody knows").await;
    eventually("a peer has expired its lease", DEADLINE, || async {
        row(&*log, "node-b").await.state == NodeState::Expired
    })
    .await;
    say(&mut alice, "while it counts as dead").await;

    // It goes on, and cannot take a new lease yet.
    let held = site.hold_log().await;
    stopped.resume();
    eventually("it is not ready, and says why", DEADLINE, || async {
        let Some((status, said)) = readiness(&b).await else { return false };
        status == 503 && ["log_away", "fenced"].contains(&said["state"].as_str().unwrap()) && said["reason"].is_string()
    })
    .await;
    drop(held);
    eventually("it is ready again", DEADLINE, || async {
        readiness(&b).await.is_some_and(|(status, said)| status == 200 && said["state"] == "ready")
    })
    .await;
    let back = row(&*log, "node-b").await;
    assert_eq!(back.epoch, epoch + 2, "once for the peer who expired it, once for itself");
    say(&mut alice, "when it is back").await;
    for message in messages {
        bob.expect(message).await;
    }
    let answer = bob.post(first.conversation, "here", "x").await;
    assert_eq!(alice.hear_past(&["conversation"], "message").await, bob.message(answer, "here", "x"));
    bob.quiet().await;
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_id_was_taken_while_it_was_stopped_sends_its_sessions_away_and_ends() {
    let Some(site) = Site::new().await else { return };
    let mut stopped = site.start(&site.node("node-a")).await;
    let mut alice = User::new(stopped.tcp(), "alice").await;
    let mut bob = User::new(stopped.tcp(), "bob").await;
    let first = alice.tell(bob.id, "0", "x").await;
    assert_eq!(bob.hear_past(&["conversation"], "message").await, alice.message(first, "0", "x"));
    site.freeze(&stopped).await;
    let other = site.start(&site.node("node-a")).await;
    // The process that is stopped cannot say that it takes nothing any more, and its log can be written to.
    let mut alices = alice.again(other.tcp(), json!({first.conversation.to_string(): 1})).await;
    alices.expect(json!({"type": "caught_up", "more": []})).await;
    let second = alices.tell(bob.id, "1", "x").await;

    stopped.resume();
    let status = stopped.ended().await;
    assert_eq!(status.code(), Some(69), "{}", stopped.said());
    let holder = format!("pid {}", other.id());
    assert!(stopped.said().contains("node.id = \"node-a\" is in use by"), "{}", stopped.said());
    assert!(stopped.said().contains(&holder), "{}", stopped.said());
    let message = alice.message(second, "1", "x");
    let closing = bob.hear_past(&["message"], "closing").await;
    assert_eq!((&closing["code"], &closing["reason"]), (&json!(4002), &json!("fenced")));
    assert_eq!(closing["reconnect"], true);
    bob.ended().await;
    let mut bob = bob.again(other.tcp(), json!({first.conversation.to_string(): 1})).await;
    bob.expect(message).await;
    bob.expect(json!({"type": "caught_up", "more": []})).await;
    let answer = bob.post(first.conversation, "2", "x").await;
    assert_eq!(alices.hear().await, bob.message(answer, "2", "x"));
}
