//! The chat server: one node of the cluster.

mod config;

pub use config::{AuthConfig, ClusterConfig, LimitsConfig, ListenConfig, NodeConfig};
