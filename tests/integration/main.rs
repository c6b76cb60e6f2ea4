//! Tests against real servers and real sockets.

#[cfg(feature = "redis")]
mod bus;
mod harness;
