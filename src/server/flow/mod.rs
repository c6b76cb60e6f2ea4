//! The message path: socket > appender > log > timelines of this node, and router > bus > inbox > timelines of other
//! nodes.
//!
//! State comes first: a message is answered and passed on only after its transaction has committed. Everything behind
//! the commit may fail; the repair task makes it good from the log.

mod addressing;
mod adopt;
pub(crate) mod appender;
mod audit;
mod catch_up;
mod envelope;
mod gate;
pub(crate) mod inbox;
mod local;
mod mend;
mod news;
mod notice;
pub(crate) mod repair;
pub(crate) mod router;
pub(crate) mod subscriptions;
mod sweep;
#[cfg(test)]
mod tests;
mod timeline;
mod timelines;

pub(crate) use appender::{Answer, Appender, Post, Posted};
pub(crate) use catch_up::{CATCH_UP_RETRY, PageSize, catch_up, come_back};
pub(crate) use envelope::{Origin, Packet};
pub(crate) use gate::CommitGate;
pub(crate) use local::{LocalSession, Locals, SessionNumber};
pub(crate) use notice::{Audience, Notice, Told, notify};
pub(crate) use repair::Repairs;
pub(crate) use router::{Router, Work};
pub(crate) use subscriptions::{Address, Hold, Subscriptions};
pub(crate) use timeline::{Entry, Release};
pub(crate) use timelines::Timelines;
