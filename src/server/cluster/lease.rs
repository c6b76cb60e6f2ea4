//! The row by which a node proves that it lives, and what it sees of the others'.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::holder;
use crate::model::store::{Beat, Beaten, Claim, Claimed, NodeRow, NodeState, Store, StoreError};
use crate::model::{Millis, NodeId};
use crate::server::core::Core;

/// A lease holds this long without a beat, in milliseconds, by the database's clock.
const LEASE_MS: u32 = 5_000;
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// The node table is read this often; while some node has no bus, the log is swept as often.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A beat or a look that takes longer is given up and tried again.
const GIVE_UP: Duration = Duration::from_secs(2);

/// A holder that beats is seen to within this time.
const WATCH_HOLDER: Duration = Duration::from_millis(2_500);

/// This node's lease and what it knows of its peers.
#[derive(Debug)]
pub(crate) struct Lease {
    epoch: AtomicU64,
    started_at: Millis,
    /// The database's clock minus this process's.
    clock: Clock,
    beat_now: Notify,
    state: watch::Sender<NodeState>,
    peers: Mutex<Vec<NodeRow>>,
    last_beat: AtomicI64,
}

/// Follows the database's clock without asking it.
#[derive(Debug)]
struct Clock {
    zero: Instant,
    offset: AtomicI64,
}

impl Clock {
    fn set(&self, now: Millis) {
        self.offset.store(now - self.zero.elapsed().as_millis() as Millis, Ordering::Release);
    }

    fn now(&self) -> Millis {
        self.offset.load(Ordering::Acquire) + self.zero.elapsed().as_millis() as Millis
    }
}

/// Why a node cannot have its row.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another process lives under this id.
    #[error("node.id = \"{node}\" is in use by {holder}: stop that process, or give this one another node.id")]
    Held {
        /// The id.
        node: NodeId,
        /// The other process.
        holder: String,
    },
    /// The log cannot be used.
    #[error("the lease of node \"{node}\" cannot be written")]
    Store {
        /// The id.
        node: NodeId,
        /// Why.
        source: StoreError,
    },
}

/// Takes the node's row: at once when it is free, run out, or held by a process that is known to be dead; otherwise the
/// holder is watched, and a holder that beats keeps it.
pub(crate) async fn claim(
    store: &dyn Store,
    node: &NodeId,
    tcp: &str,
    http: &str,
    weight: u32,
) -> Result<Lease, ClaimError> {
    let (epoch, now) = take(store, node, tcp, http, weight).await?;
    let clock = Clock { zero: Instant::now(), offset: AtomicI64::new(now) };
    Ok(Lease {
        epoch: AtomicU64::new(epoch),
        started_at: now,
        clock,
        beat_now: Notify::new(),
        state: watch::Sender::new(NodeState::Starting),
        peers: Mutex::default(),
        last_beat: AtomicI64::new(now),
    })
}

async fn take(
    store: &dyn Store,
    node: &NodeId,
    tcp: &str,
    http: &str,
    weight: u32,
) -> Result<(u64, Millis), ClaimError> {
    let mut claim = Claim {
        node: node.clone(),
        holder: holder::this_process(),
        tcp: tcp.to_owned(),
        http: http.to_owned(),
        weight,
        lease_ms: LEASE_MS,
        take_over: false,
    };
    let failed = |source| ClaimError::Store { node: node.clone(), source };
    let started = Instant::now();
    let mut seen = None;
    loop {
        match store.node_claim(&claim).await.map_err(failed)? {
            Claimed::Ours { epoch, now } => return Ok((epoch, now)),
            Claimed::Held { holder, .. } if holder::is_dead(&holder) => claim.take_over = true,
            Claimed::Held { holder, lease_until } => {
                let beats = *seen.get_or_insert(lease_until) != lease_until;
                if beats {
                    return Err(ClaimError::Held { node: node.clone(), holder });
                }
                // A lease that nobody has renewed for two beats belongs to a dead process, or to one that will be
                // fenced.
                claim.take_over = started.elapsed() > WATCH_HOLDER;
                sleep(LOOK_EVERY).await;
            }
        }
    }
}

impl Lease {
    /// Returns the fencing number.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Returns when the node took its row, by the database's clock.
    pub(crate) fn started_at(&self) -> Millis {
        self.started_at
    }

    /// Returns the database's clock, as far as it is known here.
    pub(crate) fn database_now(&self) -> Millis {
        self.clock.now()
    }

    /// Says what the node is doing, in its row too.
    pub(crate) fn set_state(&self, state: NodeState) {
        self.state.send_replace(state);
        self.beat_now();
    }

    /// Leaves new clients to the other nodes.
    fn withdraw(&self) {
        self.turn(NodeState::Ready, NodeState::Deaf);
    }

    /// Takes new clients again, if it was for its deafness that it did not.
    pub(super) fn return_to_service(&self) {
        self.turn(NodeState::Deaf, NodeState::Ready);
    }

    fn turn(&self, from: NodeState, to: NodeState) {
        let turned = self.state.send_if_modified(|state| {
            let turns = *state == from;
            if turns {
                *state = to;
            }
            turns
        });
        if turned {
            tracing::warn!(from = ?from, to = ?to, "the node's readiness has changed");
            self.beat_now();
        }
    }

    /// Returns what the node is doing, and is told when that changes.
    pub(crate) fn watch_state(&self) -> watch::Receiver<NodeState> {
        self.state.subscribe()
    }

    /// Returns what the node is doing.
    pub(crate) fn state(&self) -> NodeState {
        *self.state.borrow()
    }

    /// Writes the row at once instead of with the next beat.
    pub(crate) fn beat_now(&self) {
        self.beat_now.notify_one();
    }

    /// Returns when a peer that takes clients last heard itself, by the database's clock.
    fn best_hearing(&self) -> Option<Millis> {
        let peers = self.peers.lock().expect("no code panics while it holds the list of peers");
        peers.iter().filter(|peer| peer.state == NodeState::Ready).filter_map(|peer| peer.heard_at).max()
    }

    /// Returns the nodes, but this one, that hold a lease.
    pub(crate) fn live_peers(&self) -> Vec<NodeId> {
        let peers = self.peers.lock().expect("no code panics while it holds the list of peers");
        peers.iter().map(|peer| peer.node.clone()).collect()
    }
}

/// Beats, and looks after the other nodes, until the node stops. Returns an error when another process has taken this
/// node's place.
pub(crate) async fn run(
    core: Arc<Core>,
    tcp: String,
    http: String,
    weight: u32,
    stop: CancellationToken,
) -> Result<(), ClaimError> {
    let mut beats = interval(BEAT_EVERY);
    let mut looks = interval(LOOK_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut neighbours = Neighbours::default();
    loop {
        let beat_due = tokio::select! {
            // A log that answers slowly must not keep the beats behind the looks.
            biased;
            () = stop.cancelled() => return Ok(()),
            () = core.lease.beat_now.notified() => true,
            _ = beats.tick() => true,
            _ = looks.tick() => false,
        };
        let step = async {
            if beat_due {
                beat(&core, &tcp, &http, weight).await
            } else {
                look(&core, &mut neighbours).await.map_err(Into::into)
            }
        };
        match timeout(GIVE_UP, step).await {
            Ok(Ok(())) => {}
            Ok(Err(Trouble::Taken(error))) => return Err(error),
            Ok(Err(Trouble::Store(error))) => tracing::warn!(%error, beat = beat_due, "the node table cannot be used"),
            Err(_) => tracing::warn!(beat = beat_due, "the node table does not answer"),
        }
    }
}

enum Trouble {
    Store(StoreError),
    Taken(ClaimError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

async fn beat(core: &Core, tcp: &str, http: &str, weight: u32) -> Result<(), Trouble> {
    let beat = condition(core);
    match core.store.node_beat(&beat).await? {
        Beaten::Alive { now } => {
            core.lease.clock.set(now);
            core.lease.last_beat.store(now, Ordering::Release);
            if beat.dirty_since.is_some() {
                core.router.dirty_told(now);
            }
            if core.health.is_outdone(core.lease.best_hearing()) {
                core.lease.withdraw();
            }
            Ok(())
        }
        Beaten::Fenced => heal(core, tcp, http, weight).await,
    }
}

/// Gives the row back, with a last word on what may not have reached the others.
pub(crate) async fn release(core: &Core) -> Result<(), StoreError> {
    let epoch = core.lease.epoch();
    if core.router.dirty_since(core.lease.database_now()).is_some() {
        core.store.node_beat(&condition(core)).await?;
    }
    core.store.node_release(&core.node, epoch).await
}

fn condition(core: &Core) -> Beat {
    Beat {
        node: core.node.clone(),
        epoch: core.lease.epoch(),
        state: core.lease.state(),
        bus_ok: core.health.bus_ok(),
        heard: core.health.take_fresh(),
        dirty_since: core.router.dirty_since(core.lease.database_now()),
        sessions: core.locals.count() as u32,
        lease_ms: LEASE_MS,
    }
}

/// Comes back after the lease was lost: a new epoch, the presence of every session written anew, and a look at all that
/// was missed.
async fn heal(core: &Core, tcp: &str, http: &str, weight: u32) -> Result<(), Trouble> {
    tracing::warn!(epoch = core.lease.epoch(), "the lease was lost, taking a new one");
    let (epoch, now) = match take(&*core.store, &core.node, tcp, http, weight).await {
        Ok(taken) => taken,
        Err(ClaimError::Store { source, .. }) => return Err(source.into()),
        Err(taken) => return Err(Trouble::Taken(taken)),
    };
    core.lease.epoch.store(epoch, Ordering::Release);
    core.lease.clock.set(now);
    let since = core.lease.last_beat.swap(now, Ordering::AcqRel) - Millis::from(LEASE_MS);
    core.presence.rewrite(since);
    core.repairs.sweep(since);
    core.lease.beat_now();
    Ok(())
}

/// What was already done about the other nodes.
#[derive(Debug, Default)]
struct Neighbours {
    /// Since when a peer's publishes may have been lost, as far as it was swept for.
    dirty: HashMap<NodeId, Millis>,
    /// The last beat of peers that held a lease.
    alive: HashMap<NodeId, (u64, Millis)>,
}

/// Reads the node table: expires the dead, and sweeps for those whose publishes may not arrive.
async fn look(core: &Core, neighbours: &mut Neighbours) -> Result<(), StoreError> {
    let (now, rows) = core.store.nodes().await?;
    core.lease.clock.set(now);
    let mut live = Vec::new();
    let mut degraded = !core.health.bus_ok() || core.subscriptions.uncovered();
    for row in rows.into_iter().filter(|row| row.node != core.node) {
        let held = !matches!(row.state, NodeState::Stopped | NodeState::Expired);
        if held && row.lease_until < now {
            if let Some(gone) = core.store.node_expire(&row.node, row.epoch).await? {
                core.announcer.left(gone);
                tracing::warn!(peer = %row.node, "a peer's lease ran out, its sessions are gone");
            }
        } else if held {
            degraded |= !row.bus_ok || row.dirty_since.is_some();
            if let Some(since) = row.dirty_since
                && neighbours.dirty.insert(row.node.clone(), since) != Some(since)
            {
                core.repairs.sweep(since);
            }
            // A process that took the row over without anybody expiring it: its predecessor died between two looks.
            if let Some((epoch, beat_at)) = neighbours.alive.insert(row.node.clone(), (row.epoch, row.beat_at))
                && epoch != row.epoch
            {
                core.repairs.sweep(beat_at - Millis::from(LEASE_MS));
            }
            live.push(row);
            continue;
        }
        // It is gone. What it committed last may not have been published, unless it gave its lease back.
        if let Some((_, beat_at)) = neighbours.alive.remove(&row.node) {
            match row.dirty_since {
                _ if row.state != NodeState::Stopped => core.repairs.sweep(beat_at - Millis::from(LEASE_MS)),
                Some(since) => core.repairs.sweep(since),
                None => {}
            }
        }
        neighbours.dirty.remove(&row.node);
    }
    *core.lease.peers.lock().expect("no code panics while it holds the list of peers") = live;
    if degraded {
        core.repairs.sweep(now);
    }
    Ok(())
}
