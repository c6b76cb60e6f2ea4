use std::path::PathBuf;

use super::{StoreError, StoreErrorKind};

/// Which database a `store.url` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// SQLite in memory.
    Memory,
    /// A SQLite file.
    File(PathBuf),
}

impl Location {
    /// Reads a `store.url`.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        if url == "memory:" {
            return Ok(Self::Memory);
        }
        match url.strip_prefix("sqlite://") {
            // A file name with a question mark is more likely the options of another program's URL.
            Some(path) if !path.is_empty() && !path.contains('?') => Ok(Self::File(path.into())),
            _ => Err(StoreError::new(
                StoreErrorKind::Config,
                format!(
                    "store.url = \"{url}\": use sqlite://path/to/file.db, \
                     or memory: for a log that is gone with the process"
                ),
            )),
        }
    }
}
