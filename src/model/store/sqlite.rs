//! The log on SQLite.

/// skeleton, replaced soon
#[derive(Debug)]
pub(super) struct SqliteStore;
