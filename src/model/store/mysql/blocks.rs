use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::MySqlConnection;

use super::MysqlStore;
use super::remote::Failure;
use crate::model::UserId;
use crate::model::store::StoreError;

const BLOCK: &str = "
    INSERT INTO blocks (user_id, blocked)
        SELECT me.id, other.id FROM users AS me STRAIGHT_JOIN users AS other ON other.id <> me.id
            WHERE me.id = ? AND other.id = ?
        ON DUPLICATE KEY UPDATE user_id = blocks.user_id";

const UNBLOCK: &str = "DELETE FROM blocks WHERE user_id = ? AND blocked = ?";

impl MysqlStore {
    pub(super) async fn set_block(&self, user: UserId, other: UserId, blocked: bool) -> Result<(), StoreError> {
        let input = (if blocked { BLOCK } else { UNBLOCK }, user.get().cast_signed(), other.get().cast_signed());
        self.pool.write("blocking a user", input, set).await
    }
}

fn set<'c>(
    connection: &'c mut MySqlConnection,
    (sql, user, other): &'c (&'static str, i64, i64),
) -> BoxFuture<'c, Result<(), Failure>> {
    async move {
        sqlx::query(*sql).bind(user).bind(other).execute(connection).await?;
        Ok(())
    }
    .boxed()
}
