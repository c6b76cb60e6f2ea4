//! Switchboard: a chat cluster whose inter-node message bus is pluggable.
//!
//! Start with `docs/ARCHITECTURE.md` for the map. [`bus::MessageBus`] and [`model::store::Store`] are the two boundaries that have more than one
//! implementation.

pub mod bench;
pub mod bus;
pub mod cli;
pub mod client;
pub mod duration;
pub mod model;
pub mod protocol;
pub mod server;
