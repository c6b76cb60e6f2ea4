//! The promises, kept by real processes.

mod store;
