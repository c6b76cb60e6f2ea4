use std::time::Duration;

use super::{Location, StoreError};
use crate::model::Millis;

/// What a look at a log has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Examination {
    /// It is in memory, and gone with its process: there is nothing to look at.
    Fleeting,
    /// It does not exist yet; the first node makes it, and can.
    Missing,
    /// It was made by an older version. The next node that starts brings it up to date, so nothing was written.
    Old {
        /// How many migrations it has.
        applied: usize,
        /// How many it lacks.
        pending: usize,
    },
    /// It is up to date, and was read and written.
    Current {
        /// How many migrations it has.
        applied: usize,
        /// How many users are registered.
        users: u64,
        /// The database's clock.
        now: Millis,
        /// How long a small transaction took to be on disk.
        commit: Duration,
    },
}

/// Looks at the log that `url` names without changing what it holds: neither makes nor migrates it. Kinds of error are
/// those of [`open`](super::open).
pub async fn examine(url: &str) -> Result<Examination, StoreError> {
    Location::parse(url)?.examine(url).await
}

/// Tells whether the log that `url` names exists, so that it need not be made to be asked.
pub async fn exists(url: &str) -> Result<bool, StoreError> {
    match Location::parse(url)? {
        Location::Memory => Ok(false),
        Location::File(path) => Ok(tokio::fs::metadata(&path).await.is_ok()),
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        server => Ok(!matches!(server.examine(url).await?, Examination::Old { applied: 0, .. })),
    }
}
