use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{ConnectOptions, SqliteConnection};
use tokio_util::sync::CancellationToken;

use super::connections::{Ask, Connections, close, fetch_sets, file_options};
use super::decode::integer;
use super::failure::store_error;
use crate::model::store::StoreError;

/// How long written pages wait to be copied into the database. Copying them inside the appender's commits would make
/// the tail of its latency.
const PAUSE: Duration = Duration::from_millis(50);

/// How many pages the write-ahead log may have before writers are held up to start it anew: 64 MiB of 4 KiB pages.
/// Under steady load it never starts anew by itself, because there is always somebody reading its end. The file keeps
/// its size: commits into a file that grows cost more, and shortening it held up the writers for 30 ms (measured).
const MAX_LOG_PAGES: i64 = 64 * 256;

/// How long writers are held up at most, and how long they are left alone after that if a reader prevented it.
const PATIENCE: Duration = Duration::from_millis(200);
const LEAVE_ALONE: Duration = Duration::from_secs(1);

/// Opens the connection that checkpoints.
pub(super) async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    file_options(path).busy_timeout(PATIENCE).connect().await
}

/// Copies what was written from the write-ahead log into the database until it is stopped.
pub(super) async fn run(connections: Arc<Connections>, mut own: SqliteConnection, stop: CancellationToken) {
    while stop.run_until_cancelled(wait(&connections)).await.is_some() {
        if let Err(error) = checkpoint(&connections, &mut own, MAX_LOG_PAGES).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot checkpoint the log");
        }
    }
    close(own).await;
}

async fn wait(connections: &Connections) {
    connections.written.notified().await;
    tokio::time::sleep(PAUSE).await;
}

/// Copies once, and starts the write-ahead log anew when it has more pages than that.
pub(super) async fn checkpoint(
    connections: &Connections,
    own: &mut SqliteConnection,
    max_log_pages: i64,
) -> Result<(), StoreError> {
    let (_, pages) = run_pragma(own, sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")).await?;
    if pages > max_log_pages {
        let ask = sqlx::query("PRAGMA wal_checkpoint(RESTART)");
        let (busy, _) = connections.without_writers(run_pragma(own, ask)).await??;
        if busy {
            tokio::time::sleep(LEAVE_ALONE).await;
        }
    }
    Ok(())
}

/// Returns whether somebody was in the way, and how many pages are in the write-ahead log.
async fn run_pragma(own: &mut SqliteConnection, ask: Ask) -> Result<(bool, i64), StoreError> {
    let sets = fetch_sets(own, ask).await.map_err(|error| store_error("checkpointing the log", error))?;
    let row = &sets[0][0];
    Ok((integer(row, 0)? != 0, integer(row, 1)?))
}
