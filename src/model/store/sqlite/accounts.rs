use super::SqliteStore;
use super::connections::Ask;
use super::decode::{broken, json, name, text, user};
use crate::model::store::{StoreError, User};
use crate::model::{Name, UserId};

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
        let ask = sqlx::query("SELECT id, name, password_hash FROM users WHERE folded = $1").bind(name.fold());
        Ok(self.read_users(ask).await?.pop())
    }

    pub(super) async fn find_users(&self, users: &[UserId]) -> Result<Vec<User>, StoreError> {
        let sql = "SELECT id, name, password_hash FROM users WHERE id IN (SELECT value FROM json_each($1))";
        self.read_users(sqlx::query(sql).bind(json(users))).await
    }

    async fn read_users(&self, ask: Ask) -> Result<Vec<User>, StoreError> {
        let sets = self.connections.read("looking users up", ask).await?;
        let found = |row| Ok(User { id: user(row, 0)?, name: name(row, 1)?, password_hash: text(row, 2)? });
        sets[0].iter().map(found).collect()
    }
}
