//! What Switchboard promises, tested through its public surface.

#[allow(missing_docs, unreachable_pub)]
mod harness;

mod config;
mod layers;
mod nginx;
