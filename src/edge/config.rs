use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::NodeAddress;

/// `[edge]`: the balancer in front of the nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeConfig {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The nodes behind it.
    pub nodes: Vec<EdgeNode>,
    /// Which node a new client goes to.
    pub balance: Balance,
    /// A connection over which nothing passes for this long is closed.
    #[serde(with = "crate::duration")]
    pub proxy_timeout: Duration,
    /// Connections of one worker process; a client takes two, one on either side.
    pub worker_connections: u32,
}

/// A node behind the balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeNode {
    /// Its TCP port, as the balancer reaches it.
    pub address: NodeAddress,
    /// Its share of new clients, 1 to 100.
    #[serde(default = "one")]
    pub weight: u32,
}

/// Which node a new client goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest clients.
    LeastConn,
    /// Always the same for one client address, as long as that node lives.
    Hash,
}

fn one() -> u32 {
    1
}

impl Default for EdgeConfig {
    fn default() -> Self {
        let node = |port| EdgeNode {
            address: NodeAddress::new(&format!("127.0.0.1:{port}")).expect("a host and a port"),
            weight: 1,
        };
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            nodes: vec![node(6000), node(6002)],
            balance: Balance::RoundRobin,
            proxy_timeout: Duration::from_secs(600),
            worker_connections: 16_384,
        }
    }
}

impl EdgeConfig {
    /// Checks what the types cannot. Returns (key, what is allowed).
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.listen.port() == 0 {
            problems.push(("listen", "must name a port between 1 and 65535".to_owned()));
        }
        if !(1..=1000).contains(&self.nodes.len()) {
            problems.push(("nodes", format!("must name between 1 and 1000 nodes, not {}", self.nodes.len())));
        }
        let mut seen = HashSet::new();
        for node in &self.nodes {
            if !seen.insert(&node.address) {
                problems.push(("nodes", format!("names {} twice; give each node one entry", node.address)));
            }
            if !(1..=100).contains(&node.weight) {
                let message = format!("the weight of {} must be between 1 and 100, not {}", node.address, node.weight);
                problems.push(("nodes", message));
            }
        }
        let day = Duration::from_secs(24 * 3600);
        if !(Duration::from_secs(1)..=day).contains(&self.proxy_timeout) {
            problems.push(("proxy_timeout", "must be between 1s and 24h".to_owned()));
        }
        if !(64..=1_000_000).contains(&self.worker_connections) {
            let message = format!("must be between 64 and 1000000, not {}", self.worker_connections);
            problems.push(("worker_connections", message));
        }
        problems
    }
}
