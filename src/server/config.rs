//! The sections of the config that belong to the server.

use std::net::SocketAddr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::model::NodeId;

/// `[node]`: who this node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Its name, unique in the cluster.
    pub id: NodeId,
    /// The host by which the balancer reaches it; empty: the host of `listen.tcp`.
    pub advertise: String,
    /// Its share of new connections, 1 to 100.
    pub weight: u32,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { id: NodeId::new("node-a").expect("a valid id"), advertise: String::new(), weight: 1 }
    }
}

/// `[listen]`: where the node accepts connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// JSON lines over TCP.
    pub tcp: SocketAddr,
    /// Health and metrics over HTTP.
    pub http: SocketAddr,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self { tcp: SocketAddr::from(([127, 0, 0, 1], 6000)), http: SocketAddr::from(([127, 0, 0, 1], 7000)) }
    }
}

/// `[cluster]`: which cluster this node belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// The first segments of every bus subject, with the cluster's id behind it: 1 to 32 of A-Z a-z 0-9 _ -
    pub name: String,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { name: "switchboard".to_owned() }
    }
}

/// `[auth]`: passwords and tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// How long a session token is good for.
    #[serde(with = "crate::duration")]
    pub token_ttl: Duration,
    /// Argon2id: memory per hash, in KiB.
    pub argon2_memory_kib: u32,
    /// Argon2id: passes over the memory.
    pub argon2_passes: u32,
    /// Argon2id: lanes.
    pub argon2_lanes: u32,
    /// How many passwords are hashed at the same time; 0: one per core.
    pub argon2_parallel: usize,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            token_ttl: Duration::from_secs(30 * 24 * 3600),
            argon2_memory_kib: 19 * 1024,
            argon2_passes: 2,
            argon2_lanes: 1,
            argon2_parallel: 0,
        }
    }
}

/// `[limits]`: what one client may cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// A connection must log in within this time.
    #[serde(with = "crate::duration")]
    pub login_timeout: Duration,
    /// A client that sends nothing for this long is closed (`idle`).
    #[serde(with = "crate::duration")]
    pub idle: Duration,
    /// A client that reads nothing for this long while frames wait for it is closed (`slow`).
    #[serde(with = "crate::duration")]
    pub slow_after: Duration,
    /// How much may wait for one client before its events are dropped and fetched from the log later.
    pub outbox: ByteSize,
    /// How many sessions one user may have on one node.
    pub sessions_per_user: usize,
    /// How many logins may fail on one connection before it is closed (`rate_limited`).
    pub failed_logins: u32,
    /// How many requests one session may make in a second, over which they are refused (`rate_limited`).
    pub requests_per_second: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            login_timeout: Duration::from_secs(10),
            idle: Duration::from_secs(90),
            slow_after: Duration::from_secs(30),
            outbox: ByteSize::kib(256),
            sessions_per_user: 64,
            failed_logins: 5,
            requests_per_second: 50_000,
        }
    }
}
