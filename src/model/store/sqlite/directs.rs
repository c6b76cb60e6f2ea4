use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::FutureExt;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::connections::fetch_sets;
use super::decode::{conversation, conversation_id, integer, json, number};
use super::failure::Failure;
use crate::model::store::StoreError;
use crate::model::{ConversationId, UserId};

/// Two users, the lower id first.
type Pair = (UserId, UserId);

/// Finds those that exist.
pub(super) const FIND: &str = "
    SELECT e.key, d.conversation FROM json_each($1) AS e
        CROSS JOIN directs AS d ON d.low = e.value ->> 0 AND d.high = e.value ->> 1";

/// Begins, finds those that exist by now, those whose users exist, the highest id and the time.
const READ: &str = "
    BEGIN IMMEDIATE;
    SELECT e.key, d.conversation FROM json_each($1) AS e
        CROSS JOIN directs AS d ON d.low = e.value ->> 0 AND d.high = e.value ->> 1;
    SELECT e.key FROM json_each($1) AS e
        CROSS JOIN users AS low ON low.id = e.value ->> 0 CROSS JOIN users AS high ON high.id = e.value ->> 1;
    SELECT ifnull(max(id), 0), CAST(round(unixepoch('subsec') * 1000) AS INTEGER) FROM conversations";

/// Writes (low, high, conversation) triples.
const WRITE: &str = "
    INSERT INTO conversations (id, kind, changed_at) SELECT value ->> 2, 0, $1 FROM json_each($2);
    INSERT INTO directs (low, high, conversation)
        SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($2);
    INSERT INTO members (conversation, user, joined_seq, delivered, read, added_at)
        SELECT value ->> 2, value ->> 0, 0, 0, 0, $1 FROM json_each($2)
        UNION ALL SELECT value ->> 2, value ->> 1, 0, 0, 0, $1 FROM json_each($2);
    COMMIT";

impl SqliteStore {
    pub(super) async fn find_or_create_directs(
        &self,
        pairs: &[(UserId, UserId)],
    ) -> Result<Vec<Option<ConversationId>>, StoreError> {
        let sorted = |&(one, other): &Pair| if one < other { (one, other) } else { (other, one) };
        let wanted: BTreeSet<Pair> = pairs.iter().map(sorted).filter(|(low, high)| low != high).collect();
        let wanted: Vec<Pair> = wanted.into_iter().collect();

        let sets =
            self.connections.read("looking direct conversations up", sqlx::query(FIND).bind(json(&wanted))).await?;
        let mut known: BTreeMap<Pair, ConversationId> = BTreeMap::new();
        for row in &sets[0] {
            known.insert(wanted[number::<usize>(row, 0)?], conversation(row, 1)?);
        }
        let missing: Vec<Pair> = wanted.into_iter().filter(|pair| !known.contains_key(pair)).collect();
        if !missing.is_empty() {
            let create = self.connections.transaction(|connection| create(connection, missing).boxed()).await;
            known.extend(create.map_err(|failure| failure.into_store_error("creating direct conversations"))?);
        }
        Ok(pairs.iter().map(|pair| known.get(&sorted(pair)).copied()).collect())
    }
}

async fn create(
    connection: &mut SqliteConnection,
    pairs: Vec<Pair>,
) -> Result<BTreeMap<Pair, ConversationId>, Failure> {
    let sets = fetch_sets(connection, sqlx::query(READ).bind(json(&pairs))).await?;
    let mut known = BTreeMap::new();
    for row in &sets[1] {
        known.insert(pairs[number::<usize>(row, 0)?], conversation(row, 1)?);
    }
    let (highest, at) = (integer(&sets[3][0], 0)?, integer(&sets[3][0], 1)?);
    let mut new = Vec::new();
    for row in &sets[2] {
        let pair = pairs[number::<usize>(row, 0)?];
        if let Entry::Vacant(vacant) = known.entry(pair) {
            let id = *vacant.insert(conversation_id(highest + 1 + new.len() as i64)?);
            new.push((pair.0, pair.1, id));
        }
    }
    let ask = if new.is_empty() { sqlx::query("ROLLBACK") } else { sqlx::query(WRITE).bind(at).bind(json(&new)) };
    fetch_sets(connection, ask).await.map_err(Failure::Committing)?;
    Ok(known)
}
