use super::SqliteStore;
use super::connections::Ask;
use super::decode::{account, broken, json, user};
use crate::model::store::{StoreError, User, UserChange};
use crate::model::{Name, UserId};

/// Begins a query for users.
macro_rules! users {
    ($where:literal) => {
        concat!("SELECT id, name, password_hash, token_version, disabled FROM users ", $where)
    };
}

pub(super) const BY_NAME: &str = users!("WHERE folded = $1");
pub(super) const BY_ID: &str = users!("WHERE id IN (SELECT value FROM json_each($1))");
pub(super) const LIST: &str = users!("WHERE folded > $1 ORDER BY folded LIMIT $2");

/// What is null stays. An account that is gone does not change any more.
const CHANGE: &str = "
    UPDATE users SET token_version = token_version + 1, password_hash = ifnull($2, password_hash),
            disabled = ifnull($3, disabled)
        WHERE id = $1 AND disabled <> 2 RETURNING id";

/// No hash is like `!`, so that no password fits. Friendships go from both sides; the user's own rows go last, because
/// they tell where the other sides are.
pub(super) const DELETE: &str = "
    BEGIN IMMEDIATE;
    UPDATE users SET token_version = token_version + 1, password_hash = '!', disabled = 2
        WHERE id = $1 AND disabled <> 2 RETURNING id;
    DELETE FROM friends WHERE (user, friend) IN (SELECT friend, user FROM friends WHERE user = $1 AND state = 1);
    DELETE FROM friends WHERE friend = $1 AND state = 0;
    DELETE FROM friends WHERE user = $1;
    COMMIT";

impl SqliteStore {
    pub(super) async fn create_user(&self, name: &Name, password_hash: &str) -> Result<UserId, StoreError> {
        let ask = sqlx::query("INSERT INTO users (name, folded, password_hash) VALUES ($1, $2, $3) RETURNING id")
            .bind(name.as_str().to_owned())
            .bind(name.fold())
            .bind(password_hash.to_owned());
        let sets = self.connections.write("registering a name", ask).await?;
        let row = sets[0].first().ok_or_else(|| broken("a new user without an id"))?;
        user(row, 0)
    }

    pub(super) async fn find_user_by_name(&self, name: &Name) -> Result<Option<User>, StoreError> {
        Ok(self.read_users(sqlx::query(BY_NAME).bind(name.fold())).await?.pop())
    }

    pub(super) async fn find_users(&self, users: &[UserId]) -> Result<Vec<User>, StoreError> {
        self.read_users(sqlx::query(BY_ID).bind(json(users))).await
    }

    pub(super) async fn list_users(&self, after: Option<&Name>, limit: usize) -> Result<Vec<User>, StoreError> {
        // No name folds to nothing.
        let after = after.map(Name::fold).unwrap_or_default();
        self.read_users(sqlx::query(LIST).bind(after).bind(i64::try_from(limit).unwrap_or(i64::MAX))).await
    }

    pub(super) async fn change_user(&self, user: UserId, change: &UserChange) -> Result<bool, StoreError> {
        let id = user.get().cast_signed();
        let changed = |password_hash: Option<String>, disabled: Option<bool>| {
            sqlx::query(CHANGE).bind(id).bind(password_hash).bind(disabled)
        };
        let ask = match change {
            UserChange::Password(hash) => changed(Some(hash.clone()), None),
            UserChange::Tokens => changed(None, None),
            UserChange::Disabled(disabled) => changed(None, Some(*disabled)),
            UserChange::Deleted => sqlx::query(DELETE).bind(id),
        };
        let sets = self.connections.write("changing an account", ask).await?;
        // Nothing but the update of the account returns rows.
        Ok(sets.iter().any(|set| !set.is_empty()))
    }

    async fn read_users(&self, ask: Ask) -> Result<Vec<User>, StoreError> {
        let sets = self.connections.read("looking users up", ask).await?;
        sets[0].iter().map(account).collect()
    }
}
