use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryStreamExt};
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Either, Executor, Sqlite, SqliteConnection};
use tokio::sync::{Mutex, Notify};

use super::failure::{Failure, store_error};
use super::file_lock::{FileLock, Held};
use super::readers::Readers;
use crate::model::store::{StoreError, StoreErrorKind};

/// One query string with its binds; `$1` is the first bind in every statement of the string.
pub(super) type Ask = sqlx::query::Query<'static, Sqlite, SqliteArguments>;

/// The rows of each statement of a query string, in order.
pub(super) type Sets = Vec<Vec<SqliteRow>>;

/// Runs a query string in one go: one trip to the connection's thread, however many statements it has.
pub(super) async fn fetch_sets(connection: &mut SqliteConnection, ask: Ask) -> Result<Sets, sqlx::Error> {
    let mut sets = vec![Vec::new()];
    let mut results = connection.fetch_many(ask);
    while let Some(result) = results.try_next().await? {
        match result {
            Either::Right(row) => sets.last_mut().expect("never empty").push(row),
            Either::Left(_) => sets.push(Vec::new()),
        }
    }
    sets.pop();
    Ok(sets)
}

/// The connections to one database: one that writes, a few that read. A database in memory has one for both.
#[derive(Debug)]
pub(super) struct Connections {
    /// Empty while a write runs, after a failure that could not be cleaned up, and when closed.
    writer: Mutex<Option<SqliteConnection>>,
    file: Option<Files>,
    closed: AtomicBool,
    /// Rings after every write.
    pub(super) written: Notify,
}

#[derive(Debug)]
struct Files {
    path: PathBuf,
    lock: FileLock,
    readers: Readers,
}

impl Connections {
    /// Takes the only connection to a database in memory.
    pub(super) fn in_memory(connection: SqliteConnection) -> Self {
        Self::new(connection, None)
    }

    /// Takes the writing connection to a file, and the lock of that file.
    pub(super) fn in_file(connection: SqliteConnection, path: PathBuf, lock: FileLock) -> Self {
        let readers = Readers::new(file_options(&path).pragma("query_only", "ON"));
        Self::new(connection, Some(Files { path, lock, readers }))
    }

    fn new(connection: SqliteConnection, file: Option<Files>) -> Self {
        Self { writer: Mutex::new(Some(connection)), file, closed: AtomicBool::new(false), written: Notify::new() }
    }

    /// Runs a query string that only reads.
    pub(super) async fn read(&self, what: &str, ask: Ask) -> Result<Sets, StoreError> {
        #[cfg(test)]
        let _clock = super::standstill::Standstill::begin();
        if let Some(file) = &self.file {
            return file.readers.fetch(what, ask).await;
        }
        let mut writer = self.writer.lock().await;
        let connection = writer.as_mut().ok_or_else(|| self.gone())?;
        fetch_sets(connection, ask).await.map_err(|error| store_error(what, error))
    }

    /// Runs a query string that is one transaction: a single statement, or `BEGIN IMMEDIATE; ..; COMMIT`.
    pub(super) async fn write(self: &Arc<Self>, what: &'static str, ask: Ask) -> Result<Sets, StoreError> {
        let done = self.transaction(|connection| {
            fetch_sets(connection, ask).map(|result| result.map_err(Failure::Committing)).boxed()
        });
        done.await.map_err(|failure| failure.into_store_error(what))
    }

    /// Runs a job that begins and commits a transaction on the writing connection, under the lock of the file. Whatever
    /// a failed job leaves open is rolled back.
    ///
    /// The job runs in a task of its own: a caller that goes away does not stop it half-way.
    pub(super) async fn transaction<T, J>(self: &Arc<Self>, job: J) -> Result<T, Failure>
    where
        T: Send + 'static,
        J: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Failure>> + Send + 'static,
    {
        #[cfg(test)]
        let _clock = super::standstill::Standstill::begin();
        let this = Arc::clone(self);
        let running = tokio::spawn(async move { this.run(job).await });
        running.await.unwrap_or_else(|error| {
            let context = "the write was broken off and may have happened; call again to find out";
            Err(StoreError::new(StoreErrorKind::OutcomeUnknown, context).caused_by(error).into())
        })
    }

    async fn run<T, J>(&self, job: J) -> Result<T, Failure>
    where
        J: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, Failure>>,
    {
        let mut writer = self.writer.lock().await;
        let held = self.lock_file().await?;
        // Taken out, so that a job that panics takes the connection and its open transaction with it.
        let mut connection = match writer.take() {
            Some(connection) => connection,
            None => self.connect_again().await?,
        };
        let result = job(&mut connection).await;
        if result.is_ok() || roll_back(&mut connection).await {
            *writer = Some(connection);
        }
        drop(held);
        self.written.notify_one();
        result
    }

    /// Keeps every writer out, those of other processes too, for as long as `job` runs.
    pub(super) async fn without_writers<T>(&self, job: impl Future<Output = T>) -> Result<T, StoreError> {
        let _writer = self.writer.lock().await;
        let _held = self.lock_file().await?;
        Ok(job.await)
    }

    /// Waits for what is running and closes everything.
    pub(super) async fn close(&self) {
        #[cfg(test)]
        let _clock = super::standstill::Standstill::begin();
        self.closed.store(true, Ordering::Release);
        if let Some(connection) = self.writer.lock().await.take() {
            close(connection).await;
        }
        if let Some(file) = &self.file {
            file.readers.close().await;
        }
    }

    async fn lock_file(&self) -> Result<Option<Held>, StoreError> {
        let Some(file) = &self.file else { return Ok(None) };
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let held = file.lock.acquire().await.map_err(|error| {
            StoreError::new(StoreErrorKind::Unavailable, "the lock of the database cannot be taken; check its disk")
                .caused_by(error)
        })?;
        Ok(Some(held))
    }

    async fn connect_again(&self) -> Result<SqliteConnection, StoreError> {
        let file = self.file.as_ref().filter(|_| !self.closed.load(Ordering::Acquire)).ok_or_else(|| self.gone())?;
        let options = writer_options(&file.path).create_if_missing(false);
        options.connect().await.map_err(|error| store_error("opening the log again", error))
    }

    fn gone(&self) -> StoreError {
        if self.closed.load(Ordering::Acquire) {
            return closed();
        }
        StoreError::new(StoreErrorKind::Unavailable, "the log in memory was lost by a broken write; start again")
    }
}

/// Says that the store was closed.
pub(super) fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the log was closed; open it again")
}

/// Closes a connection; a failure costs nothing, the connection is gone either way.
pub(super) async fn close(connection: SqliteConnection) {
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "a database connection did not close cleanly");
    }
}

/// Returns how the writing connection to a file is opened.
pub(super) fn writer_options(path: &std::path::Path) -> SqliteConnectOptions {
    file_options(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .pragma("wal_autocheckpoint", "0")
        .pragma("cache_size", "-16384")
}

/// Returns how any connection to a file is opened.
pub(super) fn file_options(path: &std::path::Path) -> SqliteConnectOptions {
    common_options().filename(path).synchronous(SqliteSynchronous::Full).busy_timeout(Duration::from_secs(5))
}

/// Returns how the connection to a new database in memory is opened.
pub(super) fn memory_options() -> SqliteConnectOptions {
    common_options().in_memory(true)
}

fn common_options() -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .foreign_keys(true)
        .pragma("temp_store", "MEMORY")
        // A whole result fits, so that the connection's thread is not woken for every few rows.
        .row_buffer_size(1024)
        .disable_statement_logging()
}

/// Rolls back what a failed job left open. `false`: it cannot be told whether anything is open.
async fn roll_back(connection: &mut SqliteConnection) -> bool {
    match connection.execute("ROLLBACK").await {
        Ok(_) => true,
        // The usual case: the statement that failed has ended the transaction, or none had begun.
        Err(sqlx::Error::Database(error)) => error.message().contains("no transaction is active"),
        Err(_) => false,
    }
}
