use std::collections::BTreeSet;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::MySqlConnection;
use sqlx::mysql::MySqlRow;

use super::MysqlStore;
use super::decode::{account, count, json, user_id};
use super::heads::ids;
use super::remote::Failure;
use crate::model::store::{StoreError, User, UserChange};
use crate::model::{Name, UserId};

/// Begins a query for users.
macro_rules! users {
    ($where:literal) => {
        concat!("SELECT id, name, password_hash, token_version, disabled FROM users ", $where)
    };
}

const BY_NAME: &str = users!("WHERE folded = ?");
const BY_ID: &str = concat!(
    "SELECT u.id, u.name, u.password_hash, u.token_version, u.disabled FROM ",
    ids!(),
    " STRAIGHT_JOIN users AS u ON u.id = e.id"
);
const LIST: &str = users!("WHERE folded > ? ORDER BY folded LIMIT ?");

const CREATE: &str = "INSERT INTO users (name, folded, password_hash) VALUES (?, ?, ?)";

/// What is null stays. An account that is gone does not change any more.
const CHANGE: &str = "
    UPDATE users SET token_version = token_version + 1, password_hash = coalesce(?, password_hash),
            disabled = coalesce(?, disabled)
        WHERE id = ? AND disabled <> 2";

/// No hash is like `!`, so that no password fits.
const DELETE: &str = "
    UPDATE users SET token_version = token_version + 1, password_hash = '!', disabled = 2
        WHERE id = ? AND disabled <> 2";

/// Friendships go from both sides; the user's own rows go last, because they tell where the other sides are. Whoever
/// makes or ends one locks both users first.
const UNFRIEND: [&str; 3] = [
    "DELETE theirs FROM friends AS mine
        STRAIGHT_JOIN friends AS theirs ON theirs.user_id = mine.friend AND theirs.friend = mine.user_id
        WHERE mine.user_id = ? AND mine.state = 1",
    "DELETE FROM friends WHERE friend = ? AND state = 0",
    "DELETE FROM friends WHERE user_id = ?",
];

impl MysqlStore {
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
        let ids = json(&users.iter().collect::<BTreeSet<_>>());
        accounts(self.pool.read(WHAT, async |c| sqlx::query(BY_ID).bind(&ids).fetch_all(c).await).await?)
    }

    pub(super) async fn list_users(&self, after: Option<&Name>, limit: usize) -> Result<Vec<User>, StoreError> {
        // No name folds to nothing.
        let after = after.map(Name::fold).unwrap_or_default();
        let ask = async |c: &mut MySqlConnection| sqlx::query(LIST).bind(&after).bind(count(limit)).fetch_all(c).await;
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

fn accounts(rows: Vec<MySqlRow>) -> Result<Vec<User>, StoreError> {
    rows.iter().map(account).collect()
}

fn create<'c>(
    connection: &'c mut MySqlConnection,
    (name, password_hash): &'c (Name, String),
) -> BoxFuture<'c, Result<UserId, Failure>> {
    async move {
        let ask = sqlx::query(CREATE).bind(name.as_str()).bind(name.fold()).bind(password_hash);
        let id = ask.execute(connection).await?.last_insert_id();
        Ok(user_id(id.cast_signed())?)
    }
    .boxed()
}

fn set<'c>(
    connection: &'c mut MySqlConnection,
    (id, password_hash, disabled): &'c (i64, Option<String>, Option<i64>),
) -> BoxFuture<'c, Result<bool, Failure>> {
    async move {
        let done = sqlx::query(CHANGE).bind(password_hash).bind(disabled).bind(id).execute(connection).await?;
        Ok(done.rows_affected() > 0)
    }
    .boxed()
}

fn delete<'c>(connection: &'c mut MySqlConnection, id: &'c i64) -> BoxFuture<'c, Result<bool, Failure>> {
    async move {
        let done = sqlx::query(DELETE).bind(id).execute(&mut *connection).await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        for sql in UNFRIEND {
            sqlx::query(sql).bind(id).execute(&mut *connection).await?;
        }
        Ok(true)
    }
    .boxed()
}
