use super::SqliteStore;
use super::decode::{integer, json};
use crate::model::Millis;
use crate::model::store::StoreError;

/// Walks from the oldest entry to the first that is not old, and takes those that have a newer one in their
/// conversation. Time ascends with id, so that what is taken of a conversation is all that it has below some seq.
pub(super) const OLD: &str = "
    WITH RECURSIVE old (id, conversation, seq) AS (
        SELECT id, conversation, seq FROM messages WHERE id = (SELECT min(id) FROM messages) AND at < $1
        UNION ALL
        SELECT next.id, next.conversation, next.seq FROM old CROSS JOIN messages AS next
            ON next.id = (SELECT min(id) FROM messages WHERE id > old.id) WHERE next.at < $1
    )
    SELECT old.id FROM old CROSS JOIN conversations AS c ON c.id = old.conversation AND c.head > old.seq LIMIT $2";

pub(super) const DELETE: &str = "DELETE FROM messages WHERE id IN (SELECT value FROM json_each($1)) RETURNING 1";

impl SqliteStore {
    /// Looks for what is old beside the writers, because that may walk over the newest entry of many a conversation.
    /// What is not the newest entry will not be it again.
    pub(super) async fn prune_entries(&self, before: Millis, limit: usize) -> Result<u64, StoreError> {
        let ask = sqlx::query(OLD).bind(before).bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let sets = self.connections.read("looking for old entries", ask).await?;
        let old: Vec<i64> = sets[0].iter().map(|row| integer(row, 0)).collect::<Result<_, _>>()?;
        if old.is_empty() {
            return Ok(0);
        }
        let sets = self.connections.write("deleting old entries", sqlx::query(DELETE).bind(json(&old))).await?;
        Ok(sets[0].len() as u64)
    }
}
