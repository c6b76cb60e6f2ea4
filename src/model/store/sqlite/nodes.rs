use futures_util::FutureExt;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::connections::fetch_sets;
use super::decode::{integer, node_row, number, text, user};
use super::failure::Failure;
use crate::model::store::{Beat, Beaten, Claim, Claimed, NodeRow, StoreError};
use crate::model::{Millis, NodeId, UserId};

const READ_FOR_CLAIM: &str = "
    BEGIN IMMEDIATE;
    SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER);
    SELECT holder, lease_until, epoch FROM nodes WHERE node = $1;
    SELECT 1 FROM nodes WHERE node = $1 AND state NOT IN ('stopped', 'expired')";

/// Whatever an earlier holder that did not end cleanly had published since its last beat may have been lost.
const WRITE_CLAIM: &str = "
    INSERT INTO nodes (node, epoch, holder, tcp, http, weight, state, bus_ok, sessions, beat_at, lease_until)
        VALUES ($1, $2, $3, $4, $5, $6, 'starting', 0, 0, $7, $8)
        ON CONFLICT (node) DO UPDATE SET
            epoch = excluded.epoch, holder = excluded.holder, tcp = excluded.tcp, http = excluded.http,
            weight = excluded.weight, state = 'starting', bus_ok = 0, heard_at = NULL,
            dirty_since =
                CASE WHEN state = 'stopped' THEN dirty_since ELSE min(beat_at, ifnull(dirty_since, beat_at)) END,
            sessions = 0, beat_at = excluded.beat_at, lease_until = excluded.lease_until, drain_asked_at = NULL;
    DELETE FROM presence WHERE node = $1;
    COMMIT";

const BEAT: &str = "
    UPDATE nodes SET state = $3, bus_ok = $4, heard_at = iif($5, clock.now, heard_at), dirty_since = $6, sessions = $7,
            beat_at = clock.now, lease_until = clock.now + $8
        FROM (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS now) AS clock
        WHERE node = $1 AND epoch = $2 AND state NOT IN ('stopped', 'expired')
        RETURNING beat_at";

const NODES: &str = "
    SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER);
    SELECT node, epoch, holder, tcp, http, weight, state, bus_ok, heard_at, dirty_since, sessions, beat_at, lease_until,
            drain_asked_at
        FROM nodes ORDER BY node";

const DRAIN: &str = "
    UPDATE nodes SET drain_asked_at = ifnull(drain_asked_at, clock.now)
        FROM (SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER) AS now) AS clock
        WHERE node = $1 AND epoch = $2 AND state NOT IN ('stopped', 'expired') AND lease_until >= clock.now
        RETURNING epoch";

const EXPIRE: &str = "
    BEGIN IMMEDIATE;
    UPDATE nodes SET state = 'expired', epoch = epoch + 1
        WHERE node = $1 AND epoch = $2 AND state NOT IN ('stopped', 'expired')
            AND lease_until < CAST(round(unixepoch('subsec') * 1000) AS INTEGER)
        RETURNING epoch;
    DELETE FROM presence WHERE node = $1 AND epoch <= $2
        AND EXISTS (SELECT 1 FROM nodes WHERE node = $1 AND epoch = $2 + 1 AND state = 'expired')
        RETURNING user;
    COMMIT";

const RELEASE: &str = "
    BEGIN IMMEDIATE;
    UPDATE nodes SET state = 'stopped', bus_ok = 0, sessions = 0,
            lease_until = CAST(round(unixepoch('subsec') * 1000) AS INTEGER)
        WHERE node = $1 AND epoch = $2 AND state <> 'expired';
    DELETE FROM presence WHERE node = $1 AND epoch <= $2
        AND EXISTS (SELECT 1 FROM nodes WHERE node = $1 AND epoch = $2 AND state = 'stopped');
    COMMIT";

impl SqliteStore {
    pub(super) async fn claim_node(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        let claim = claim.clone();
        let claimed = self.connections.transaction(|connection| take(connection, claim).boxed()).await;
        claimed.map_err(|failure| failure.into_store_error("claiming a node's row"))
    }

    pub(super) async fn beat_node(&self, beat: &Beat) -> Result<Beaten, StoreError> {
        let ask = sqlx::query(BEAT)
            .bind(beat.node.as_str().to_owned())
            .bind(beat.epoch.cast_signed())
            .bind(beat.state.as_str())
            .bind(beat.bus_ok)
            .bind(beat.heard)
            .bind(beat.dirty_since)
            .bind(i64::from(beat.sessions))
            .bind(i64::from(beat.lease_ms));
        let sets = self.connections.write("renewing a node's lease", ask).await?;
        match sets[0].first() {
            Some(row) => Ok(Beaten::Alive { now: integer(row, 0)? }),
            None => Ok(Beaten::Fenced),
        }
    }

    pub(super) async fn read_nodes(&self) -> Result<(Millis, Vec<NodeRow>), StoreError> {
        let sets = self.connections.read("reading the node table", sqlx::query(NODES)).await?;
        Ok((integer(&sets[0][0], 0)?, sets[1].iter().map(node_row).collect::<Result<_, _>>()?))
    }

    pub(super) async fn drain_node(&self, node: &NodeId, epoch: u64) -> Result<bool, StoreError> {
        let ask = sqlx::query(DRAIN).bind(node.as_str().to_owned()).bind(epoch.cast_signed());
        let sets = self.connections.write("asking a node to drain", ask).await?;
        Ok(!sets[0].is_empty())
    }

    pub(super) async fn expire_node(&self, node: &NodeId, epoch: u64) -> Result<Option<Vec<UserId>>, StoreError> {
        let ask = sqlx::query(EXPIRE).bind(node.as_str().to_owned()).bind(epoch.cast_signed());
        let sets = self.connections.write("expiring a node's lease", ask).await?;
        if sets[1].is_empty() {
            return Ok(None);
        }
        let mut users = sets[2].iter().map(|row| user(row, 0)).collect::<Result<Vec<UserId>, _>>()?;
        users.sort_unstable();
        Ok(Some(users))
    }

    pub(super) async fn release_node(&self, node: &NodeId, epoch: u64) -> Result<(), StoreError> {
        let ask = sqlx::query(RELEASE).bind(node.as_str().to_owned()).bind(epoch.cast_signed());
        self.connections.write("releasing a node's lease", ask).await?;
        Ok(())
    }
}

async fn take(connection: &mut SqliteConnection, claim: Claim) -> Result<Claimed, Failure> {
    let sets = fetch_sets(connection, sqlx::query(READ_FOR_CLAIM).bind(claim.node.as_str().to_owned())).await?;
    let now = integer(&sets[1][0], 0)?;
    let mut epoch = 1;
    if let Some(row) = sets[2].first() {
        let (holder, lease_until) = (text(row, 0)?, integer(row, 1)?);
        let lives = !sets[3].is_empty() && lease_until >= now;
        if lives && holder != claim.holder && !claim.take_over {
            fetch_sets(connection, sqlx::query("ROLLBACK")).await?;
            return Ok(Claimed::Held { holder, lease_until });
        }
        epoch = number::<u64>(row, 2)? + 1;
    }
    let ask = sqlx::query(WRITE_CLAIM)
        .bind(claim.node.as_str().to_owned())
        .bind(epoch.cast_signed())
        .bind(claim.holder)
        .bind(claim.tcp)
        .bind(claim.http)
        .bind(i64::from(claim.weight))
        .bind(now)
        .bind(now + i64::from(claim.lease_ms));
    fetch_sets(connection, ask).await.map_err(Failure::Committing)?;
    Ok(Claimed::Ours { epoch, now })
}
