use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::decode::{conversation, number, user};
use super::heads::clock;
use super::remote::Failure;
use crate::model::store::StoreError;
use crate::model::{ConversationId, UserId};

/// Two users, the lower id first.
type Pair = (UserId, UserId);

/// Finds those that exist.
const FIND: &str = "
    SELECT e.n, d.conversation FROM UNNEST($1::bigint[], $2::bigint[]) WITH ORDINALITY AS e (low, high, n)
        JOIN directs AS d ON d.low = e.low AND d.high = e.high";

/// Nobody else makes a conversation of these users meanwhile, and those who do not exist are not there.
const LOCK: &str = "SELECT id FROM users WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";

const CREATE: &str = concat!(
    "WITH new AS MATERIALIZED (
        SELECT e.n, e.low, e.high, nextval('conversation_ids') AS id, ",
    clock!(),
    " AS at FROM UNNEST($1::bigint[], $2::bigint[]) WITH ORDINALITY AS e (low, high, n)
    ), made AS (
        INSERT INTO conversations (id, kind, changed_at) SELECT id, 0, at FROM new
    ), paired AS (
        INSERT INTO directs (low, high, conversation) SELECT low, high, id FROM new
    ), seated AS (
        INSERT INTO members (conversation, user_id, joined_seq, delivered, read, added_at)
            SELECT id, low, 0, 0, 0, at FROM new UNION ALL SELECT id, high, 0, 0, 0, at FROM new
    )
    SELECT n, id FROM new"
);

impl PostgresStore {
    pub(super) async fn find_or_create_directs(
        &self,
        pairs: &[(UserId, UserId)],
    ) -> Result<Vec<Option<ConversationId>>, StoreError> {
        let sorted = |&(one, other): &Pair| if one < other { (one, other) } else { (other, one) };
        let wanted: BTreeSet<Pair> = pairs.iter().map(sorted).filter(|(low, high)| low != high).collect();
        let wanted: Vec<Pair> = wanted.into_iter().collect();
        let rows = self.pool.read("looking direct conversations up", async |c| find(c, &wanted).await).await?;
        let mut known = named(&rows, &wanted)?;
        let missing: Vec<Pair> = wanted.into_iter().filter(|pair| !known.contains_key(pair)).collect();
        if !missing.is_empty() {
            known.extend(self.pool.transaction("creating direct conversations", missing, create).await?);
        }
        Ok(pairs.iter().map(|pair| known.get(&sorted(pair)).copied()).collect())
    }
}

async fn find(connection: &mut PgConnection, pairs: &[Pair]) -> Result<Vec<PgRow>, sqlx::Error> {
    let (low, high) = columns(pairs);
    sqlx::query(FIND).bind(low).bind(high).fetch_all(connection).await
}

fn create<'c>(
    connection: &'c mut PgConnection,
    pairs: &'c [Pair],
) -> BoxFuture<'c, Result<BTreeMap<Pair, ConversationId>, Failure>> {
    async move {
        let all: BTreeSet<i64> = pairs.iter().flat_map(|(low, high)| [*low, *high]).map(signed).collect();
        let ask = sqlx::query(LOCK).bind(all.into_iter().collect::<Vec<_>>());
        let rows = ask.fetch_all(&mut *connection).await?;
        let users = rows.iter().map(|row| user(row, 0)).collect::<Result<HashSet<UserId>, _>>()?;
        let mut known = named(&find(connection, pairs).await?, pairs)?;
        let new = |pair: &&Pair| !known.contains_key(pair) && users.contains(&pair.0) && users.contains(&pair.1);
        let new: Vec<Pair> = pairs.iter().filter(new).copied().collect();
        if !new.is_empty() {
            let (low, high) = columns(&new);
            let rows = sqlx::query(CREATE).bind(low).bind(high).fetch_all(connection).await?;
            known.extend(named(&rows, &new)?);
        }
        Ok(known)
    }
    .boxed()
}

/// Reads places from 1 in the pairs, and the conversation of each.
fn named(rows: &[PgRow], pairs: &[Pair]) -> Result<BTreeMap<Pair, ConversationId>, StoreError> {
    rows.iter().map(|row| Ok((pairs[number::<usize>(row, 0)? - 1], conversation(row, 1)?))).collect()
}

fn columns(pairs: &[Pair]) -> (Vec<i64>, Vec<i64>) {
    pairs.iter().map(|(low, high)| (signed(*low), signed(*high))).unzip()
}

fn signed(user: UserId) -> i64 {
    user.get().cast_signed()
}
