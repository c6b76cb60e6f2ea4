use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::columns;
use super::decode::{account, broken, count, user};
use super::remote::Failure;
use crate::model::store::{StoreError, User, UserChange};
use crate::model::{Name, UserId};

/// Begins a query for users.
macro_rules! users {
    ($where:literal) => {
        concat!("SELECT id, name, password_hash, token_version, disabled FROM users ", $where)
    };
}

const BY_NAME: &str = users!("WHERE folded = $1");
const BY_ID: &str = users!("WHERE id = ANY($1)");
const LIST: &str = users!("WHERE folded > $1 ORDER BY folded LIMIT $2");

const CREATE: &str = "INSERT INTO users (name, folded, password_hash) VALUES ($1, $2, $3) RETURNING id";

/// What is null stays. An account that is gone does not change any more.
const CHANGE: &str = "
    UPDATE users SET token_version = token_version + 1, password_hash = coalesce($2, password_hash),
            disabled = coalesce($3, disabled)
        WHERE id = $1 AND disabled <> 2";

/// No hash is like `!`, so that no password fits.
const DELETE: &str = "
    UPDATE users SET token_version = token_version + 1, password_hash = '!', disabled = 2
        WHERE id = $1 AND disabled <> 2";

/// Friendships go from both sides. Whoever makes or ends one locks both users first.
const UNFRIEND: &str = "
    DELETE FROM friends WHERE user_id = $1 OR (friend = $1 AND state = 0)
        OR (user_id, friend) IN (SELECT friend, user_id FROM friends WHERE user_id = $1 AND state = 1)";

impl PostgresStore {
    pub(super) async fn create_user(&self, name: &Name, password_hash: &str) -> Result<UserId, StoreError> {
        let input = (name.clone(), password_hash.to_owned());
        self.pool.write("registering a name", input, create).await
    }

    pub(super) async fn find_user_by_name(&self, name: &Name) -> Result<Option<User>, StoreError> {
        let folded = name.fold();
        let read = self.pool.read(WHAT, async |c| sqlx::query(BY_NAME).bind(&folded).fetch_all(c).await);
        Ok(accounts(read.await?)?.pop())
    }

    pub(super) async fn find_users(&self, users: &[UserId]) -> Result<Vec<User>, StoreError> {
        let ids = columns::users(users);
        accounts(self.pool.read(WHAT, async |c| sqlx::query(BY_ID).bind(&ids).fetch_all(c).await).await?)
    }

    pub(super) async fn list_users(&self, after: Option<&Name>, limit: usize) -> Result<Vec<User>, StoreError> {
        // No name folds to nothing.
        let after = after.map(Name::fold).unwrap_or_default();
        let ask = async |c: &mut PgConnection| sqlx::query(LIST).bind(&after).bind(count(limit)).fetch_all(c).await;
        accounts(self.pool.read(WHAT, ask).await?)
    }

    pub(super) async fn change_user(&self, user: UserId, change: &UserChange) -> Result<bool, StoreError> {
        let what = "changing an account";
        let id = user.get().cast_signed();
        match change {
            UserChange::Deleted => self.pool.transaction(what, id, delete).await,
            UserChange::Password(hash) => self.pool.write(what, (id, Some(hash.clone()), None), set).await,
            UserChange::Tokens => self.pool.write(what, (id, None, None), set).await,
            UserChange::Disabled(disabled) => self.pool.write(what, (id, None, Some(i64::from(*disabled))), set).await,
        }
    }
}

const WHAT: &str = "looking users up";

fn accounts(rows: Vec<PgRow>) -> Result<Vec<User>, StoreError> {
    rows.iter().map(account).collect()
}

fn create<'c>(
    connection: &'c mut PgConnection,
    (name, password_hash): &'c (Name, String),
) -> BoxFuture<'c, Result<UserId, Failure>> {
    async move {
        let ask = sqlx::query(CREATE).bind(name.as_str()).bind(name.fold()).bind(password_hash);
        let rows = ask.fetch_all(connection).await?;
        Ok(user(rows.first().ok_or_else(|| broken("a new user without an id"))?, 0)?)
    }
    .boxed()
}

fn set<'c>(
    connection: &'c mut PgConnection,
    (id, password_hash, disabled): &'c (i64, Option<String>, Option<i64>),
) -> BoxFuture<'c, Result<bool, Failure>> {
    async move {
        let done = sqlx::query(CHANGE).bind(id).bind(password_hash).bind(disabled).execute(connection).await?;
        Ok(done.rows_affected() > 0)
    }
    .boxed()
}

fn delete<'c>(connection: &'c mut PgConnection, id: &'c i64) -> BoxFuture<'c, Result<bool, Failure>> {
    async move {
        let done = sqlx::query(DELETE).bind(id).execute(&mut *connection).await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(UNFRIEND).bind(id).execute(connection).await?;
        Ok(true)
    }
    .boxed()
}
