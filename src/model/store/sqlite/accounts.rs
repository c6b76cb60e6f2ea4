use super::SqliteStore;
use super::connections::Ask;
use super::decode::{broken, name, text, user};
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
        let sql = "SELECT id, name, password_hash FROM users WHERE folded = $1";
        self.find_user(sqlx::query(sql).bind(name.fold())).await
    }

    pub(super) async fn find_user_by_id(&self, user: UserId) -> Result<Option<User>, StoreError> {
        let sql = "SELECT id, name, password_hash FROM users WHERE id = $1";
        self.find_user(sqlx::query(sql).bind(user.get().cast_signed())).await
    }

    async fn find_user(&self, ask: Ask) -> Result<Option<User>, StoreError> {
        let sets = self.connections.read("looking a user up", ask).await?;
        let found = sets[0].first();
        found.map(|row| Ok(User { id: user(row, 0)?, name: name(row, 1)?, password_hash: text(row, 2)? })).transpose()
    }
}
