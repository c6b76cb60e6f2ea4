//! What Switchboard promises, tested through its public surface and with real processes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

#[allow(missing_docs, unreachable_pub)]
mod harness;

mod config;
mod layers;
mod nginx;
mod store;
