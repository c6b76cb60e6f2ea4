//! The life of a node among others: its lease, which users are on it, whether it hears the bus, and what it does for
//! all of them.

mod announcer;
mod canary;
mod health;
mod holder;
mod lease;
mod presence;
mod retention;
#[cfg(test)]
mod tests;

pub(crate) use announcer::Announcer;
pub(crate) use health::Health;
pub use lease::ClaimError;
pub(crate) use lease::{Lease, claim, release};
pub(crate) use presence::PresenceBook;
pub(crate) use {
    announcer::run as run_announcer, canary::run as run_canary, health::run as run_health, lease::run as run_lease,
    presence::run as run_presence, retention::run as run_retention,
};
