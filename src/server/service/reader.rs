//! What logins read from the log, many logins in one query.

use std::collections::HashMap;
use std::sync::Arc;

use super::batch::Batcher;
use super::error::ServiceError;
use crate::model::store::{Friend, Head, Store, StoreError, User};
use crate::model::{Membership, UserId};

/// The most logins in one query.
const BATCH: usize = 256;

/// Batched reads. A failed batch fails all of its callers.
#[derive(Debug)]
pub(crate) struct LogReader {
    friends: Batcher<UserId, Result<Vec<Friend>, ServiceError>>,
    users: Batcher<UserId, Result<Vec<User>, ServiceError>>,
    conversations: Batcher<UserId, Result<Vec<Head>, ServiceError>>,
    memberships: Batcher<UserId, Result<Vec<Membership>, ServiceError>>,
}

impl LogReader {
    /// Starts the reading tasks. They end with the reader.
    pub(crate) fn spawn(store: &Arc<dyn Store>) -> Self {
        let log = Arc::clone(store);
        let users = Batcher::spawn(BATCH, move |users: Vec<UserId>| {
            let log = Arc::clone(&log);
            async move {
                let rows = log.users(&users).await;
                share(&users, rows.map(|rows| rows.into_iter().map(|row| (row.id, row)).collect()))
            }
        });
        let log = Arc::clone(store);
        let friends = Batcher::spawn(BATCH, move |users: Vec<UserId>| {
            let log = Arc::clone(&log);
            async move {
                let rows = log.friends(&users).await;
                share(&users, rows.map(|rows| rows.into_iter().map(|row| (row.user, row)).collect()))
            }
        });
        let log = Arc::clone(store);
        let conversations = Batcher::spawn(BATCH, move |users: Vec<UserId>| {
            let log = Arc::clone(&log);
            async move { share(&users, log.conversations_of(&users).await) }
        });
        let log = Arc::clone(store);
        let memberships = Batcher::spawn(BATCH, move |users: Vec<UserId>| {
            let log = Arc::clone(&log);
            async move {
                let rows = log.memberships(&users, None, usize::MAX >> 1).await;
                share(&users, rows.map(|rows| rows.into_iter().map(|row| (row.user, row)).collect()))
            }
        });
        Self { friends, users, conversations, memberships }
    }

    /// Finds a user by id.
    pub(crate) async fn user(&self, user: UserId) -> Result<Option<User>, ServiceError> {
        let found = self.users.ask(user).await.unwrap_or_else(|| Err(ServiceError::stopping()))?;
        Ok(found.into_iter().next())
    }

    /// Reads a user's friends, and who has asked them.
    pub(crate) async fn friends(&self, user: UserId) -> Result<Vec<Friend>, ServiceError> {
        self.friends.ask(user).await.unwrap_or_else(|| Err(ServiceError::stopping()))
    }

    /// Reads which conversations a user is in.
    pub(crate) async fn conversations_of(&self, user: UserId) -> Result<Vec<Head>, ServiceError> {
        self.conversations.ask(user).await.unwrap_or_else(|| Err(ServiceError::stopping()))
    }

    /// Reads a user's memberships, most recently changed first.
    pub(crate) async fn memberships(&self, user: UserId) -> Result<Vec<Membership>, ServiceError> {
        self.memberships.ask(user).await.unwrap_or_else(|| Err(ServiceError::stopping()))
    }
}

/// Gives every user their rows. A user may ask twice in one batch.
fn share<T: Clone>(users: &[UserId], rows: Result<Vec<(UserId, T)>, StoreError>) -> Vec<Result<Vec<T>, ServiceError>> {
    match rows {
        Ok(rows) => {
            let mut shares: HashMap<UserId, Vec<T>> = HashMap::new();
            for (user, row) in rows {
                shares.entry(user).or_default().push(row);
            }
            users.iter().map(|user| Ok(shares.get(user).cloned().unwrap_or_default())).collect()
        }
        Err(error) => {
            let error = ServiceError::from(error);
            users.iter().map(|_| Err(error.clone())).collect()
        }
    }
}
