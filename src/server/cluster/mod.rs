//! The life of a node among others: its lease, which users are on it, whether it hears the bus, and what it does for
//! all of them.

mod announcer;
mod canary;
mod claim;
mod clock;
mod drain;
mod fencing;
mod health;
mod holder;
mod lease;
mod neighbours;
mod presence;
mod retention;
#[cfg(test)]
mod tests;

pub(crate) use announcer::Announcer;
pub use claim::ClaimError;
pub(crate) use drain::{Farewell, send_away};
pub(crate) use health::Health;
pub(crate) use lease::{Lease, claim, release};
pub(crate) use presence::PresenceBook;
pub(crate) use {
    announcer::run as run_announcer, canary::run as run_canary, fencing::run as run_fencing, health::run as run_health,
    lease::run as run_lease, presence::run as run_presence, retention::run as run_retention,
};
