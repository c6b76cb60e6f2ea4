//! The log on MySQL or MariaDB.
//!
//! Each step of a transaction is one statement that takes its batch as a JSON array, whatever its length. Transactions
//! read what is committed when a statement begins (`READ COMMITTED`). Heads are locked in the order of their ids before
//! anything is read that depends on them; `STRAIGHT_JOIN` makes the array the first table, so that rows are met, and
//! locked, in its order.

mod accounts;
mod append;
mod blocks;
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

use sqlx::MySql;

use super::Meta;
use super::decode;
use super::forward::implement_store;
use super::remote::{self, Pool};

pub(super) use connect::{check, open};
pub(super) use examine::examine;

/// A log on MySQL or MariaDB. [`Store::close`](super::Store::close) waits for what is running.
#[derive(Debug)]
pub(super) struct MysqlStore {
    meta: Meta,
    pool: Arc<Pool<MySql>>,
}

implement_store!(MysqlStore);

impl MysqlStore {
    async fn shut(&self) {
        self.pool.close().await;
    }
}
