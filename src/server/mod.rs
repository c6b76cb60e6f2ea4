//! The chat server: one node of the cluster.

mod cluster;
mod config;
mod core;
mod flow;
mod front;
mod http;
mod node;
#[cfg(test)]
mod scene;
mod service;

pub use cluster::ClaimError;
pub use config::{AuthConfig, ChatConfig, ClusterConfig, LimitsConfig, ListenConfig, NodeConfig};
pub use node::{Node, NodeBuilder, NodeOnLog, StartError};
pub use service::hash_password;
