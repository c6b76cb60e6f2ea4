use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::MySqlConnection;

use super::MysqlStore;
use super::decode::{integer, node_row, number, text, user};
use super::heads::{NOW, clock};
use super::remote::Failure;
use crate::model::store::{Beat, Beaten, Claim, Claimed, NodeRow, StoreError};
use crate::model::{Millis, NodeId, UserId};

/// Makes the row of a node that is new, so that there is one to lock.
const MAKE: &str = "
    INSERT INTO nodes (node, epoch, holder, tcp, http, weight, state, bus_ok, sessions, beat_at, lease_until)
        VALUES (?, 0, '', '', '', 0, 'stopped', 0, 0, 0, 0) ON DUPLICATE KEY UPDATE node = node";

const LOCK: &str = "
    SELECT holder, lease_until, epoch, state NOT IN ('stopped', 'expired')
        FROM nodes WHERE node = ? FOR UPDATE";

/// Whatever an earlier holder that did not end cleanly had published since its last beat may have been lost. A column is
/// read before it is set: what stands behind sees what was set before it.
const CLAIM: &str = "
    UPDATE nodes SET
            dirty_since =
                CASE WHEN state = 'stopped' THEN dirty_since ELSE LEAST(beat_at, IFNULL(dirty_since, beat_at)) END,
            epoch = ?, holder = ?, tcp = ?, http = ?, weight = ?, state = 'starting', bus_ok = 0, heard_at = NULL,
            sessions = 0, beat_at = ?, lease_until = ?, drain_asked_at = NULL
        WHERE node = ?";

const THERE: &str = "SELECT user_id FROM presence WHERE node = ? AND epoch <= ? ORDER BY user_id FOR UPDATE";
const LEAVE: &str = "DELETE FROM presence WHERE node = ? AND epoch <= ?";

const BEAT: &str = "
    UPDATE nodes SET state = ?, bus_ok = ?, heard_at = coalesce(?, heard_at), dirty_since = ?, sessions = ?,
            beat_at = ?, lease_until = ?
        WHERE node = ? AND epoch = ? AND state NOT IN ('stopped', 'expired')";

/// The clock in the first row, so that there is one without nodes too.
const NODES: &str = concat!(
    "SELECT n.node, n.epoch, n.holder, n.tcp, n.http, n.weight, n.state, n.bus_ok, n.heard_at,
            n.dirty_since, n.sessions, n.beat_at, n.lease_until, n.drain_asked_at, clock.now
        FROM (SELECT ",
    clock!(),
    " AS now) AS clock LEFT JOIN nodes AS n ON true ORDER BY n.node"
);

const DRAIN: &str = concat!(
    "UPDATE nodes SET drain_asked_at = coalesce(drain_asked_at, ",
    clock!(),
    ") WHERE node = ? AND epoch = ? AND state NOT IN ('stopped', 'expired') AND lease_until >= ",
    clock!()
);

const EXPIRE: &str = concat!(
    "UPDATE nodes SET state = 'expired', epoch = epoch + 1
        WHERE node = ? AND epoch = ? AND state NOT IN ('stopped', 'expired') AND lease_until < ",
    clock!()
);

const RELEASE: &str = concat!(
    "UPDATE nodes SET state = 'stopped', bus_ok = 0, sessions = 0, lease_until = ",
    clock!(),
    " WHERE node = ? AND epoch = ? AND state <> 'expired'"
);

impl MysqlStore {
    pub(super) async fn claim_node(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        self.pool.transaction("claiming a node's row", claim.clone(), take).await
    }

    pub(super) async fn beat_node(&self, beat: &Beat) -> Result<Beaten, StoreError> {
        self.pool.write("renewing a node's lease", beat.clone(), renew).await
    }

    pub(super) async fn read_nodes(&self) -> Result<(Millis, Vec<NodeRow>), StoreError> {
        let rows = self.pool.read("reading the node table", async |c| sqlx::query(NODES).fetch_all(c).await).await?;
        let now = integer(&rows[0], 14)?;
        let mut nodes = Vec::new();
        for row in &rows {
            if super::decode::optional(row, 1)?.is_some() {
                nodes.push(node_row(row)?);
            }
        }
        Ok((now, nodes))
    }

    pub(super) async fn drain_node(&self, node: &NodeId, epoch: u64) -> Result<bool, StoreError> {
        self.pool.write("asking a node to drain", (node.clone(), epoch.cast_signed()), ask_to_drain).await
    }

    pub(super) async fn expire_node(&self, node: &NodeId, epoch: u64) -> Result<Option<Vec<UserId>>, StoreError> {
        let input = (EXPIRE, node.clone(), epoch.cast_signed());
        self.pool.transaction("expiring a node's lease", input, end).await
    }

    pub(super) async fn release_node(&self, node: &NodeId, epoch: u64) -> Result<(), StoreError> {
        let input = (RELEASE, node.clone(), epoch.cast_signed());
        self.pool.transaction("releasing a node's lease", input, end).await.map(drop)
    }
}

fn take<'c>(connection: &'c mut MySqlConnection, claim: &'c Claim) -> BoxFuture<'c, Result<Claimed, Failure>> {
    async move {
        let node = claim.node.as_str();
        sqlx::query(MAKE).bind(node).execute(&mut *connection).await?;
        let row = sqlx::query(LOCK).bind(node).fetch_one(&mut *connection).await?;
        let clock = sqlx::query(NOW).fetch_one(&mut *connection).await?;
        let now = integer(&clock, 0)?;
        let (holder, lease_until) = (text(&row, 0)?, integer(&row, 1)?);
        let lives = integer(&row, 3)? != 0 && lease_until >= now;
        if lives && holder != claim.holder && !claim.take_over {
            return Ok(Claimed::Held { holder, lease_until });
        }
        let earlier = integer(&row, 2)?;
        let epoch = number::<u64>(&row, 2)? + 1;
        let ask = sqlx::query(CLAIM)
            .bind(epoch.cast_signed())
            .bind(&claim.holder)
            .bind(&claim.tcp)
            .bind(&claim.http)
            .bind(i64::from(claim.weight))
            .bind(now)
            .bind(now + i64::from(claim.lease_ms))
            .bind(node);
        ask.execute(&mut *connection).await?;
        sqlx::query(LEAVE).bind(node).bind(earlier).execute(connection).await?;
        Ok(Claimed::Ours { epoch, now })
    }
    .boxed()
}

fn renew<'c>(connection: &'c mut MySqlConnection, beat: &'c Beat) -> BoxFuture<'c, Result<Beaten, Failure>> {
    async move {
        let now = integer(&sqlx::query(NOW).fetch_one(&mut *connection).await?, 0)?;
        let ask = sqlx::query(BEAT)
            .bind(beat.state.as_str())
            .bind(i64::from(beat.bus_ok))
            .bind(beat.heard.then_some(now))
            .bind(beat.dirty_since)
            .bind(i64::from(beat.sessions))
            .bind(now)
            .bind(now + i64::from(beat.lease_ms))
            .bind(beat.node.as_str())
            .bind(beat.epoch.cast_signed());
        let held = ask.execute(connection).await?.rows_affected() > 0;
        Ok(if held { Beaten::Alive { now } } else { Beaten::Fenced })
    }
    .boxed()
}

fn ask_to_drain<'c>(
    connection: &'c mut MySqlConnection,
    (node, epoch): &'c (NodeId, i64),
) -> BoxFuture<'c, Result<bool, Failure>> {
    async move {
        let asked = sqlx::query(DRAIN).bind(node.as_str()).bind(epoch).execute(connection).await?;
        Ok(asked.rows_affected() > 0)
    }
    .boxed()
}

/// Ends a lease. The presence rows go in a statement of their own, which sees those that came while the first waited.
fn end<'c>(
    connection: &'c mut MySqlConnection,
    (sql, node, epoch): &'c (&'static str, NodeId, i64),
) -> BoxFuture<'c, Result<Option<Vec<UserId>>, Failure>> {
    async move {
        let done = sqlx::query(*sql).bind(node.as_str()).bind(epoch).execute(&mut *connection).await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        let there = sqlx::query(THERE).bind(node.as_str()).bind(epoch).fetch_all(&mut *connection).await?;
        sqlx::query(LEAVE).bind(node.as_str()).bind(epoch).execute(connection).await?;
        Ok(Some(there.iter().map(|row| user(row, 0)).collect::<Result<_, _>>()?))
    }
    .boxed()
}
