//! The sockets of a node and the sessions behind them.

mod connection;
mod dialogue;
mod framing;
mod listener;
mod outbox;
mod rate;
mod session;
#[cfg(test)]
mod tests;
mod websocket;

pub(crate) use listener::{accept, listen, run as run_listener};
pub(crate) use outbox::Outbox;
pub(crate) use websocket::run as run_websocket;
