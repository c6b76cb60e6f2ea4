//! A node dies, freezes, or comes new, while users talk through the real Nginx.

use std::time::Duration;

use switchboard::model::store::NodeState;
use tokio::time::sleep;

use super::traffic::{Progress, Traffic};
use super::turn;
use crate::harness::nginx::balance;
use crate::harness::process::Site;
use crate::harness::{DEADLINE, User, eventually, metric};

const USERS: usize = 20;

/// Longer than a lease holds without a beat.
const PAST_THE_LEASE: Duration = Duration::from_secs(7);

fn was_on(progress: &[Progress], node: &str) -> usize {
    progress.iter().filter(|user| user.nodes.iter().any(|was| was == node)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_a_node_that_is_killed_go_on_at_the_other() {
    let _turn = turn().await;
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node("node-a"), site.node("node-b"));
    let (_staying, killed) = (site.start(&a).await, site.start(&b).await);
    let Some(nginx) = balance(&[a.tcp, b.tcp]).await else { return };
    let mut traffic = Traffic::start(&[nginx.address()], USERS).await;
    let moving: Vec<bool> = traffic.progress().iter().map(|user| user.nodes == ["node-b"]).collect();
    assert!(moving.iter().filter(|moves| **moves).count() > USERS / 4, "{moving:?}");
    killed.kill();
    traffic
        .all("at the node that is left", |place, now| {
            let expected: &[&str] = if moving[place] { &["node-b", "node-a"] } else { &["node-a"] };
            now.nodes == expected
        })
        .await;
    traffic.flows().await;
    // The others have seen to what it left behind.
    let log = site.log().await;
    eventually("the node's sessions are gone", DEADLINE, || async {
        let (_, rows) = log.nodes().await.unwrap();
        rows.iter().any(|row| row.node.as_str() == "node-b" && row.state == NodeState::Expired)
    })
    .await;
    traffic.ends_well().await;
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_froze_past_its_lease_catches_up() {
    let _turn = turn().await;
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node("node-a"), site.node("node-b"));
    let (staying, frozen) = (site.start(&a).await, site.start(&b).await);
    let log = site.log().await;
    let mut alice = User::new(staying.tcp(), "alice").await;
    let mut bob = User::new(frozen.tcp(), "bob").await;
    let mut traffic = Traffic::start(&[staying.tcp(), frozen.tcp()], USERS).await;
    site.freeze(&frozen).await;
    sleep(PAST_THE_LEASE).await;
    eventually("a peer ends its lease", DEADLINE, || async {
        let (_, rows) = log.nodes().await.unwrap();
        rows.iter().any(|row| row.node.as_str() == "node-b" && row.state == NodeState::Expired)
    })
    .await;
    // Nobody knows any more that bob is there, and nothing follows that would show what he has missed.
    let sent = alice.tell(bob.id, "1", "are you there?").await;
    frozen.resume();
    assert_eq!(bob.hear_past(&["conversation"], "message").await, alice.message(sent, "1", "are you there?"));
    traffic.flows().await;
    let progress = traffic.ends_well().await;
    assert_eq!(metric(b.http, "switchboard_audit_repaired_total").await, 0.0);
    // Its users never noticed: they are where they were.
    assert_eq!(was_on(&progress, "node-b"), USERS / 2);
    assert!(progress.iter().all(|user| user.nodes.len() == 1), "{progress:#?}");
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_new_under_load_gets_its_share_of_new_connections() {
    let _turn = turn().await;
    let Some(site) = Site::new().await else { return };
    let (a, b, c) = (site.node("node-a"), site.node("node-b"), site.node("node-c"));
    let (_on_a, _on_b) = (site.start(&a).await, site.start(&b).await);
    let Some(nginx) = balance(&[a.tcp, b.tcp]).await else { return };
    let _watch = site.watch(&nginx);
    let mut traffic = Traffic::start(&[nginx.address()], USERS).await;
    let _on_c = site.start(&c).await;
    eventually("the balancer knows it", DEADLINE, || async { nginx.nodes().contains(&c.tcp) }).await;
    // The new node gets some of those who come now; nobody else has moved.
    eventually("somebody lands there", DEADLINE, || async {
        let user = User::new(nginx.address(), &format!("late-{}", rand::random::<u32>())).await;
        user.node == "node-c"
    })
    .await;
    traffic.flows().await;
    let progress = traffic.ends_well().await;
    assert!(progress.iter().all(|user| user.nodes.len() == 1), "{progress:#?}");
}
