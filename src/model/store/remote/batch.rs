use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::failure::{Failure, Refusal};
use super::pool::{Pool, jitter};
use super::server::Server;
use crate::model::store::{Append, Outcome, StoreError};

const WHAT: &str = "appending to the log";

/// Appends a batch, which `transaction` reads, decides and writes. A batch that meets another one, in a key or in a
/// lock, is done anew; one that fails again is tried in halves, so that one row that the database refuses never takes
/// the others with it.
pub(in crate::model::store) fn append<'a, DB, J>(
    pool: &'a Arc<Pool<DB>>,
    entries: &'a [Append],
    transaction: J,
) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>>
where
    DB: Server,
    J: for<'c> Fn(&'c mut DB::Connection, &'c [Append]) -> BoxFuture<'c, Result<Vec<Outcome>, Failure>>
        + Copy
        + Send
        + Sync
        + 'static,
{
    async move {
        let batch: Arc<[Append]> = entries.into();
        let mut failure = match pool.attempt(WHAT, Arc::clone(&batch), transaction, true).await {
            Ok(outcomes) => return Ok(outcomes),
            Err(failure) => failure,
        };
        if matches!(failure.refusal::<DB>(), Some(Refusal::Taken | Refusal::Collision | Refusal::Locked)) {
            jitter(1).await;
            failure = match pool.attempt(WHAT, batch, transaction, true).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(failure) => failure,
            };
        }
        match failure.refusal::<DB>() {
            Some(Refusal::Taken | Refusal::Misfit) if entries.len() == 1 => {
                let error = failure.into_store_error::<DB>("appending an entry");
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    conversation = entries[0].conversation.get(),
                    "the log refuses an entry"
                );
                Ok(vec![Outcome::Refused])
            }
            Some(Refusal::Taken | Refusal::Misfit | Refusal::Collision) if entries.len() > 1 => {
                let (first, second) = entries.split_at(entries.len() / 2);
                let mut outcomes = append(pool, first, transaction).await?;
                outcomes.extend(append(pool, second, transaction).await?);
                Ok(outcomes)
            }
            _ => Err(failure.into_store_error::<DB>(WHAT)),
        }
    }
    .boxed()
}
