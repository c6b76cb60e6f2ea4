use sqlx::error::{DatabaseError, ErrorKind};

use crate::model::store::{StoreError, StoreErrorKind};

/// What went wrong between `BEGIN` and `COMMIT`.
#[derive(Debug)]
pub(super) enum Failure {
    /// Before anything was committed.
    Before(sqlx::Error),
    /// In a query string that ends with `COMMIT`.
    Committing(sqlx::Error),
    /// The log holds something that cannot be.
    Broken(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Before(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Broken(error)
    }
}

impl Failure {
    /// Tells whether a row broke a rule of its table: the transaction was rolled back, and without that row it would
    /// not have been.
    pub(super) fn is_constraint(&self) -> bool {
        match self {
            Self::Before(error) | Self::Committing(error) => database_error(error).is_some_and(is_constraint),
            Self::Broken(_) => false,
        }
    }

    /// Translates it for the caller of a store; `what` was being done.
    pub(super) fn into_store_error(self, what: &str) -> StoreError {
        match self {
            Self::Before(error) => store_error(what, error),
            Self::Committing(error) => {
                // SQLite refuses before it writes the commit record; only a failing disk, or a lost connection, leaves
                // a doubt.
                let known = database_error(&error).is_some_and(|error| primary_code(error) != IO);
                if known {
                    store_error(what, error)
                } else {
                    let context = format!("{what}: the commit broke and may have happened; call again to find out");
                    StoreError::new(StoreErrorKind::OutcomeUnknown, context).caused_by(error)
                }
            }
            Self::Broken(error) => error,
        }
    }
}

/// Translates an error of a call that has changed nothing.
pub(super) fn store_error(what: &str, error: sqlx::Error) -> StoreError {
    let (kind, advice) = match &error {
        sqlx::Error::Database(database) => match (database.kind(), primary_code(database.as_ref())) {
            (ErrorKind::UniqueViolation, _) => (StoreErrorKind::Conflict, "it is taken"),
            (_, CONSTRAINT) => (StoreErrorKind::Internal, "a row does not fit the log"),
            (_, BUSY | LOCKED) => (StoreErrorKind::Unavailable, "another process holds the database; try again"),
            (_, FULL) => (StoreErrorKind::Unavailable, "the disk is full; make room, then try again"),
            (_, READ_ONLY) => (StoreErrorKind::Unavailable, "the database is read-only; make it writable"),
            (_, NO_MEMORY | IO | CANNOT_OPEN | PROTOCOL) => {
                (StoreErrorKind::Unavailable, "the database cannot be reached; check its disk")
            }
            _ => (StoreErrorKind::Internal, "the database refused the statement"),
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

// Primary result codes, https://www.sqlite.org/rescode.html
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const NO_MEMORY: i32 = 7;
const READ_ONLY: i32 = 8;
const IO: i32 = 10;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;
const PROTOCOL: i32 = 15;
const CONSTRAINT: i32 = 19;

fn primary_code(error: &dyn DatabaseError) -> i32 {
    error.code().and_then(|code| code.parse::<i32>().ok()).map_or(-1, |extended| extended & 0xff)
}

fn is_constraint(error: &dyn DatabaseError) -> bool {
    primary_code(error) == CONSTRAINT
}

fn database_error(error: &sqlx::Error) -> Option<&dyn DatabaseError> {
    error.as_database_error()
}
