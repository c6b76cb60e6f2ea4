use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::decode::{conversation, conversation_kind, integer, json, seq, user};
use crate::model::store::{Changes, Head, StoreError};
use crate::model::{ConversationId, Millis, UserId};

pub(super) const NOW: &str = "SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER)";

pub(super) const HEADS: &str =
    "SELECT id, kind, head FROM conversations WHERE id IN (SELECT value FROM json_each($1)) ORDER BY id";

pub(super) const HEADS_OF_USERS: &str = "
    SELECT c.id, c.kind, c.head, m.user FROM json_each($1) AS e
        CROSS JOIN members AS m ON m.user = e.value CROSS JOIN conversations AS c ON c.id = m.conversation";

/// Reads the clock first: what commits meanwhile is seen twice rather than never.
pub(super) const CHANGES: &str = "
    SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER);
    SELECT id, kind, head FROM conversations WHERE changed_at >= $1;
    SELECT conversation, user FROM members WHERE added_at >= $1";

impl SqliteStore {
    pub(super) async fn read_clock(&self) -> Result<Millis, StoreError> {
        let sets = self.connections.read("reading the clock", sqlx::query(NOW)).await?;
        integer(&sets[0][0], 0)
    }

    pub(super) async fn read_heads(&self, conversations: &[ConversationId]) -> Result<Vec<Head>, StoreError> {
        let sets = self.connections.read("reading heads", sqlx::query(HEADS).bind(json(conversations))).await?;
        sets[0].iter().map(head).collect()
    }

    pub(super) async fn read_heads_of_users(&self, users: &[UserId]) -> Result<Vec<(UserId, Head)>, StoreError> {
        let sets = self.connections.read("reading heads", sqlx::query(HEADS_OF_USERS).bind(json(users))).await?;
        sets[0].iter().map(|row| Ok((user(row, 3)?, head(row)?))).collect()
    }

    pub(super) async fn read_changes(&self, since: Millis) -> Result<Changes, StoreError> {
        let sets = self.connections.read("reading what has changed", sqlx::query(CHANGES).bind(since)).await?;
        Ok(Changes {
            at: integer(&sets[0][0], 0)?,
            heads: sets[1].iter().map(head).collect::<Result<_, _>>()?,
            members: sets[2].iter().map(|row| Ok((conversation(row, 0)?, user(row, 1)?))).collect::<Result<_, _>>()?,
        })
    }
}

fn head(row: &SqliteRow) -> Result<Head, StoreError> {
    Ok(Head { conversation: conversation(row, 0)?, kind: conversation_kind(row, 1)?, head: seq(row, 2)? })
}
