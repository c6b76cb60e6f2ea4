//! What Switchboard promises, tested through its public surface and with real processes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod backends_page;
mod bad_input;
#[cfg(feature = "redis")]
mod balancer;
#[cfg(feature = "redis")]
mod bench_bus;
mod bus;
mod chat;
mod config;
mod containers;
mod deaf;
mod degraded;
mod dependencies;
#[cfg(any(feature = "rabbitmq", feature = "kafka", feature = "mqtt", feature = "nats"))]
mod every_broker;
#[cfg(feature = "redis")]
mod faults;
#[cfg(feature = "redis")]
mod fenced;
#[cfg(feature = "redis")]
mod following;
mod groups;
mod harness;
mod keys;
mod layers;
mod login;
mod nginx;
mod operator;
mod path_model;
mod protocol_page;
mod python;
mod races;
mod resume;
#[cfg(feature = "redis")]
mod serve;
mod slow_reader;
mod store;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod store_docker;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod store_servers;
#[cfg(feature = "redis")]
mod subjects;
mod wire;
