//! Real programs to test against.

pub mod nginx;
