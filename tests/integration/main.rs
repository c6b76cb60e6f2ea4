//! The promises, kept by real processes.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

mod store;
