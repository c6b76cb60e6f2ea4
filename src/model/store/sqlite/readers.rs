use std::sync::Mutex;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::Semaphore;

use super::connections::{Ask, Sets, close, closed, fetch_sets};
use super::failure::store_error;
use crate::model::store::StoreError;

/// How many reads run at the same time; the others wait.
const READERS: u32 = 4;

/// The reading connections of a file, opened when they are first needed.
#[derive(Debug)]
pub(super) struct Readers {
    options: SqliteConnectOptions,
    permits: Semaphore,
    idle: Mutex<Vec<SqliteConnection>>,
}

impl Readers {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, permits: Semaphore::new(READERS as usize), idle: Mutex::default() }
    }

    /// Runs a query string on a connection of its own. One that failed, or whose caller went away, is not used again.
    pub(super) async fn fetch(&self, what: &str, ask: Ask) -> Result<Sets, StoreError> {
        let _permit = self.permits.acquire().await.map_err(|_| closed())?;
        let mut connection = match self.take_idle() {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(|error| store_error(what, error))?,
        };
        let sets = fetch_sets(&mut connection, ask).await.map_err(|error| store_error(what, error))?;
        self.idle.lock().expect("no holder panics").push(connection);
        Ok(sets)
    }

    /// Waits for what is running and closes the connections.
    pub(super) async fn close(&self) {
        let all = self.permits.acquire_many(READERS).await;
        self.permits.close();
        drop(all);
        while let Some(connection) = self.take_idle() {
            close(connection).await;
        }
    }

    fn take_idle(&self) -> Option<SqliteConnection> {
        self.idle.lock().expect("no holder panics").pop()
    }
}
