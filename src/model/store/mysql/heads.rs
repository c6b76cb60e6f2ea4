use std::collections::{BTreeSet, HashSet};

use super::MysqlStore;
use super::decode::{conversation, conversation_kind, head, integer, json, seq, user};
use crate::model::store::{Changes, Head, StoreError};
use crate::model::{ConversationId, Millis, UserId};

/// The clock when the statement began.
macro_rules! clock {
    () => {
        "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
    };
}
pub(super) use clock;

/// An array of ids as a table `e`.
macro_rules! ids {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) AS e"
    };
}
pub(super) use ids;

/// An array of pairs (place, id) as a table `e`, for what comes in the order of the array.
macro_rules! placed_ids {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (n BIGINT PATH '$[0]', id BIGINT PATH '$[1]')) AS e"
    };
}
pub(super) use placed_ids;

pub(super) const NOW: &str = concat!("SELECT ", clock!());

const HEADS: &str = concat!(
    "SELECT c.id, c.kind, c.head FROM ",
    ids!(),
    " STRAIGHT_JOIN conversations AS c ON c.id = e.id ORDER BY c.id"
);

const HEADS_OF_USERS: &str = concat!(
    "SELECT c.id, c.kind, c.head, m.user_id FROM ",
    ids!(),
    " STRAIGHT_JOIN members AS m ON m.user_id = e.id STRAIGHT_JOIN conversations AS c ON c.id = m.conversation"
);

/// The clock is older than what the statement sees: what commits meanwhile is seen twice rather than never.
const CHANGES: &str = concat!(
    "SELECT 0, ",
    clock!(),
    ", NULL, NULL
    UNION ALL SELECT 1, id, kind, head FROM conversations WHERE changed_at >= ?
    UNION ALL SELECT 2, conversation, user_id, NULL FROM members WHERE added_at >= ?"
);

impl MysqlStore {
    pub(super) async fn read_clock(&self) -> Result<Millis, StoreError> {
        let rows = self.pool.read("reading the clock", async |c| sqlx::query(NOW).fetch_all(c).await).await?;
        integer(&rows[0], 0)
    }

    pub(super) async fn read_heads(&self, conversations: &[ConversationId]) -> Result<Vec<Head>, StoreError> {
        let ids: BTreeSet<&ConversationId> = conversations.iter().collect();
        let ids = json(&ids);
        let read = self.pool.read("reading heads", async |c| sqlx::query(HEADS).bind(&ids).fetch_all(c).await);
        read.await?.iter().map(head).collect()
    }

    pub(super) async fn read_heads_of_users(&self, users: &[UserId]) -> Result<Vec<(UserId, Head)>, StoreError> {
        let ids = json(users);
        let read = self.pool.read("reading heads", async |c| sqlx::query(HEADS_OF_USERS).bind(&ids).fetch_all(c).await);
        read.await?.iter().map(|row| Ok((user(row, 3)?, head(row)?))).collect()
    }

    pub(super) async fn read_changes(&self, since: Millis) -> Result<Changes, StoreError> {
        let what = "reading what has changed";
        let rows = self.pool.read(what, async |c| sqlx::query(CHANGES).bind(since).bind(since).fetch_all(c).await);
        let mut changes = Changes::default();
        for row in &rows.await? {
            match integer(row, 0)? {
                0 => changes.at = integer(row, 1)?,
                1 => changes.heads.push(changed_head(row)?),
                _ => changes.members.push((conversation(row, 1)?, user(row, 2)?)),
            }
        }
        Ok(changes)
    }
}

fn changed_head(row: &sqlx::mysql::MySqlRow) -> Result<Head, StoreError> {
    Ok(Head { conversation: conversation(row, 1)?, kind: conversation_kind(row, 2)?, head: seq(row, 3)? })
}

/// Returns users in their order, each once, with their places.
pub(super) fn placed(users: &[UserId]) -> Vec<(usize, UserId)> {
    let mut seen = HashSet::new();
    users.iter().copied().filter(|user| seen.insert(*user)).enumerate().collect()
}
