use super::server::Server;
use crate::model::store::{StoreError, StoreErrorKind};

/// What an error of a server means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model::store) enum Refusal {
    /// A unique name or key is taken.
    Taken,
    /// A deadlock, or a transaction that lost against another: rolled back, and worth another try.
    Collision,
    /// Another transaction held a lock for too long.
    Locked,
    /// The row breaks a rule of its table, or holds what the database cannot keep.
    Misfit,
    /// The server stops, is full, read-only or out of connections.
    Away,
    /// The database, the user or a right is missing.
    Barred,
    /// Anything else: a statement is wrong.
    Wrong,
}

/// What went wrong in a transaction.
#[derive(Debug)]
pub(in crate::model::store) enum Failure {
    /// Before anything was committed.
    Before(sqlx::Error),
    /// While committing.
    Committing(sqlx::Error),
    /// No connection, an answer that did not come, or something in the log that cannot be.
    Known(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Before(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Known(error)
    }
}

impl Failure {
    /// Tells what the server has refused; `None`: it did not answer.
    pub(in crate::model::store) fn refusal<DB: Server>(&self) -> Option<Refusal> {
        match self {
            Self::Before(error) | Self::Committing(error) => error.as_database_error().map(DB::refusal),
            Self::Known(_) => None,
        }
    }

    /// Translates it for the caller of a store; `what` was being done.
    pub(in crate::model::store) fn into_store_error<DB: Server>(self, what: &str) -> StoreError {
        match self {
            Self::Before(error) => store_error::<DB>(what, error),
            Self::Committing(error) => {
                // These leave nothing behind; whatever else breaks a commit may come after it.
                let known = matches!(
                    error.as_database_error().map(DB::refusal),
                    Some(Refusal::Taken | Refusal::Collision | Refusal::Locked | Refusal::Misfit | Refusal::Barred)
                );
                if known { store_error::<DB>(what, error) } else { unknown(what).caused_by(error) }
            }
            Self::Known(error) => error,
        }
    }
}

/// Says that nobody knows whether a transaction has happened.
pub(super) fn unknown(what: &str) -> StoreError {
    let context = format!("{what}: the commit broke and may have happened; call again to find out");
    StoreError::new(StoreErrorKind::OutcomeUnknown, context)
}

/// Translates an error of a call that has changed nothing.
pub(in crate::model::store) fn store_error<DB: Server>(what: &str, error: sqlx::Error) -> StoreError {
    let (kind, advice) = match &error {
        sqlx::Error::Database(database) => match DB::refusal(database.as_ref()) {
            Refusal::Taken => (StoreErrorKind::Conflict, "it is taken"),
            Refusal::Misfit => (StoreErrorKind::Internal, "a row does not fit the log"),
            Refusal::Collision => (StoreErrorKind::Unavailable, "it met another transaction too often; try again"),
            Refusal::Locked => (StoreErrorKind::Unavailable, "another transaction holds a lock; try again"),
            Refusal::Away => (StoreErrorKind::Unavailable, "the database stops, is full or read-only; try again"),
            Refusal::Barred => {
                (StoreErrorKind::Unavailable, "the database does not let this user in any more; check its rights")
            }
            Refusal::Wrong => (StoreErrorKind::Internal, "the database refused the statement"),
        },
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::RowNotFound => (StoreErrorKind::Internal, "the log holds what it should not"),
        _ => (StoreErrorKind::Unavailable, "the connection to the database broke; try again"),
    };
    StoreError::new(kind, format!("{what}: {advice}")).caused_by(error)
}
