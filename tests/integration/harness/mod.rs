//! Real servers for tests: each on a free port, with its data in a temporary folder, ended with the test that started
//! it.

#![cfg_attr(not(feature = "redis"), allow(dead_code, unused_imports, reason = "only the tests of Redis use all of it"))]

#[cfg(feature = "redis")]
pub(crate) mod broker;
pub(crate) mod cluster;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod database;
mod eventually;
mod http;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
pub(crate) mod nginx;
mod ports;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "redis")]
pub(crate) mod process;
#[cfg(feature = "redis")]
pub(crate) mod redis;
mod user;
mod wire;

pub(crate) use cluster::{on_any_bus, on_each_bus};
pub(crate) use eventually::eventually;
pub(crate) use http::{get, metric};
pub(crate) use ports::free_port;
pub(crate) use user::{PASSWORD, Sent, User, register};
pub(crate) use wire::{ANY, Wire, fits};

/// Says loudly that a case is skipped, or fails it where brokers are required.
pub(crate) fn skip(what: &str, get: &str) {
    let required = std::env::var_os("REQUIRE_BROKERS").is_some_and(|value| value != "0" && !value.is_empty());
    assert!(!required, "REQUIRE_BROKERS is set and there is no {what}; get it: {get}");
    eprintln!("SKIPPED: there is no {what}; get it: {get}");
}
