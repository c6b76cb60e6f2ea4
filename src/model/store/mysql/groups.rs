use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::MySqlConnection;

use super::MysqlStore;
use super::decode::{conversation_id, count, group, member};
use super::heads::clock;
use super::remote::Failure;
use crate::model::name::fold;
use crate::model::store::{Member, StoreError};
use crate::model::{ConversationId, Group, UserId};

const CREATE: &str = concat!(
    "INSERT INTO conversations (kind, name, description, owner, folded, changed_at) VALUES (1, ?, ?, ?, ?, ",
    clock!(),
    ")"
);

const SEAT: &str = "
    INSERT INTO members (conversation, user_id, joined_seq, delivered, `read`, added_at)
        SELECT id, owner, 0, 0, 0, changed_at FROM conversations WHERE id = ?";

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

const BY_ID: &str = groups!("id = ?");

/// No text holds the byte FF: whatever begins with the prefix is below the prefix and that byte.
const BY_PREFIX: &str = groups!("folded >= ? AND folded < ? ORDER BY folded, id LIMIT ?");

const MEMBERS: &str = "
    SELECT m.user_id, u.name, m.user_id <=> c.owner,
            EXISTS (SELECT 1 FROM presence AS p WHERE p.user_id = m.user_id), m.delivered, m.`read`
        FROM members AS m STRAIGHT_JOIN conversations AS c ON c.id = m.conversation
            STRAIGHT_JOIN users AS u ON u.id = m.user_id
        WHERE m.conversation = ? AND m.user_id > ? ORDER BY m.user_id LIMIT ?";

impl MysqlStore {
    pub(super) async fn create_group(&self, owner: UserId, name: &str, description: &str) -> Result<Group, StoreError> {
        let input = (owner.get().cast_signed(), name.to_owned(), description.to_owned());
        let conversation = self.pool.transaction("creating a group", input, create).await?;
        let (name, description) = (name.to_owned(), description.to_owned());
        Ok(Group { conversation, name, description, owner: Some(owner), head: 0, members: 1 })
    }

    pub(super) async fn find_group(&self, id: ConversationId) -> Result<Option<Group>, StoreError> {
        let ask = async |c: &mut MySqlConnection| sqlx::query(BY_ID).bind(id.get().cast_signed()).fetch_all(c).await;
        self.pool.read("looking groups up", ask).await?.first().map(group).transpose()
    }

    pub(super) async fn find_groups(&self, prefix: &str, limit: usize) -> Result<Vec<Group>, StoreError> {
        let folded = fold(prefix).into_bytes();
        let end = [&folded, &[0xff][..]].concat();
        let ask = async |c: &mut MySqlConnection| {
            sqlx::query(BY_PREFIX).bind(&folded).bind(&end).bind(count(limit)).fetch_all(c).await
        };
        self.pool.read("looking groups up", ask).await?.iter().map(group).collect()
    }

    pub(super) async fn read_members(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        let ask = async |c: &mut MySqlConnection| {
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
    connection: &'c mut MySqlConnection,
    (owner, name, description): &'c (i64, String, String),
) -> BoxFuture<'c, Result<ConversationId, Failure>> {
    async move {
        let folded = fold(name).into_bytes();
        let ask = sqlx::query(CREATE).bind(name.as_bytes()).bind(description.as_bytes()).bind(owner).bind(folded);
        let id = ask.execute(&mut *connection).await?.last_insert_id().cast_signed();
        sqlx::query(SEAT).bind(id).execute(connection).await?;
        Ok(conversation_id(id)?)
    }
    .boxed()
}
