//! The balancer in front of the nodes: what it is told, and its config as text.

mod address;
mod config;
pub mod nginx;

pub use address::{InvalidNodeAddress, NodeAddress};
pub use config::{Balance, EdgeConfig, EdgeNode};
