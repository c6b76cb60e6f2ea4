//! The store contract on both kinds of SQLite, and what is particular to it.

mod checkpoints;
mod earlier;
mod plans;
mod refusals;
mod writes;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::model::store::contract::FreshLog;
use crate::model::store::{Store, StoreError, open};
use crate::store_contract;

/// A log in memory. Its nodes are in this process and share one store.
#[derive(Default)]
struct MemoryLog(OnceCell<Arc<dyn Store>>);

#[async_trait]
impl FreshLog for MemoryLog {
    async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.0.get_or_try_init(|| open("memory:")).await.cloned()
    }
}

/// A log in a file of its own.
struct FileLog(TempDir);

impl FileLog {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("log.db")
    }
}

#[async_trait]
impl FreshLog for FileLog {
    async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        open(&format!("sqlite://{}", self.path().display())).await
    }
}

store_contract!(memory, MemoryLog::default());
store_contract!(sqlite, FileLog::new());
