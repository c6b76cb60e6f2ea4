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
    /// How long a node that drains goes on for its sessions before it sends them away.
    #[serde(with = "crate::duration")]
    pub drain_notice: Duration,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            id: NodeId::new("node-a").expect("a valid id"),
            advertise: String::new(),
            weight: 1,
            drain_notice: Duration::from_secs(3),
        }
    }
}

impl NodeConfig {
    /// Checks what the types cannot. Returns (key, what is allowed).
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if !(1..=100).contains(&self.weight) {
            problems.push(("weight", format!("must be between 1 and 100, not {}", self.weight)));
        }
        if self.advertise.len() > 253 || self.advertise.contains(|c: char| c.is_whitespace() || c.is_control()) {
            problems.push(("advertise", "must be a host name or an address without a port, or empty".to_owned()));
        }
        if self.drain_notice > Duration::from_secs(60) {
            let given = humantime::format_duration(self.drain_notice);
            problems.push(("drain_notice", format!("must be at most 1m, not {given}")));
        }
        problems
    }
}

/// `[listen]`: where the node accepts connections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// JSON lines over TCP.
    pub tcp: SocketAddr,
    /// Health, metrics and WebSocket over HTTP.
    pub http: SocketAddr,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self { tcp: SocketAddr::from(([127, 0, 0, 1], 6000)), http: SocketAddr::from(([127, 0, 0, 1], 7000)) }
    }
}

impl ListenConfig {
    /// Checks what the types cannot. Returns (key, what is allowed).
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        if self.tcp == self.http && self.tcp.port() != 0 {
            return vec![("http", format!("must differ from listen.tcp; both are {}", self.tcp))];
        }
        Vec::new()
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

impl ClusterConfig {
    /// Checks what the types cannot. Returns (key, what is allowed).
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let fits = (1..=32).contains(&self.name.len());
        if fits && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return Vec::new();
        }
        vec![("name", format!("must be 1 to 32 characters of A-Z a-z 0-9 _ -, not `{}`", self.name))]
    }
}

/// `[chat]`: who may do what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChatConfig {
    /// Only friends may write to each other directly.
    pub require_friends: bool,
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

impl AuthConfig {
    /// Checks what the types cannot. Returns (key, what is allowed).
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if !(Duration::from_secs(60)..=Duration::from_secs(3650 * 24 * 3600)).contains(&self.token_ttl) {
            problems.push(("token_ttl", "must be between 1m and 3650days".to_owned()));
        }
        if !(1..=16).contains(&self.argon2_lanes) {
            problems.push(("argon2_lanes", format!("must be between 1 and 16, not {}", self.argon2_lanes)));
        }
        // Argon2 needs 8 KiB per lane.
        let least = self.argon2_lanes.clamp(1, 16) * 8;
        if !(least..=4 * 1024 * 1024).contains(&self.argon2_memory_kib) {
            let message = format!("must be between {least} and 4194304, not {}", self.argon2_memory_kib);
            problems.push(("argon2_memory_kib", message));
        }
        if !(1..=100).contains(&self.argon2_passes) {
            problems.push(("argon2_passes", format!("must be between 1 and 100, not {}", self.argon2_passes)));
        }
        if self.argon2_parallel > 1024 {
            problems.push(("argon2_parallel", format!("must be between 0 and 1024, not {}", self.argon2_parallel)));
        }
        problems
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

impl LimitsConfig {
    /// Checks what the types cannot. Returns (key, what is allowed).
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let times = [("login_timeout", self.login_timeout), ("idle", self.idle), ("slow_after", self.slow_after)];
        for (key, time) in times {
            if !(Duration::from_secs(1)..=Duration::from_secs(24 * 3600)).contains(&time) {
                let message = format!("must be between 1s and 24h, not {}", humantime::format_duration(time));
                problems.push((key, message));
            }
        }
        if !(ByteSize::kib(16)..=ByteSize::mib(64)).contains(&self.outbox) {
            problems.push(("outbox", format!("must be between 16 KiB and 64 MiB, not {}", self.outbox)));
        }
        if !(1..=100_000).contains(&self.sessions_per_user) {
            problems
                .push(("sessions_per_user", format!("must be between 1 and 100000, not {}", self.sessions_per_user)));
        }
        if !(1..=1000).contains(&self.failed_logins) {
            problems.push(("failed_logins", format!("must be between 1 and 1000, not {}", self.failed_logins)));
        }
        if self.requests_per_second == 0 {
            problems.push(("requests_per_second", "must be 1 or more".to_owned()));
        }
        problems
    }
}
