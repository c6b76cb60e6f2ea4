use futures_util::future::BoxFuture;
use sqlx::Database;
use sqlx::error::DatabaseError;

use super::failure::Refusal;
use crate::model::store::{StoreError, StoreErrorKind};

/// What the shared parts have to know about a database.
pub(in crate::model::store) trait Server: Database {
    /// Makes a new connection ours: isolation, and the limits after which the server ends what we do not.
    fn prepare(connection: &mut Self::Connection) -> BoxFuture<'_, Result<(), sqlx::Error>>;

    /// Tells what an error of the server means.
    fn refusal(error: &dyn DatabaseError) -> Refusal;
}

/// Says that a database cannot be the log, and what to do about it. What `place` shows must have no password.
pub(in crate::model::store) fn cannot_use(
    place: &str,
    cure: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::new(StoreErrorKind::Config, format!("cannot use {place} as the log (store.url): {cure}"))
        .caused_by(error)
}
