//! Nodes that hear nothing through their bus.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::harness::cluster::{Bus, Cluster, Settings, run};
use crate::harness::{DEADLINE, User, eventually, get};

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

/// Checks what a node says that leaves new clients to others because it is deaf.
fn is_deaf(said: &Value) {
    assert_eq!((&said["state"], &said["degraded"]), (&json!("deaf"), &json!(true)));
    assert!(said["reason"].as_str().is_some_and(|reason| reason.contains("hears nothing")), "{said}");
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
        is_deaf(&said);
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

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_redis_lets_publish_and_not_subscribe_is_found_deaf_until_it_may() {
    use crate::harness::cluster::run_as_users;

    run_as_users(Settings::default(), async |cluster: &mut Cluster, redis| {
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        let mut bob = User::new(cluster.tcp(1), "bob").await;
        talk(&mut alice, &mut bob, "before").await;
        redis.command("ACL SETUSER node-0 -subscribe").await;
        redis.command("CLIENT KILL TYPE pubsub USER node-0").await;
        alice.condition("degraded").await;
        eventually("the deaf node is not ready", DEADLINE, || async { readiness(cluster, 0).await.0 == 503 }).await;
        is_deaf(&readiness(cluster, 0).await.1);
        eventually("it takes no new clients", DEADLINE, || async { TcpStream::connect(cluster.tcp(0)).await.is_err() })
            .await;
        let healthy = json!({"node": "node-1", "state": "ready", "degraded": false});
        assert_eq!(readiness(cluster, 1).await, (200, healthy), "the other one hears");
        talk(&mut alice, &mut bob, "meanwhile").await;

        redis.command("ACL SETUSER node-0 +subscribe").await;
        alice.condition("restored").await;
        eventually("it is ready again", DEADLINE, || async { readiness(cluster, 0).await.0 == 200 }).await;
        eventually("it takes clients again", DEADLINE, || async { TcpStream::connect(cluster.tcp(0)).await.is_ok() })
            .await;
        talk(&mut alice, &mut bob, "after").await;
    })
    .await;
}

/// Looks at all nodes for longer than one takes that is alone in its trouble: they stay ready and say how things are.
async fn all_stay_ready(cluster: &mut Cluster, hurt: impl AsyncFnOnce(&Cluster), heal: impl AsyncFnOnce(&Cluster)) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    talk(&mut alice, &mut bob, "before").await;
    hurt(cluster).await;
    alice.condition("degraded").await;
    bob.condition("degraded").await;
    let until = cluster.log.now().await.unwrap() + 12_000;
    eventually("twelve seconds are over", DEADLINE, || async {
        for node in 0..2 {
            let said = json!({"node": format!("node-{node}"), "state": "ready", "degraded": true});
            assert_eq!(readiness(cluster, node).await, (200, said));
        }
        cluster.log.now().await.unwrap() > until
    })
    .await;
    User::new(cluster.tcp(0), "carol").await.condition("degraded").await;
    talk(&mut alice, &mut bob, "meanwhile").await;
    heal(cluster).await;
    alice.condition("restored").await;
    bob.condition("restored").await;
    for node in 0..2 {
        assert_eq!(readiness(cluster, node).await.0, 200);
        User::new(cluster.tcp(node), &format!("dave-{node}")).await.quiet().await;
    }
    talk(&mut alice, &mut bob, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_all_deaf_stay_ready() {
    run(Bus::Memory, Settings::default(), async |cluster: &mut Cluster| {
        let hurt = async |cluster: &Cluster| cluster.broker.in_memory().drop_if(|_| true);
        all_stay_ready(cluster, hurt, async |cluster: &Cluster| cluster.broker.in_memory().drop_if(|_| false)).await;
    })
    .await;
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_whose_redis_is_gone_for_all_stay_ready() {
    run(Bus::OwnRedis, Settings::default(), async |cluster: &mut Cluster| {
        let hurt = async |cluster: &Cluster| cluster.broker.cut();
        all_stay_ready(cluster, hurt, async |cluster: &Cluster| cluster.broker.heal().await).await;
    })
    .await;
}
