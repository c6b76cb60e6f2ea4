//! The balancer follows the cluster: `switchboard nginx watch` beside real nodes and the real Nginx.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use crate::harness::nginx::{Nginx, balance};
use crate::harness::process::{NodeFile, Process, Site};
use crate::harness::{DEADLINE, User, Wire, eventually};
use serde_json::json;

/// Returns the nodes of a config.
fn nodes_in(conf: &str) -> BTreeSet<SocketAddr> {
    let servers = conf.lines().filter_map(|line| line.trim().strip_prefix("server ")?.split(' ').next());
    servers.filter_map(|address| address.parse().ok()).collect()
}

async fn follows(nginx: &Nginx, nodes: &[&NodeFile]) {
    let expected: BTreeSet<SocketAddr> = nodes.iter().map(|node| node.tcp).collect();
    eventually("the balancer has the nodes", DEADLINE, || async { nginx.nodes() == expected }).await;
}

async fn complains(watch: &Process, of: &str) {
    eventually(of, DEADLINE, || async { watch.said().contains(of) }).await;
}

/// Somebody comes through the balancer until all of several in a row land where they should. An old worker that a
/// reload has not yet replaced may take the first ones to a node that is gone.
async fn land_on(edge: SocketAddr, user: &User, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|node| (*node).to_owned()).collect();
    eventually("new clients land where they should", DEADLINE, || async {
        let mut nodes = BTreeSet::new();
        for _ in 0..6 {
            let login = json!({"type": "login", "token": user.token});
            let Some(user) = User::try_welcomed(Wire::connect(edge).await, login).await else { return false };
            nodes.insert(user.node.clone());
        }
        nodes == expected
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_clients_go_to_the_nodes_that_take_them_and_old_ones_stay() {
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node("node-a"), site.node("node-b"));
    let on_a = site.start(&a).await;
    let Some(nginx) = balance(&[a.tcp]).await else { return };
    let edge = nginx.address();
    let watch = site.watch(&nginx);
    let mut old = User::new(edge, "old").await;

    // A second node gets its share, and nobody has touched a file.
    let on_b = site.start(&b).await;
    follows(&nginx, &[&a, &b]).await;
    land_on(edge, &old, &["node-a", "node-b"]).await;

    // One that dies is out, though nobody was sent there in vain.
    on_b.kill();
    follows(&nginx, &[&a]).await;
    land_on(edge, &old, &["node-a"]).await;
    // Whoever was there before is there still, through all reloads.
    old.quiet().await;

    // One that goes is out, and the last one stands rather than none.
    on_a.terminate();
    complains(&watch, "no node takes new clients").await;
    assert_eq!(nginx.nodes(), BTreeSet::from([a.tcp]));
    let _on_b = site.start(&b).await;
    follows(&nginx, &[&b]).await;
    land_on(edge, &old, &["node-b"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_that_nginx_refuses_is_not_put_in_place() {
    let Some(site) = Site::new().await else { return };
    let (a, b, c) = (site.node("node-a"), site.node("node-b"), site.node("node-c"));
    let _on_a = site.start(&a).await;
    let Some(nginx) = balance(&[a.tcp]).await else { return };
    let before = nginx.conf();
    // Nginx cannot open its error log.
    let log = nginx.folder().join("error.log");
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    let watch = site.watch(&nginx);
    let _on_b = site.start(&b).await;
    complains(&watch, "the config was not put in place").await;
    assert!(watch.said().contains("error.log"), "{}", watch.said());
    assert_eq!(nginx.conf(), before);

    // With the cause gone the next change is taken.
    std::fs::remove_dir(&log).unwrap();
    let _on_c = site.start(&c).await;
    follows(&nginx, &[&a, &b, &c]).await;
    let user = User::new(a.tcp, "alice").await;
    land_on(nginx.address(), &user, &["node-a", "node-b", "node-c"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_that_serve_can_be_rendered() {
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node("node-a"), site.node("node-b"));
    let render = || {
        let config = a.path();
        let args = ["nginx", "render", "--live", "--config", config.to_str().unwrap()];
        Command::new(env!("CARGO_BIN_EXE_switchboard")).env_clear().args(args).output().unwrap()
    };
    let refused = render();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("start a node first"), "{refused:?}");
    let (_on_a, on_b) = (site.start(&a).await, site.start(&b).await);
    assert_eq!(nodes_in(&String::from_utf8(render().stdout).unwrap()), BTreeSet::from([a.tcp, b.tcp]));
    let mut on_b = on_b;
    on_b.terminate();
    on_b.ended().await;
    assert_eq!(nodes_in(&String::from_utf8(render().stdout).unwrap()), BTreeSet::from([a.tcp]));
}
