//! What Switchboard promises, tested through its public surface and with real processes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

#[cfg(feature = "redis")]
mod bus;
mod chat;
mod config;
mod containers;
mod groups;
mod harness;
mod keys;
mod layers;
mod nginx;
mod operator;
mod protocol_page;
mod python;
mod resume;
mod store;
