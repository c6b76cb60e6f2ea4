//! Real servers for tests: each on a free port, with its data in a temporary folder, ended with the test that started
//! it.

#![cfg_attr(
    not(all(
        feature = "redis",
        feature = "rabbitmq",
        feature = "kafka",
        feature = "mqtt",
        feature = "nats",
        feature = "postgres",
        feature = "mysql"
    )),
    allow(dead_code, unused_imports, reason = "much of it is for servers that only some builds have tests for")
)]

use std::time::Duration;

#[cfg(feature = "mqtt")]
pub(crate) mod activemq;
pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod docker;
mod eventually;
mod http;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
mod kept;
#[cfg(feature = "mqtt")]
pub(crate) mod mosquitto;
#[cfg(feature = "mqtt")]
pub(crate) mod mqtt;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "nats")]
pub(crate) mod nats;
pub(crate) mod nginx;
mod ports;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "redis")]
pub(crate) mod process;
#[cfg(feature = "rabbitmq")]
pub(crate) mod rabbitmq;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod server;
mod user;
mod wire;

pub(crate) use cluster::{on_any_bus, on_each_bus};
pub(crate) use eventually::eventually;
pub(crate) use http::{get, metric};
pub(crate) use ports::free_port;
pub(crate) use user::{PASSWORD, Sent, User, register};
pub(crate) use wire::{ANY, Wire, fits};

/// How long anything that must happen may take: generous for a busy machine, and never a test of speed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Says loudly that a case is skipped, or fails it where brokers are required.
pub(crate) fn skip(what: &str, get: &str) {
    let required = std::env::var_os("REQUIRE_BROKERS").is_some_and(|value| value != "0" && !value.is_empty());
    assert!(!required, "REQUIRE_BROKERS is set and there is no {what}; get it: {get}");
    eprintln!("SKIPPED: there is no {what}; get it: {get}");
}
