//! What the databases that are servers have in common: a bounded pool, what an error means, batches that are tried
//! again, and bringing a database up to date. The SQL is each database's own.

mod batch;
mod failure;
mod identity;
mod old;
mod pool;
mod read;
mod schema;
mod server;

pub(super) use batch::append;
pub(super) use failure::{Failure, Refusal, store_error};
pub(super) use identity::identity;
pub(super) use old::{PAGE, Walk};
pub(super) use pool::{Limits, Pool};
pub(super) use read::{Keys, Seats, conversations, joiners, snapshot};
pub(super) use schema::{look, migrate};
pub(super) use server::{Server, cannot_use};
