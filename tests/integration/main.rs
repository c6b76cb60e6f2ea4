//! What Switchboard promises, tested through its public surface and with real processes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

#[cfg(feature = "redis")]
mod bus;
mod chat;
mod config;
mod harness;
mod layers;
mod nginx;
mod store;
