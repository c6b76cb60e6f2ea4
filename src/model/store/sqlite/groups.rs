use super::SqliteStore;
use super::connections::Ask;
use super::decode::{broken, conversation, count, group, member};
use crate::model::name::fold;
use crate::model::store::{Member, StoreError};
use crate::model::{ConversationId, Group, UserId};

const CREATE: &str = "
    BEGIN IMMEDIATE;
    INSERT INTO conversations (kind, name, description, owner, folded, changed_at)
        VALUES (1, $1, $2, $3, $4, CAST(round(unixepoch('subsec') * 1000) AS INTEGER)) RETURNING id;
    INSERT INTO members (conversation, user, joined_seq, delivered, read, added_at)
        SELECT id, $3, 0, 0, 0, changed_at FROM conversations WHERE id = last_insert_rowid();
    COMMIT";

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
pub(super) const BY_PREFIX: &str =
    groups!("folded >= $1 AND folded < $1 || CAST(x'FF' AS TEXT) ORDER BY folded, id LIMIT $2");

pub(super) const MEMBERS: &str = "
    SELECT m.user, u.name, m.user IS c.owner, EXISTS (SELECT 1 FROM presence AS p WHERE p.user = m.user),
            m.delivered, m.read
        FROM conversations AS c
            CROSS JOIN members AS m ON m.conversation = c.id AND m.user > $2 CROSS JOIN users AS u ON u.id = m.user
        WHERE c.id = $1 ORDER BY m.user LIMIT $3";

impl SqliteStore {
    pub(super) async fn create_group(&self, owner: UserId, name: &str, description: &str) -> Result<Group, StoreError> {
        let ask = sqlx::query(CREATE)
            .bind(name.to_owned())
            .bind(description.to_owned())
            .bind(owner.get().cast_signed())
            .bind(fold(name));
        let sets = self.connections.write("creating a group", ask).await?;
        let row = sets[1].first().ok_or_else(|| broken("a new group without an id"))?;
        Ok(Group {
            conversation: conversation(row, 0)?,
            name: name.to_owned(),
            description: description.to_owned(),
            owner: Some(owner),
            head: 0,
            members: 1,
        })
    }

    pub(super) async fn find_group(&self, id: ConversationId) -> Result<Option<Group>, StoreError> {
        Ok(self.read_groups(sqlx::query(BY_ID).bind(id.get().cast_signed())).await?.pop())
    }

    pub(super) async fn find_groups(&self, prefix: &str, limit: usize) -> Result<Vec<Group>, StoreError> {
        self.read_groups(sqlx::query(BY_PREFIX).bind(fold(prefix)).bind(count(limit))).await
    }

    pub(super) async fn read_members(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        let ask = sqlx::query(MEMBERS)
            .bind(conversation.get().cast_signed())
            .bind(after.map_or(0, |user| user.get().cast_signed()))
            .bind(count(limit));
        let sets = self.connections.read("reading members", ask).await?;
        sets[0].iter().map(member).collect()
    }

    async fn read_groups(&self, ask: Ask) -> Result<Vec<Group>, StoreError> {
        let sets = self.connections.read("looking groups up", ask).await?;
        sets[0].iter().map(group).collect()
    }
}
