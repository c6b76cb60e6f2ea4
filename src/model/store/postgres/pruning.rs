use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use super::PostgresStore;
use super::remote::{Failure, PAGE, Walk};
use crate::model::Millis;
use crate::model::store::StoreError;

/// The next entries by id, with what tells whether they may go.
const NEXT: &str = "
    SELECT m.id, m.at, m.conversation, m.seq,
            (SELECT f.seq FROM messages AS f WHERE f.conversation = m.conversation ORDER BY f.seq LIMIT 1), c.head
        FROM (SELECT id, at, conversation, seq FROM messages WHERE id > $1 ORDER BY id LIMIT $2) AS m
            JOIN conversations AS c ON c.id = m.conversation
        ORDER BY m.id";

const DELETE: &str = "DELETE FROM messages WHERE id = ANY($1)";

impl PostgresStore {
    /// Looks for what is old beside the writers, because that may walk over the newest entry of many a conversation.
    /// What is not the newest entry will not be it again.
    pub(super) async fn prune_entries(&self, before: Millis, limit: usize) -> Result<u64, StoreError> {
        let mut walk = Walk::new(before, limit);
        while let Some(after) = walk.after {
            let ask = async |c: &mut PgConnection| sqlx::query(NEXT).bind(after).bind(PAGE).fetch_all(c).await;
            walk.page(&self.pool.read("looking for old entries", ask).await?)?;
        }
        if walk.taken.is_empty() {
            return Ok(0);
        }
        walk.taken.sort_unstable();
        self.pool.write("deleting old entries", walk.taken, delete).await
    }
}

fn delete<'c>(connection: &'c mut PgConnection, ids: &'c [i64]) -> BoxFuture<'c, Result<u64, Failure>> {
    async move { Ok(sqlx::query(DELETE).bind(ids).execute(connection).await?.rows_affected()) }.boxed()
}
