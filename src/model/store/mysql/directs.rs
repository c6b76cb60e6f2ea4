use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::MySqlConnection;
use sqlx::mysql::MySqlRow;

use super::MysqlStore;
use super::decode::{conversation, json, user};
use super::heads::{clock, ids};
use super::remote::Failure;
use crate::model::store::StoreError;
use crate::model::{ConversationId, UserId};

/// Two users, the lower id first.
type Pair = (UserId, UserId);

/// An array of pairs as a table `e`.
macro_rules! pairs {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (low BIGINT PATH '$[0]', high BIGINT PATH '$[1]')) AS e"
    };
}

/// Finds those that exist.
const FIND: &str = concat!(
    "SELECT c.low, c.high, c.id FROM ",
    pairs!(),
    " STRAIGHT_JOIN conversations AS c ON c.low = e.low AND c.high = e.high"
);

/// Nobody else makes a conversation of these users meanwhile, and those who do not exist are not there.
const LOCK: &str = concat!("SELECT u.id FROM ", ids!(), " STRAIGHT_JOIN users AS u ON u.id = e.id FOR UPDATE");

const CREATE: &str = concat!(
    "INSERT INTO conversations (kind, low, high, changed_at) SELECT 0, e.low, e.high, ",
    clock!(),
    " FROM ",
    pairs!()
);

const SEAT: &str = concat!(
    "INSERT INTO members (conversation, user_id, joined_seq, delivered, `read`, added_at)
        SELECT c.id, CASE side.n WHEN 0 THEN c.low ELSE c.high END, 0, 0, 0, c.changed_at FROM ",
    pairs!(),
    " STRAIGHT_JOIN conversations AS c ON c.low = e.low AND c.high = e.high
        STRAIGHT_JOIN (SELECT 0 AS n UNION ALL SELECT 1) AS side"
);

impl MysqlStore {
    pub(super) async fn find_or_create_directs(
        &self,
        pairs: &[(UserId, UserId)],
    ) -> Result<Vec<Option<ConversationId>>, StoreError> {
        let sorted = |&(one, other): &Pair| if one < other { (one, other) } else { (other, one) };
        let wanted: BTreeSet<Pair> = pairs.iter().map(sorted).filter(|(low, high)| low != high).collect();
        let wanted: Vec<Pair> = wanted.into_iter().collect();
        let rows = self.pool.read("looking direct conversations up", async |c| find(c, &wanted).await).await?;
        let mut known = named(&rows)?;
        let missing: Vec<Pair> = wanted.into_iter().filter(|pair| !known.contains_key(pair)).collect();
        if !missing.is_empty() {
            known.extend(self.pool.transaction("creating direct conversations", missing, create).await?);
        }
        Ok(pairs.iter().map(|pair| known.get(&sorted(pair)).copied()).collect())
    }
}

async fn find(connection: &mut MySqlConnection, pairs: &[Pair]) -> Result<Vec<MySqlRow>, sqlx::Error> {
    sqlx::query(FIND).bind(json(pairs)).fetch_all(connection).await
}

fn create<'c>(
    connection: &'c mut MySqlConnection,
    pairs: &'c [Pair],
) -> BoxFuture<'c, Result<BTreeMap<Pair, ConversationId>, Failure>> {
    async move {
        let all: BTreeSet<UserId> = pairs.iter().flat_map(|(low, high)| [*low, *high]).collect();
        let rows = sqlx::query(LOCK).bind(json(&all)).fetch_all(&mut *connection).await?;
        let users = rows.iter().map(|row| user(row, 0)).collect::<Result<HashSet<UserId>, _>>()?;
        let known = named(&find(connection, pairs).await?)?;
        let new = |pair: &&Pair| !known.contains_key(pair) && users.contains(&pair.0) && users.contains(&pair.1);
        let new: Vec<Pair> = pairs.iter().filter(new).copied().collect();
        if new.is_empty() {
            return Ok(known);
        }
        sqlx::query(CREATE).bind(json(&new)).execute(&mut *connection).await?;
        sqlx::query(SEAT).bind(json(&new)).execute(&mut *connection).await?;
        Ok(named(&find(connection, pairs).await?)?)
    }
    .boxed()
}

/// Reads both users and their conversation.
fn named(rows: &[MySqlRow]) -> Result<BTreeMap<Pair, ConversationId>, StoreError> {
    rows.iter().map(|row| Ok(((user(row, 0)?, user(row, 1)?), conversation(row, 2)?))).collect()
}
