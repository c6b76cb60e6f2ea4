use super::SqliteStore;
use super::decode::{broken, conversation, number, seq, text, user_id};
use crate::model::store::StoreError;
use crate::model::{ConversationId, Group, UserId};

const CREATE: &str = "
    BEGIN IMMEDIATE;
    INSERT INTO conversations (kind, name, description, owner, changed_at)
        VALUES (1, $1, $2, $3, CAST(round(unixepoch('subsec') * 1000) AS INTEGER)) RETURNING id;
    INSERT INTO members (conversation, user, joined_seq, delivered, read, added_at)
        SELECT id, $3, 0, 0, 0, changed_at FROM conversations WHERE id = last_insert_rowid();
    COMMIT";

const FIND: &str = "
    SELECT id, name, description, owner, head, (SELECT count(*) FROM members WHERE conversation = $1)
        FROM conversations WHERE id = $1 AND kind = 1";

impl SqliteStore {
    pub(super) async fn create_group(&self, owner: UserId, name: &str, description: &str) -> Result<Group, StoreError> {
        let ask =
            sqlx::query(CREATE).bind(name.to_owned()).bind(description.to_owned()).bind(owner.get().cast_signed());
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
        let ask = sqlx::query(FIND).bind(id.get().cast_signed());
        let sets = self.connections.read("looking a group up", ask).await?;
        let Some(row) = sets[0].first() else { return Ok(None) };
        Ok(Some(Group {
            conversation: conversation(row, 0)?,
            name: text(row, 1)?,
            description: text(row, 2)?,
            owner: super::decode::optional(row, 3)?.map(user_id).transpose()?,
            head: seq(row, 4)?,
            members: number(row, 5)?,
        }))
    }
}
