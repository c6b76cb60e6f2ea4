//! The log on PostgreSQL.
//!
//! Each step of a transaction is one statement that takes its batch as arrays, whatever its length. Heads are locked in
//! the order of their ids before anything is read that depends on them, and what is read then is a statement of its
//! own, because a statement does not see what was committed while it waited for a lock.

mod accounts;
mod append;
mod blocks;
mod columns;
mod connect;
mod directs;
mod entries;
mod examine;
mod friends;
mod groups;
mod heads;
mod memberships;
mod nodes;
mod presence;
mod pruning;
mod row;

use std::sync::Arc;

use sqlx::Postgres;

use super::Meta;
use super::decode;
use super::forward::implement_store;
use super::remote::{self, Pool};

pub(super) use connect::{check, open};
pub(super) use examine::examine;

/// A log on PostgreSQL. [`Store::close`](super::Store::close) waits for what is running.
#[derive(Debug)]
pub(super) struct PostgresStore {
    meta: Meta,
    pool: Arc<Pool<Postgres>>,
}

implement_store!(PostgresStore);

impl PostgresStore {
    async fn shut(&self) {
        self.pool.close().await;
    }
}
