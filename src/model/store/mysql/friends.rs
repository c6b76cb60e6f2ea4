use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::MySqlConnection;

use super::MysqlStore;
use super::decode::{ASKED, friend, integer, json, number, optional};
use super::heads::{placed, placed_ids};
use super::remote::Failure;
use crate::model::UserId;
use crate::model::store::{Friend, Friendship, StoreError};

/// Whoever makes or ends a friendship locks both users first, so that its two rows come and go together.
const LOCK: &str = "SELECT id FROM users WHERE id IN (?, ?) ORDER BY id FOR UPDATE";

/// Reads how many of both accounts there are, what the other has asked or is, whether the other has blocked this user,
/// and whether this user has asked.
const READ: &str = "
    SELECT (SELECT count(*) FROM users AS u WHERE u.id IN (me.id, other.id) AND u.disabled <> 2),
        (SELECT state FROM friends WHERE user_id = me.id AND friend = other.id),
        EXISTS (SELECT 1 FROM blocks WHERE user_id = other.id AND blocked = me.id),
        EXISTS (SELECT 1 FROM friends WHERE user_id = other.id AND friend = me.id)
        FROM (SELECT CAST(? AS SIGNED) AS id) AS me STRAIGHT_JOIN (SELECT CAST(? AS SIGNED) AS id) AS other";

const REQUEST: &str = "INSERT INTO friends (friend, user_id, state) VALUES (?, ?, 0)";

/// Turns the request of the other user into the two rows of a friendship.
const ACCEPT: &str = "UPDATE friends SET state = 1 WHERE user_id = ? AND friend = ? AND state = 0";
const MIRROR: &str = "
    INSERT INTO friends (friend, user_id, state) VALUES (?, ?, 1) ON DUPLICATE KEY UPDATE state = 1";

const REMOVE: &str = "DELETE FROM friends WHERE user_id = ? AND friend = ?";

const FRIENDS: &str = concat!(
    "SELECT f.user_id, f.friend, u.name, f.state, EXISTS (SELECT 1 FROM presence AS p WHERE p.user_id = f.friend) FROM ",
    placed_ids!(),
    " STRAIGHT_JOIN friends AS f ON f.user_id = e.id STRAIGHT_JOIN users AS u ON u.id = f.friend
        ORDER BY e.n, u.folded"
);

impl MysqlStore {
    pub(super) async fn add_friend(&self, user: UserId, friend: UserId) -> Result<Friendship, StoreError> {
        self.pool.transaction("asking a user to be a friend", pair(user, friend), add).await
    }

    pub(super) async fn accept_friend(&self, user: UserId, friend: UserId) -> Result<bool, StoreError> {
        let (user, friend) = pair(user, friend);
        self.pool.transaction("accepting a friend", (user, friend), accept).await
    }

    pub(super) async fn remove_friend(&self, user: UserId, friend: UserId) -> Result<bool, StoreError> {
        let (user, friend) = pair(user, friend);
        self.pool.transaction("removing a friend", (user, friend), remove).await
    }

    pub(super) async fn read_friends(&self, users: &[UserId]) -> Result<Vec<Friend>, StoreError> {
        let ids = json(&placed(users));
        let read = self.pool.read("reading friends", async |c| sqlx::query(FRIENDS).bind(&ids).fetch_all(c).await);
        read.await?.iter().map(friend).collect()
    }
}

fn pair(user: UserId, friend: UserId) -> (i64, i64) {
    (user.get().cast_signed(), friend.get().cast_signed())
}

fn add<'c>(
    connection: &'c mut MySqlConnection,
    (user, friend): &'c (i64, i64),
) -> BoxFuture<'c, Result<Friendship, Failure>> {
    async move {
        sqlx::query(LOCK).bind(user).bind(friend).execute(&mut *connection).await?;
        let row = sqlx::query(READ).bind(user).bind(friend).fetch_one(&mut *connection).await?;
        let (accounts, theirs): (u64, _) = (number(&row, 0)?, optional(&row, 1)?);
        let (blocked, asked_before) = (integer(&row, 2)? != 0, integer(&row, 3)? != 0);
        Ok(match theirs {
            _ if accounts < 2 => Friendship::Forbidden,
            Some(ASKED) => {
                agree(connection, *user, *friend).await?;
                Friendship::Accepted
            }
            Some(_) => Friendship::Unchanged,
            None if blocked => Friendship::Forbidden,
            None if asked_before => Friendship::Unchanged,
            None => {
                sqlx::query(REQUEST).bind(user).bind(friend).execute(connection).await?;
                Friendship::Requested
            }
        })
    }
    .boxed()
}

fn accept<'c>(
    connection: &'c mut MySqlConnection,
    (user, friend): &'c (i64, i64),
) -> BoxFuture<'c, Result<bool, Failure>> {
    async move {
        sqlx::query(LOCK).bind(user).bind(friend).execute(&mut *connection).await?;
        Ok(agree(connection, *user, *friend).await?)
    }
    .boxed()
}

async fn agree(connection: &mut MySqlConnection, user: i64, friend: i64) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(ACCEPT).bind(user).bind(friend).execute(&mut *connection).await?;
    if done.rows_affected() > 0 {
        sqlx::query(MIRROR).bind(user).bind(friend).execute(connection).await?;
    }
    Ok(done.rows_affected() > 0)
}

fn remove<'c>(
    connection: &'c mut MySqlConnection,
    (user, friend): &'c (i64, i64),
) -> BoxFuture<'c, Result<bool, Failure>> {
    async move {
        sqlx::query(LOCK).bind(user).bind(friend).execute(&mut *connection).await?;
        let here = sqlx::query(REMOVE).bind(user).bind(friend).execute(&mut *connection).await?;
        let there = sqlx::query(REMOVE).bind(friend).bind(user).execute(connection).await?;
        Ok(here.rows_affected() + there.rows_affected() > 0)
    }
    .boxed()
}
