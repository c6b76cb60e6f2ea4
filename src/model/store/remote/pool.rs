use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{ConnectOptions, Connection, Database};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::failure::{Failure, Refusal, store_error, unknown};
use super::server::Server;
use crate::model::store::{StoreError, StoreErrorKind};

/// How long a server may take to answer. Its own limits are shorter; this is for one that is gone without a word.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection that has been idle for longer is asked whether it still lives before it is used.
const FRESH: Duration = Duration::from_secs(1);

/// How often a transaction is tried that collides with others.
const TRIES: u32 = 4;

/// How a database's connections are opened.
pub(in crate::model::store) type Options<DB> = <<DB as Database>::Connection as Connection>::Options;

/// How many connections there may be, and how long a call may wait for one.
#[derive(Debug, Clone, Copy)]
pub(in crate::model::store) struct Limits {
    /// At most so many.
    pub(in crate::model::store) connections: u32,
    /// For a free one, or a new one.
    pub(in crate::model::store) wait: Duration,
}

/// The connections to one server, opened when they are needed. A call that finds none free waits, and is unavailable
/// when it has waited too long. A connection that broke, or whose caller went away, is not used again.
pub(in crate::model::store) struct Pool<DB: Database> {
    options: Options<DB>,
    limits: Limits,
    permits: Semaphore,
    idle: Mutex<Vec<(Instant, DB::Connection)>>,
}

impl<DB: Database> fmt::Debug for Pool<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options hold the password.
        f.debug_struct("Pool").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl<DB: Server> Pool<DB> {
    pub(in crate::model::store) fn new(options: Options<DB>, limits: Limits) -> Self {
        let permits = Semaphore::new(limits.connections as usize);
        Self { options: options.disable_statement_logging(), limits, permits, idle: Mutex::default() }
    }

    /// Runs a job that only reads, in no transaction.
    pub(in crate::model::store) async fn read<T>(
        &self,
        what: &str,
        job: impl AsyncFnOnce(&mut DB::Connection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let (_permit, mut connection) = self.take(what).await?;
        match timeout(ANSWER, job(&mut connection)).await {
            Ok(Ok(value)) => {
                self.give_back(connection);
                Ok(value)
            }
            Ok(Err(error)) => {
                self.keep_if_alive(connection, &error);
                Err(store_error::<DB>(what, error))
            }
            Err(_) => Err(silent(what)),
        }
    }

    /// Runs a job that is one statement and its own transaction. One that collides with others is tried again.
    pub(in crate::model::store) async fn write<T, I, J>(
        self: &Arc<Self>,
        what: &'static str,
        input: impl Into<Arc<I>>,
        job: J,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        I: ?Sized + Send + Sync + 'static,
        J: for<'c> Fn(&'c mut DB::Connection, &'c I) -> BoxFuture<'c, Result<T, Failure>>
            + Copy
            + Send
            + Sync
            + 'static,
    {
        self.until_free(what, input.into(), job, false).await
    }

    /// Runs a job between `BEGIN` and `COMMIT`. One that collides with others is tried again.
    pub(in crate::model::store) async fn transaction<T, I, J>(
        self: &Arc<Self>,
        what: &'static str,
        input: impl Into<Arc<I>>,
        job: J,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        I: ?Sized + Send + Sync + 'static,
        J: for<'c> Fn(&'c mut DB::Connection, &'c I) -> BoxFuture<'c, Result<T, Failure>>
            + Copy
            + Send
            + Sync
            + 'static,
    {
        self.until_free(what, input.into(), job, true).await
    }

    async fn until_free<T, I, J>(
        self: &Arc<Self>,
        what: &'static str,
        input: Arc<I>,
        job: J,
        whole: bool,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        I: ?Sized + Send + Sync + 'static,
        J: for<'c> Fn(&'c mut DB::Connection, &'c I) -> BoxFuture<'c, Result<T, Failure>>
            + Copy
            + Send
            + Sync
            + 'static,
    {
        for round in 1..TRIES {
            match self.attempt(what, Arc::clone(&input), job, whole).await {
                Err(failure) if failure.refusal::<DB>() == Some(Refusal::Collision) => jitter(round).await,
                other => return other.map_err(|failure| failure.into_store_error::<DB>(what)),
            }
        }
        let last = self.attempt(what, input, job, whole).await;
        last.map_err(|failure| failure.into_store_error::<DB>(what))
    }

    /// Runs a job once, in a task of its own: a caller that goes away does not stop it half-way.
    pub(in crate::model::store) async fn attempt<T, I, J>(
        self: &Arc<Self>,
        what: &'static str,
        input: Arc<I>,
        job: J,
        whole: bool,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        I: ?Sized + Send + Sync + 'static,
        J: for<'c> Fn(&'c mut DB::Connection, &'c I) -> BoxFuture<'c, Result<T, Failure>> + Send + Sync + 'static,
    {
        let this = Arc::clone(self);
        let running = tokio::spawn(async move {
            if whole { this.in_transaction(what, &*input, job).await } else { this.alone(what, &*input, job).await }
        });
        running.await.unwrap_or_else(|error| Err(unknown(what).caused_by(error).into()))
    }

    async fn alone<T, I: ?Sized, J>(&self, what: &str, input: &I, job: J) -> Result<T, Failure>
    where
        J: for<'c> Fn(&'c mut DB::Connection, &'c I) -> BoxFuture<'c, Result<T, Failure>>,
    {
        let (_permit, mut connection) = self.take(what).await?;
        match timeout(ANSWER, job(&mut connection, input)).await {
            Ok(Err(Failure::Before(error))) => {
                self.keep_if_alive(connection, &error);
                Err(Failure::Committing(error))
            }
            Ok(done) => {
                self.give_back(connection);
                done
            }
            Err(_) => Err(unknown(what).into()),
        }
    }

    async fn in_transaction<T, I: ?Sized, J>(&self, what: &str, input: &I, job: J) -> Result<T, Failure>
    where
        J: for<'c> Fn(&'c mut DB::Connection, &'c I) -> BoxFuture<'c, Result<T, Failure>>,
    {
        let (_permit, mut connection) = self.take(what).await?;
        let working = async {
            let mut transaction = connection.begin().await?;
            let value = match job(&mut transaction, input).await {
                Ok(value) => value,
                Err(failure) => {
                    // A server that refuses lives, and so does the connection once the transaction is undone.
                    if !matches!(&failure, Failure::Before(error) if error.as_database_error().is_none()) {
                        transaction.rollback().await?;
                    }
                    return Err(failure);
                }
            };
            Ok((transaction, value))
        };
        let worked = match timeout(ANSWER, working).await {
            Ok(Ok((transaction, value))) => match timeout(ANSWER, transaction.commit()).await {
                Ok(done) => done.map(|()| value).map_err(Failure::Committing),
                Err(_) => return Err(unknown(what).into()),
            },
            Ok(Err(failure)) => Err(failure),
            Err(_) => return Err(silent(what).into()),
        };
        match &worked {
            Err(Failure::Before(error) | Failure::Committing(error)) => self.keep_if_alive(connection, error),
            _ => self.give_back(connection),
        }
        worked
    }

    async fn take(&self, what: &str) -> Result<(SemaphorePermit<'_>, DB::Connection), StoreError> {
        match timeout(self.limits.wait, self.find(what)).await {
            Ok(found) => found,
            Err(_) => {
                let context = format!(
                    "{what}: no connection to the database within {:?}; see that it runs, or raise store.connections",
                    self.limits.wait
                );
                Err(StoreError::new(StoreErrorKind::Unavailable, context))
            }
        }
    }

    async fn find(&self, what: &str) -> Result<(SemaphorePermit<'_>, DB::Connection), StoreError> {
        let permit = self.permits.acquire().await.map_err(|_| closed())?;
        while let Some((since, mut connection)) = self.take_idle() {
            if since.elapsed() < FRESH || connection.ping().await.is_ok() {
                return Ok((permit, connection));
            }
        }
        let mut connection = self.options.connect().await.map_err(|error| store_error::<DB>(what, error))?;
        DB::prepare(&mut connection).await.map_err(|error| store_error::<DB>(what, error))?;
        Ok((permit, connection))
    }

    fn give_back(&self, connection: DB::Connection) {
        self.idle().push((Instant::now(), connection));
    }

    /// Keeps the connection when the server has answered. When one is broken the idle ones are most likely too.
    fn keep_if_alive(&self, connection: DB::Connection, error: &sqlx::Error) {
        let refusal = error.as_database_error().map(DB::refusal);
        if refusal.is_some_and(|refusal| refusal != Refusal::Away) {
            self.give_back(connection);
        } else {
            self.idle().clear();
        }
    }

    /// Waits for what is running and closes the connections.
    pub(in crate::model::store) async fn close(&self) {
        let all = self.permits.acquire_many(self.limits.connections).await;
        self.permits.close();
        drop(all);
        while let Some((_, connection)) = self.take_idle() {
            // A failure costs nothing, the connection is gone either way.
            match timeout(ANSWER, connection.close()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "a database connection did not close cleanly"),
                Err(_) => tracing::warn!("a database connection did not close in time"),
            }
        }
    }

    fn take_idle(&self) -> Option<(Instant, DB::Connection)> {
        self.idle().pop()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, DB::Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits a random while, longer after each round, so that two that met do not meet again.
pub(super) async fn jitter(round: u32) {
    let longest = Duration::from_millis(5) * 2u32.saturating_pow(round);
    tokio::time::sleep(longest.mul_f64(rand::random::<f64>())).await;
}

fn silent(what: &str) -> StoreError {
    let context = format!("{what}: the database has not answered for {ANSWER:?}; try again");
    StoreError::new(StoreErrorKind::Unavailable, context)
}

fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the log was closed; open it again")
}
