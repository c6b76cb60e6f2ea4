use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use super::PostgresStore;
use super::decode::{integer, node_row, number, text, user};
use super::heads::{NOW, clock};
use super::remote::Failure;
use crate::model::store::{Beat, Beaten, Claim, Claimed, NodeRow, StoreError};
use crate::model::{Millis, NodeId, UserId};

/// Makes the row of a node that is new, so that there is one to lock.
const MAKE: &str = "
    INSERT INTO nodes (node, epoch, holder, tcp, http, weight, state, bus_ok, sessions, beat_at, lease_until)
        VALUES ($1, 0, '', '', '', 0, 'stopped', false, 0, 0, 0) ON CONFLICT (node) DO NOTHING";

const LOCK: &str = "
    SELECT holder, lease_until, epoch, (state NOT IN ('stopped', 'expired'))::int::bigint
        FROM nodes WHERE node = $1 FOR UPDATE";

/// Whatever an earlier holder that did not end cleanly had published since its last beat may have been lost.
const CLAIM: &str = "
    UPDATE nodes SET epoch = $2, holder = $3, tcp = $4, http = $5, weight = $6, state = 'starting', bus_ok = false,
            heard_at = NULL,
            dirty_since = CASE WHEN state = 'stopped' THEN dirty_since ELSE least(beat_at, dirty_since) END,
            sessions = 0, beat_at = $7, lease_until = $8, drain_asked_at = NULL
        WHERE node = $1";

const LEAVE: &str = "DELETE FROM presence WHERE node = $1 AND epoch <= $2 RETURNING user_id";

const BEAT: &str = concat!(
    "UPDATE nodes SET state = $3, bus_ok = $4, heard_at = CASE WHEN $5 THEN clock.now ELSE heard_at END,
            dirty_since = $6, sessions = $7, beat_at = clock.now, lease_until = clock.now + $8
        FROM (SELECT ",
    clock!(),
    " AS now) AS clock
        WHERE node = $1 AND epoch = $2 AND state NOT IN ('stopped', 'expired') RETURNING beat_at"
);

/// The clock in the first row, so that there is one without nodes too.
const NODES: &str = concat!(
    "SELECT n.node, n.epoch, n.holder, n.tcp, n.http, n.weight, n.state, n.bus_ok::int::bigint, n.heard_at,
            n.dirty_since, n.sessions, n.beat_at, n.lease_until, n.drain_asked_at, clock.now
        FROM (SELECT ",
    clock!(),
    " AS now) AS clock LEFT JOIN nodes AS n ON true ORDER BY n.node COLLATE \"C\""
);

const DRAIN: &str = concat!(
    "UPDATE nodes SET drain_asked_at = coalesce(drain_asked_at, ",
    clock!(),
    ") WHERE node = $1 AND epoch = $2 AND state NOT IN ('stopped', 'expired') AND lease_until >= ",
    clock!()
);

const EXPIRE: &str = concat!(
    "UPDATE nodes SET state = 'expired', epoch = epoch + 1
        WHERE node = $1 AND epoch = $2 AND state NOT IN ('stopped', 'expired') AND lease_until < ",
    clock!()
);

const RELEASE: &str = concat!(
    "UPDATE nodes SET state = 'stopped', bus_ok = false, sessions = 0, lease_until = ",
    clock!(),
    " WHERE node = $1 AND epoch = $2 AND state <> 'expired'"
);

impl PostgresStore {
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

fn take<'c>(connection: &'c mut PgConnection, claim: &'c Claim) -> BoxFuture<'c, Result<Claimed, Failure>> {
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
            .bind(node)
            .bind(epoch.cast_signed())
            .bind(&claim.holder)
            .bind(&claim.tcp)
            .bind(&claim.http)
            .bind(i64::from(claim.weight))
            .bind(now)
            .bind(now + i64::from(claim.lease_ms));
        ask.execute(&mut *connection).await?;
        sqlx::query(LEAVE).bind(node).bind(earlier).execute(connection).await?;
        Ok(Claimed::Ours { epoch, now })
    }
    .boxed()
}

fn renew<'c>(connection: &'c mut PgConnection, beat: &'c Beat) -> BoxFuture<'c, Result<Beaten, Failure>> {
    async move {
        let ask = sqlx::query(BEAT)
            .bind(beat.node.as_str())
            .bind(beat.epoch.cast_signed())
            .bind(beat.state.as_str())
            .bind(beat.bus_ok)
            .bind(beat.heard)
            .bind(beat.dirty_since)
            .bind(i64::from(beat.sessions))
            .bind(i64::from(beat.lease_ms));
        Ok(match ask.fetch_all(connection).await?.first() {
            Some(row) => Beaten::Alive { now: integer(row, 0)? },
            None => Beaten::Fenced,
        })
    }
    .boxed()
}

fn ask_to_drain<'c>(
    connection: &'c mut PgConnection,
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
    connection: &'c mut PgConnection,
    (sql, node, epoch): &'c (&'static str, NodeId, i64),
) -> BoxFuture<'c, Result<Option<Vec<UserId>>, Failure>> {
    async move {
        let done = sqlx::query(*sql).bind(node.as_str()).bind(epoch).execute(&mut *connection).await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        let gone = sqlx::query(LEAVE).bind(node.as_str()).bind(epoch).fetch_all(connection).await?;
        let mut users = gone.iter().map(|row| user(row, 0)).collect::<Result<Vec<UserId>, _>>()?;
        users.sort_unstable();
        Ok(Some(users))
    }
    .boxed()
}
