use super::SqliteStore;
use crate::model::UserId;
use crate::model::store::StoreError;

const BLOCK: &str = "
    INSERT INTO blocks (user, blocked) SELECT $1, id FROM users WHERE id = $2 AND id <> $1
        AND EXISTS (SELECT 1 FROM users WHERE id = $1) ON CONFLICT (blocked, user) DO NOTHING";

const UNBLOCK: &str = "DELETE FROM blocks WHERE user = $1 AND blocked = $2";

impl SqliteStore {
    pub(super) async fn set_block(&self, user: UserId, other: UserId, blocked: bool) -> Result<(), StoreError> {
        let ask = sqlx::query(if blocked { BLOCK } else { UNBLOCK })
            .bind(user.get().cast_signed())
            .bind(other.get().cast_signed());
        self.connections.write("blocking a user", ask).await.map(drop)
    }
}
