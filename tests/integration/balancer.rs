//! The whole of it: two real nodes on one log and a real Redis, behind the real Nginx.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use switchboard::model::ConversationId;
use switchboard::model::store::Range;
use tokio::time::timeout;

use crate::harness::nginx::Nginx;
use crate::harness::process::{NodeFile, Site};
use crate::harness::{DEADLINE, User, Wire, eventually};

/// Runs Nginx on what the program prints for two nodes.
async fn balance(nodes: [&NodeFile; 2]) -> Option<Nginx> {
    Nginx::start(|prefix, listen| {
        let nodes = nodes.map(|node| format!("{{ address = \"{}\" }}", node.tcp)).join(", ");
        let config = format!("edge.listen = \"{listen}\"\nedge.nodes = [{nodes}]\nedge.worker_connections = 256\n");
        let path = std::path::Path::new(prefix).join("edge.toml");
        std::fs::write(&path, config).expect("write a config");
        let rendered = Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .env_clear()
            .args(["nginx", "render", "--prefix", prefix, "--config"])
            .arg(&path)
            .output()
            .expect("the program starts");
        assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
        String::from_utf8(rendered.stdout).expect("a config in UTF-8")
    })
    .await
}

/// A member that only listens, comes back when its node goes, and has everything in the end.
struct Listener {
    user: User,
    has: u64,
    lives: BTreeSet<String>,
}

impl Listener {
    /// Reads on. Returns whether a message came; otherwise the connection was lost and is there again.
    async fn listen(&mut self, edge: SocketAddr, group: u64) -> bool {
        loop {
            let Some(frame) = self.user.hear_any().await else {
                let since = json!({group.to_string(): self.has});
                self.user = reconnect(&self.user, edge, since).await;
                self.lives.insert(self.user.node.clone());
                return false;
            };
            match frame["type"].as_str() {
                Some("message") => {
                    assert_eq!(frame["seq"], self.has + 1, "{} in {frame}", self.user.name);
                    self.has += 1;
                    return true;
                }
                Some("caught_up") => assert_eq!(frame["more"], json!([])),
                Some("degraded" | "restored") => {}
                _ => panic!("{frame}"),
            }
        }
    }
}

/// Connects again until a node answers, as clients do: the balancer may pass a connection to a node that dies with it.
async fn reconnect(user: &User, edge: SocketAddr, since: Value) -> User {
    let login = json!({"type": "login", "token": user.token, "since": since});
    let connecting = async {
        loop {
            if let Some(user) = User::try_welcomed(Wire::connect(edge).await, login.clone()).await {
                return user;
            }
        }
    };
    timeout(DEADLINE, connecting).await.expect("a node answers in time")
}

/// Says one thing after the other, each until it is acknowledged, wherever and however often that takes.
async fn speak(mut user: User, edge: SocketAddr, group: u64, count: u64) -> User {
    let mut seq = 0;
    for number in 0..count {
        let send = json!({"type": "send", "key": number.to_string(), "conversation": group, "body": user.name});
        let line = format!("{send}\n");
        let mut acknowledged = user.try_say_bytes(line.as_bytes()).await;
        loop {
            let frame = if acknowledged { user.hear_any().await } else { None };
            match frame {
                Some(frame) if frame["type"] == "sent" => {
                    let this = frame["seq"].as_u64().unwrap();
                    assert!(seq < this, "{frame} after {seq}");
                    seq = this;
                    break;
                }
                Some(_) => {}
                None => {
                    user = reconnect(&user, edge, json!({group.to_string(): 1_000_000})).await;
                    acknowledged = user.try_say_bytes(line.as_bytes()).await;
                }
            }
        }
    }
    user
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_land_on_both_nodes_and_outlive_one_of_them() {
    const EACH: u64 = 300;
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node("node-a"), site.node("node-b"));
    let (killed, _staying) = (site.start(&a).await, site.start(&b).await);
    let Some(nginx) = balance([&a, &b]).await else { return };
    let edge = nginx.address();

    let mut founder = User::new(edge, "founder").await;
    let group = founder.found("everybody").await;
    let (mut listeners, mut speakers) = (Vec::new(), Vec::new());
    for number in 0..8 {
        let mut user = User::new(edge, &format!("user-{number}")).await;
        let has = user.join(group).await;
        if number < 4 {
            let lives = BTreeSet::from([user.node.clone()]);
            listeners.push(Listener { user, has, lives });
        } else {
            speakers.push(user);
        }
    }
    let homes: BTreeSet<&str> = listeners.iter().map(|listener| listener.user.node.as_str()).collect();
    assert_eq!(homes, BTreeSet::from(["node-a", "node-b"]));

    let head = 8 + 4 * EACH;
    let heard = Arc::new(AtomicU64::new(0));
    let listening: Vec<_> = listeners
        .into_iter()
        .map(|mut listener| {
            let heard = Arc::clone(&heard);
            tokio::spawn(async move {
                while listener.has < head {
                    if listener.listen(edge, group).await {
                        heard.fetch_add(1, Ordering::AcqRel);
                    }
                }
                listener
            })
        })
        .collect();
    let speaking: Vec<_> = speakers.into_iter().map(|user| tokio::spawn(speak(user, edge, group, EACH))).collect();
    eventually("there is traffic", DEADLINE, || async { heard.load(Ordering::Acquire) > 400 }).await;
    killed.kill();
    for speaker in speaking {
        assert_eq!(speaker.await.unwrap().node, "node-b", "whoever lost their node is on the other");
    }
    let mut moved = 0;
    for listener in listening {
        let listener = listener.await.unwrap();
        assert_eq!(listener.user.node, "node-b");
        moved += usize::from(listener.lives.len() == 2);
    }
    assert!(moved > 0, "somebody had to move");

    // New clients notice nothing, and the log has every message once.
    for number in 0..4 {
        assert_eq!(User::new(edge, &format!("new-{number}")).await.node, "node-b");
    }
    let log = site.log().await;
    let range = Range { conversation: ConversationId::new(group).unwrap(), after: 8, until: head + 1 };
    let messages = log.messages(&[range], 1_000_000).await.unwrap();
    assert_eq!(messages.len() as u64, 4 * EACH);
    let keys: BTreeSet<(u64, String)> =
        messages.iter().map(|message| (message.from.get(), message.key.as_str().to_owned())).collect();
    assert_eq!(keys.len(), messages.len());
    log.close().await;
}
