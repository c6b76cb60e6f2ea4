//! The balancer in front of the nodes: what it is told, its config as text, and how that follows the cluster.

mod address;
mod config;
pub mod nginx;
pub(crate) mod page;
mod roster;
mod watch;

pub use address::{InvalidNodeAddress, NodeAddress};
pub use config::{Balance, EdgeConfig, EdgeNode};
pub use roster::live_nodes;
pub use watch::Watch;
