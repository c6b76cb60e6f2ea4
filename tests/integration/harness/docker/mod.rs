//! Real servers in containers, where a Docker daemon answers. They come in addition to the programs of this machine, not
//! instead of them.

mod brokers;
mod container;
mod daemon;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod databases;
pub(crate) mod images;
mod reaper;
mod recipe;

pub(crate) use brokers::*;
pub(crate) use container::Container;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) use databases::*;

/// Says that a case is skipped, or fails it where Docker is required.
fn skip(why: &str) {
    let required = std::env::var_os("REQUIRE_DOCKER").is_some_and(|value| value != "0" && !value.is_empty());
    assert!(!required, "REQUIRE_DOCKER is set, and {why}");
    eprintln!("SKIPPED: {why}");
}
