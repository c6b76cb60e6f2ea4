//! A node that is connected to its bus and hears nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::cluster::{Bus, Cluster, Settings, run};
use crate::harness::{User, eventually, get};

const DEADLINE: Duration = Duration::from_secs(30);

async fn readiness(cluster: &Cluster, node: usize) -> (u16, Value) {
    let (status, body) = get(cluster.http(node), "/readyz").await.expect("the node answers");
    (status, serde_json::from_str(&body).expect("JSON"))
}

/// Says something each way.
async fn talk(alice: &mut User, bob: &mut User, key: &str) {
    let there = alice.tell(bob.id, key, "there").await;
    bob.hear_past(&["conversation"], "message").await;
    let back = bob.post(there.conversation, key, "and back").await;
    assert_eq!(alice.hear_past(&["conversation"], "message").await, bob.message(back, key, "and back"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deaf_node_says_so_and_leaves_new_clients_to_the_one_that_hears() {
    run(Bus::Memory, Settings::default(), async |cluster: &mut Cluster| {
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        let mut bob = User::new(cluster.tcp(1), "bob").await;
        talk(&mut alice, &mut bob, "before").await;
        let deaf = Arc::new(AtomicBool::new(true));
        let to_the_first = Arc::clone(&deaf);
        cluster.broker.in_memory().drop_if(move |outgoing| {
            // In either routing, what goes to a node or to who is there.
            to_the_first.load(Ordering::Acquire) && outgoing.subject.as_str().ends_with(".n.node-0")
        });
        alice.condition("degraded").await;
        eventually("the deaf node is not ready", DEADLINE, || async { readiness(cluster, 0).await.0 == 503 }).await;
        let (_, said) = readiness(cluster, 0).await;
        assert_eq!((&said["state"], &said["degraded"]), (&json!("deaf"), &json!(true)));
        eventually("it takes no new clients", DEADLINE, || async { TcpStream::connect(cluster.tcp(0)).await.is_err() })
            .await;
        assert_eq!(readiness(cluster, 1).await.0, 200, "the other one hears");
        // Whoever is there goes on.
        talk(&mut alice, &mut bob, "meanwhile").await;

        deaf.store(false, Ordering::Release);
        alice.condition("restored").await;
        eventually("it is ready again", DEADLINE, || async { readiness(cluster, 0).await.0 == 200 }).await;
        eventually("it takes clients again", DEADLINE, || async { TcpStream::connect(cluster.tcp(0)).await.is_ok() })
            .await;
        talk(&mut alice, &mut bob, "after").await;
    })
    .await;
}
