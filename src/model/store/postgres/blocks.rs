use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use super::PostgresStore;
use super::remote::Failure;
use crate::model::UserId;
use crate::model::store::StoreError;

const BLOCK: &str = "
    INSERT INTO blocks (user_id, blocked) SELECT $1, id FROM users WHERE id = $2 AND id <> $1
        AND EXISTS (SELECT FROM users WHERE id = $1) ON CONFLICT (blocked, user_id) DO NOTHING";

const UNBLOCK: &str = "DELETE FROM blocks WHERE user_id = $1 AND blocked = $2";

impl PostgresStore {
    pub(super) async fn set_block(&self, user: UserId, other: UserId, blocked: bool) -> Result<(), StoreError> {
        let input = (if blocked { BLOCK } else { UNBLOCK }, user.get().cast_signed(), other.get().cast_signed());
        self.pool.write("blocking a user", input, set).await
    }
}

fn set<'c>(
    connection: &'c mut PgConnection,
    (sql, user, other): &'c (&'static str, i64, i64),
) -> BoxFuture<'c, Result<(), Failure>> {
    async move {
        sqlx::query(*sql).bind(user).bind(other).execute(connection).await?;
        Ok(())
    }
    .boxed()
}
