use std::collections::HashSet;

use futures_util::FutureExt;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::connections::fetch_sets;
use super::decode::{ASKED, friend, integer, json, number, optional};
use super::failure::Failure;
use crate::model::UserId;
use crate::model::store::{Friend, Friendship, StoreError};

/// Begins, and reads how many of both accounts there are, what `$2` has asked of `$1` or is to them, whether `$2` has
/// blocked `$1`, and whether `$1` has asked.
const READ_FOR_ADD: &str = "
    BEGIN IMMEDIATE;
    SELECT (SELECT count(*) FROM users WHERE id IN ($1, $2) AND disabled <> 2),
        (SELECT state FROM friends WHERE user = $1 AND friend = $2),
        EXISTS (SELECT 1 FROM blocks WHERE user = $2 AND blocked = $1),
        EXISTS (SELECT 1 FROM friends WHERE user = $2 AND friend = $1)";

const REQUEST: &str = "INSERT INTO friends (user, friend, state) VALUES ($2, $1, 0); COMMIT";

/// Turns the request of `$2` into the two rows of a friendship.
macro_rules! accept {
    () => {
        "
    UPDATE friends SET state = 1 WHERE user = $1 AND friend = $2 AND state = 0 RETURNING friend;
    INSERT INTO friends (user, friend, state)
        SELECT friend, user, 1 FROM friends WHERE user = $1 AND friend = $2 AND state = 1
        ON CONFLICT (user, friend) DO NOTHING;
    COMMIT"
    };
}

const ACCEPT_HERE: &str = accept!();
const ACCEPT: &str = concat!("BEGIN IMMEDIATE;", accept!());

pub(super) const REMOVE: &str =
    "DELETE FROM friends WHERE (user, friend) IN (VALUES ($1, $2), ($2, $1)) RETURNING user";

pub(super) const FRIENDS: &str = "
    SELECT f.user, f.friend, u.name, f.state, EXISTS (SELECT 1 FROM presence AS p WHERE p.user = f.friend)
        FROM json_each($1) AS e
            CROSS JOIN friends AS f ON f.user = e.value CROSS JOIN users AS u ON u.id = f.friend
        ORDER BY e.key, u.folded";

impl SqliteStore {
    pub(super) async fn add_friend(&self, user: UserId, friend: UserId) -> Result<Friendship, StoreError> {
        let added = self.connections.transaction(move |connection| add(connection, user, friend).boxed()).await;
        added.map_err(|failure| failure.into_store_error("asking a user to be a friend"))
    }

    pub(super) async fn accept_friend(&self, user: UserId, friend: UserId) -> Result<bool, StoreError> {
        let ask = sqlx::query(ACCEPT).bind(user.get().cast_signed()).bind(friend.get().cast_signed());
        let sets = self.connections.write("accepting a friend", ask).await?;
        Ok(!sets[1].is_empty())
    }

    pub(super) async fn remove_friend(&self, user: UserId, friend: UserId) -> Result<bool, StoreError> {
        let ask = sqlx::query(REMOVE).bind(user.get().cast_signed()).bind(friend.get().cast_signed());
        let sets = self.connections.write("removing a friend", ask).await?;
        Ok(!sets[0].is_empty())
    }

    pub(super) async fn read_friends(&self, users: &[UserId]) -> Result<Vec<Friend>, StoreError> {
        let mut seen = HashSet::new();
        let users: Vec<UserId> = users.iter().copied().filter(|user| seen.insert(*user)).collect();
        let sets = self.connections.read("reading friends", sqlx::query(FRIENDS).bind(json(&users))).await?;
        sets[0].iter().map(friend).collect()
    }
}

async fn add(connection: &mut SqliteConnection, user: UserId, friend: UserId) -> Result<Friendship, Failure> {
    let (user, friend) = (user.get().cast_signed(), friend.get().cast_signed());
    let sets = fetch_sets(connection, sqlx::query(READ_FOR_ADD).bind(user).bind(friend)).await?;
    let row = &sets[1][0];
    let (accounts, theirs): (u64, _) = (number(row, 0)?, optional(row, 1)?);
    let (blocked, asked_before) = (integer(row, 2)? != 0, integer(row, 3)? != 0);
    let (friendship, sql) = match theirs {
        _ if accounts < 2 => (Friendship::Forbidden, "ROLLBACK"),
        Some(ASKED) => (Friendship::Accepted, ACCEPT_HERE),
        Some(_) => (Friendship::Unchanged, "ROLLBACK"),
        None if blocked => (Friendship::Forbidden, "ROLLBACK"),
        None if asked_before => (Friendship::Unchanged, "ROLLBACK"),
        None => (Friendship::Requested, REQUEST),
    };
    let ask = sqlx::query(sql);
    let ask = if sql == "ROLLBACK" { ask } else { ask.bind(user).bind(friend) };
    fetch_sets(connection, ask).await.map_err(Failure::Committing)?;
    Ok(friendship)
}
