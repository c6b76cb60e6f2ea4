//! The life of a node among others: its lease, which users are on it, and whether it hears the bus.

mod health;
mod holder;
mod lease;
mod presence;

pub(crate) use health::Health;
pub use lease::ClaimError;
pub(crate) use lease::{Lease, claim, release};
pub(crate) use presence::PresenceBook;
pub(crate) use {health::run as run_health, lease::run as run_lease, presence::run as run_presence};
