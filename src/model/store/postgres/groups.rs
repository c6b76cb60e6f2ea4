use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use super::PostgresStore;
use super::decode::{broken, conversation, count, group, member};
use super::heads::clock;
use super::remote::Failure;
use crate::model::name::fold;
use crate::model::store::{Member, StoreError};
use crate::model::{ConversationId, Group, UserId};

const CREATE: &str = concat!(
    "WITH made AS (
        INSERT INTO conversations (kind, name, description, owner, folded, changed_at)
            VALUES (1, $1, $2, $3, $4, ",
    clock!(),
    ") RETURNING id, owner, changed_at
    )
    INSERT INTO members (conversation, user_id, joined_seq, delivered, read, added_at)
        SELECT id, owner, 0, 0, 0, changed_at FROM made RETURNING conversation"
);

/// Begins a query for groups.
macro_rules! groups {
    ($where:literal) => {
        concat!(
            "SELECT id, name, description, owner, head, (SELECT count(*) FROM members WHERE conversation = c.id)
                FROM conversations AS c WHERE kind = 1 AND ",
            $where
        )
    };
}

const BY_ID: &str = groups!("id = $1");

/// No text holds the byte FF: whatever begins with the prefix is below the prefix and that byte.
const BY_PREFIX: &str = groups!(r"folded >= $1 AND folded < $1 || '\xff'::bytea ORDER BY folded, id LIMIT $2");

const MEMBERS: &str = "
    SELECT m.user_id, u.name, (m.user_id IS NOT DISTINCT FROM c.owner)::int::bigint,
            EXISTS (SELECT FROM presence AS p WHERE p.user_id = m.user_id)::int::bigint, m.delivered, m.read
        FROM conversations AS c
            JOIN members AS m ON m.conversation = c.id AND m.user_id > $2 JOIN users AS u ON u.id = m.user_id
        WHERE c.id = $1 ORDER BY m.user_id LIMIT $3";

impl PostgresStore {
    pub(super) async fn create_group(&self, owner: UserId, name: &str, description: &str) -> Result<Group, StoreError> {
        let input = (owner.get().cast_signed(), name.to_owned(), description.to_owned());
        let conversation = self.pool.write("creating a group", input, create).await?;
        let (name, description) = (name.to_owned(), description.to_owned());
        Ok(Group { conversation, name, description, owner: Some(owner), head: 0, members: 1 })
    }

    pub(super) async fn find_group(&self, id: ConversationId) -> Result<Option<Group>, StoreError> {
        let ask = async |c: &mut PgConnection| sqlx::query(BY_ID).bind(id.get().cast_signed()).fetch_all(c).await;
        self.pool.read("looking groups up", ask).await?.first().map(group).transpose()
    }

    pub(super) async fn find_groups(&self, prefix: &str, limit: usize) -> Result<Vec<Group>, StoreError> {
        let folded = fold(prefix).into_bytes();
        let ask =
            async |c: &mut PgConnection| sqlx::query(BY_PREFIX).bind(&folded).bind(count(limit)).fetch_all(c).await;
        self.pool.read("looking groups up", ask).await?.iter().map(group).collect()
    }

    pub(super) async fn read_members(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        let ask = async |c: &mut PgConnection| {
            let ask = sqlx::query(MEMBERS)
                .bind(conversation.get().cast_signed())
                .bind(after.map_or(0, |user| user.get().cast_signed()))
                .bind(count(limit));
            ask.fetch_all(c).await
        };
        self.pool.read("reading members", ask).await?.iter().map(member).collect()
    }
}

fn create<'c>(
    connection: &'c mut PgConnection,
    (owner, name, description): &'c (i64, String, String),
) -> BoxFuture<'c, Result<ConversationId, Failure>> {
    async move {
        let folded = fold(name).into_bytes();
        let ask = sqlx::query(CREATE).bind(name.as_bytes()).bind(description.as_bytes()).bind(owner).bind(folded);
        let rows = ask.fetch_all(connection).await?;
        Ok(conversation(rows.first().ok_or_else(|| broken("a new group without an id"))?, 0)?)
    }
    .boxed()
}
