use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use super::PostgresStore;
use super::columns;
use super::decode::{ASKED, friend, integer, number, optional};
use super::remote::Failure;
use crate::model::UserId;
use crate::model::store::{Friend, Friendship, StoreError};

/// Whoever makes or ends a friendship locks both users first, so that its two rows come and go together.
const LOCK: &str = "SELECT FROM users WHERE id IN ($1, $2) ORDER BY id FOR NO KEY UPDATE";

/// Reads how many of both accounts there are, what `$2` has asked of `$1` or is to them, whether `$2` has blocked `$1`,
/// and whether `$1` has asked.
const READ: &str = "
    SELECT (SELECT count(*) FROM users WHERE id IN ($1, $2) AND disabled <> 2),
        (SELECT state FROM friends WHERE user_id = $1 AND friend = $2),
        EXISTS (SELECT FROM blocks WHERE user_id = $2 AND blocked = $1)::int::bigint,
        EXISTS (SELECT FROM friends WHERE user_id = $2 AND friend = $1)::int::bigint";

const REQUEST: &str = "INSERT INTO friends (user_id, friend, state) VALUES ($2, $1, 0)";

/// Turns the request of `$2` into the two rows of a friendship.
const ACCEPT: &str = "
    WITH agreed AS (
        UPDATE friends SET state = 1 WHERE user_id = $1 AND friend = $2 AND state = 0 RETURNING user_id, friend
    )
    INSERT INTO friends (user_id, friend, state) SELECT friend, user_id, 1 FROM agreed
        ON CONFLICT (user_id, friend) DO UPDATE SET state = 1";

const REMOVE: &str = "DELETE FROM friends WHERE (user_id, friend) IN (($1, $2), ($2, $1))";

const FRIENDS: &str = "
    SELECT f.user_id, f.friend, u.name, f.state,
            EXISTS (SELECT FROM presence AS p WHERE p.user_id = f.friend)::int::bigint
        FROM UNNEST($1::bigint[]) WITH ORDINALITY AS e (user_id, n)
            JOIN friends AS f ON f.user_id = e.user_id JOIN users AS u ON u.id = f.friend
        ORDER BY e.n, u.folded";

impl PostgresStore {
    pub(super) async fn add_friend(&self, user: UserId, friend: UserId) -> Result<Friendship, StoreError> {
        self.pool.transaction("asking a user to be a friend", pair(user, friend), add).await
    }

    pub(super) async fn accept_friend(&self, user: UserId, friend: UserId) -> Result<bool, StoreError> {
        let (user, friend) = pair(user, friend);
        self.pool.transaction("accepting a friend", (ACCEPT, user, friend), change).await
    }

    pub(super) async fn remove_friend(&self, user: UserId, friend: UserId) -> Result<bool, StoreError> {
        let (user, friend) = pair(user, friend);
        self.pool.transaction("removing a friend", (REMOVE, user, friend), change).await
    }

    pub(super) async fn read_friends(&self, users: &[UserId]) -> Result<Vec<Friend>, StoreError> {
        let ids = columns::distinct(users);
        let read = self.pool.read("reading friends", async |c| sqlx::query(FRIENDS).bind(&ids).fetch_all(c).await);
        read.await?.iter().map(friend).collect()
    }
}

fn pair(user: UserId, friend: UserId) -> (i64, i64) {
    (user.get().cast_signed(), friend.get().cast_signed())
}

fn add<'c>(
    connection: &'c mut PgConnection,
    (user, friend): &'c (i64, i64),
) -> BoxFuture<'c, Result<Friendship, Failure>> {
    async move {
        sqlx::query(LOCK).bind(user).bind(friend).execute(&mut *connection).await?;
        let row = sqlx::query(READ).bind(user).bind(friend).fetch_one(&mut *connection).await?;
        let (accounts, theirs): (u64, _) = (number(&row, 0)?, optional(&row, 1)?);
        let (blocked, asked_before) = (integer(&row, 2)? != 0, integer(&row, 3)? != 0);
        let (friendship, sql) = match theirs {
            _ if accounts < 2 => return Ok(Friendship::Forbidden),
            Some(ASKED) => (Friendship::Accepted, ACCEPT),
            Some(_) => return Ok(Friendship::Unchanged),
            None if blocked => return Ok(Friendship::Forbidden),
            None if asked_before => return Ok(Friendship::Unchanged),
            None => (Friendship::Requested, REQUEST),
        };
        sqlx::query(sql).bind(user).bind(friend).execute(connection).await?;
        Ok(friendship)
    }
    .boxed()
}

fn change<'c>(
    connection: &'c mut PgConnection,
    (sql, user, friend): &'c (&'static str, i64, i64),
) -> BoxFuture<'c, Result<bool, Failure>> {
    async move {
        sqlx::query(LOCK).bind(user).bind(friend).execute(&mut *connection).await?;
        let done = sqlx::query(*sql).bind(user).bind(friend).execute(connection).await?;
        Ok(done.rows_affected() > 0)
    }
    .boxed()
}
