use super::PostgresStore;
use super::columns;
use super::decode::{conversation, conversation_kind, head, integer, seq, user};
use crate::model::store::{Changes, Head, StoreError};
use crate::model::{ConversationId, Millis, UserId};

/// The clock as it is now, not as it was when the transaction began.
macro_rules! clock {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}
pub(super) use clock;

pub(super) const NOW: &str = concat!("SELECT ", clock!());

const HEADS: &str = "SELECT id, kind, head FROM conversations WHERE id = ANY($1) ORDER BY id";

const HEADS_OF_USERS: &str = "
    SELECT c.id, c.kind, c.head, m.user_id FROM UNNEST($1::bigint[]) AS e (user_id)
        JOIN members AS m ON m.user_id = e.user_id JOIN conversations AS c ON c.id = m.conversation";

/// `now()` is older than what the statement sees: what commits meanwhile is seen twice rather than never.
const CHANGES: &str = "
    SELECT 0::bigint, (extract(epoch FROM now()) * 1000)::bigint, NULL::bigint, NULL::bigint
    UNION ALL SELECT 1, id, kind, head FROM conversations WHERE changed_at >= $1
    UNION ALL SELECT 2, conversation, user_id, NULL FROM members WHERE added_at >= $1";

impl PostgresStore {
    pub(super) async fn read_clock(&self) -> Result<Millis, StoreError> {
        let rows = self.pool.read("reading the clock", async |c| sqlx::query(NOW).fetch_all(c).await).await?;
        integer(&rows[0], 0)
    }

    pub(super) async fn read_heads(&self, conversations: &[ConversationId]) -> Result<Vec<Head>, StoreError> {
        let ids = columns::conversations(conversations);
        let read = self.pool.read("reading heads", async |c| sqlx::query(HEADS).bind(&ids).fetch_all(c).await);
        read.await?.iter().map(head).collect()
    }

    pub(super) async fn read_heads_of_users(&self, users: &[UserId]) -> Result<Vec<(UserId, Head)>, StoreError> {
        let ids = columns::users(users);
        let read = self.pool.read("reading heads", async |c| sqlx::query(HEADS_OF_USERS).bind(&ids).fetch_all(c).await);
        read.await?.iter().map(|row| Ok((user(row, 3)?, head(row)?))).collect()
    }

    pub(super) async fn read_changes(&self, since: Millis) -> Result<Changes, StoreError> {
        let what = "reading what has changed";
        let rows = self.pool.read(what, async |c| sqlx::query(CHANGES).bind(since).fetch_all(c).await).await?;
        let mut changes = Changes::default();
        for row in &rows {
            match integer(row, 0)? {
                0 => changes.at = integer(row, 1)?,
                1 => changes.heads.push(changed_head(row)?),
                _ => changes.members.push((conversation(row, 1)?, user(row, 2)?)),
            }
        }
        Ok(changes)
    }
}

fn changed_head(row: &sqlx::postgres::PgRow) -> Result<Head, StoreError> {
    Ok(Head { conversation: conversation(row, 1)?, kind: conversation_kind(row, 2)?, head: seq(row, 3)? })
}
