//! The sockets of a node and the sessions behind them.

mod connection;
mod dialogue;
mod listener;
mod outbox;
mod rate;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use listener::run as run_listener;
pub(crate) use outbox::Outbox;
