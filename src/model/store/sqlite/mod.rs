//! The log on SQLite: in a file, for the nodes of one machine, or in memory.
//!
//! Each method is one query string, or two for a transaction that decides something in between, because every trip to a
//! connection's thread costs as much as a small statement. Batches travel as one JSON array.

mod accounts;
mod append;
mod blocks;
mod checkpoint;
mod connections;
mod directs;
mod entries;
mod examine;
mod failure;
mod file_lock;
mod friends;
mod groups;
mod heads;
mod memberships;
mod nodes;
mod open;
mod presence;
mod pruning;
mod readers;
mod row;
#[cfg(test)]
mod standstill;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::forward::implement_store;
use super::{Meta, StoreError};
use super::{decode, resolve};
use connections::Connections;

pub(super) use examine::examine;

/// A log on SQLite. Dropping it stops its background task; [`Store::close`](super::Store::close) also waits for what is running.
#[derive(Debug)]
pub(super) struct SqliteStore {
    meta: Meta,
    connections: Arc<Connections>,
    checkpointer: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl SqliteStore {
    /// Opens a new log in memory.
    pub(super) async fn in_memory() -> Result<Self, StoreError> {
        let (connection, meta) = open::in_memory().await?;
        Ok(Self::new(meta, Connections::in_memory(connection)))
    }

    /// Opens the log in a file, and creates it when it is missing.
    pub(super) async fn in_file(path: &Path) -> Result<Self, StoreError> {
        let (connection, meta, path, lock) = open::in_file(path).await?;
        let cannot = |error| failure::store_error("opening the log a second time", error);
        let own = checkpoint::connect(&path).await.map_err(cannot)?;
        let mut store = Self::new(meta, Connections::in_file(connection, path, lock));
        let task = checkpoint::run(Arc::clone(&store.connections), own, store.stop.clone());
        *store.checkpointer.get_mut() = Some(tokio::spawn(task));
        Ok(store)
    }

    fn new(meta: Meta, connections: Connections) -> Self {
        let stop = CancellationToken::new();
        let _stop_on_drop = stop.clone().drop_guard();
        Self { meta, connections: Arc::new(connections), checkpointer: Mutex::default(), stop, _stop_on_drop }
    }
}

implement_store!(SqliteStore);

impl SqliteStore {
    async fn shut(&self) {
        self.stop.cancel();
        if let Some(checkpointer) = self.checkpointer.lock().await.take()
            && let Err(error) = checkpointer.await
        {
            tracing::error!(%error, "the checkpointer of the log has failed");
        }
        self.connections.close().await;
    }
}
