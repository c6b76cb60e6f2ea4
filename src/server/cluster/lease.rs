//! The row by which a node proves that it lives.

use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::claim::{ClaimError, take};
use super::clock::Clock;
use super::neighbours::{Neighbours, look};
use crate::model::store::{Beat, Beaten, NodeRow, NodeState, Store, StoreError};
use crate::model::{Millis, NodeId};
use crate::server::core::Core;

/// A lease holds this long without a beat, in milliseconds, by the database's clock.
pub(super) const LEASE_MS: u32 = 5_000;
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// The node table is read this often; while some node has no bus, the log is swept as often.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A beat or a look that takes longer is given up and tried again.
const GIVE_UP: Duration = Duration::from_secs(2);

/// This node's lease and what it knows of its peers.
#[derive(Debug)]
pub(crate) struct Lease {
    epoch: AtomicU64,
    started_at: Millis,
    /// The database's clock minus this process's.
    clock: Clock,
    beat_now: Notify,
    state: watch::Sender<NodeState>,
    /// What the row says that the node is doing.
    wrote: watch::Sender<Option<NodeState>>,
    /// What the node owes its sessions since it lost its lease.
    debt: watch::Sender<Option<Debt>>,
    drain_asked: CancellationToken,
    peers: Mutex<Vec<NodeRow>>,
    /// The last beat, by the database's clock.
    last_beat: AtomicI64,
    /// The same, in milliseconds of this process.
    alive_at: AtomicU64,
}

/// What is to be made good after the lease was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Debt {
    /// Tells it from a later one.
    number: u64,
    /// Since when, by the database's clock, others may not have known of the sessions here.
    pub(super) since: Millis,
    /// There is a new lease.
    pub(super) held: bool,
}

/// Takes the node's row and begins its lease.
pub(crate) async fn claim(
    store: &dyn Store,
    node: &NodeId,
    tcp: &str,
    http: &str,
    weight: u32,
) -> Result<Lease, ClaimError> {
    let (epoch, now) = take(store, node, tcp, http, weight).await?;
    let clock = Clock::new(now);
    Ok(Lease {
        epoch: AtomicU64::new(epoch),
        started_at: now,
        clock,
        beat_now: Notify::new(),
        state: watch::Sender::new(NodeState::Starting),
        wrote: watch::Sender::new(None),
        debt: watch::Sender::new(None),
        drain_asked: CancellationToken::new(),
        peers: Mutex::default(),
        last_beat: AtomicI64::new(now),
        alive_at: AtomicU64::new(0),
    })
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

    /// Waits until the row says that the node does this. Cancel-safe.
    pub(crate) async fn wrote(&self, state: NodeState) {
        let wrote = self.wrote.subscribe().wait_for(|wrote| *wrote == Some(state)).await.map(drop);
        wrote.expect("the sender is a field of the lease");
    }

    /// Tells whether the row was not renewed for as long as a lease holds: others may take this node for dead.
    pub(crate) fn is_overdue(&self) -> bool {
        self.clock.elapsed().saturating_sub(self.alive_at.load(Ordering::Acquire)) >= u64::from(LEASE_MS)
    }

    /// Notes that an operator wants the node drained.
    pub(super) fn ask_to_drain(&self) {
        if !self.drain_asked.is_cancelled() {
            tracing::info!("an operator asks the node to drain");
            self.drain_asked.cancel();
        }
    }

    /// Waits until an operator wants the node drained. Cancel-safe.
    pub(crate) fn asked_to_drain(&self) -> impl Future<Output = ()> + Send + use<> {
        self.drain_asked.clone().cancelled_owned()
    }

    /// Notes that the row is another's, and since when.
    fn lose(&self) {
        let since = self.last_beat.load(Ordering::Acquire) - Millis::from(LEASE_MS);
        self.debt.send_modify(|debt| {
            let (number, since) = debt.map_or((0, since), |earlier| (earlier.number, since.min(earlier.since)));
            *debt = Some(Debt { number: number + 1, since, held: false });
        });
        self.turn(&[NodeState::Starting, NodeState::Ready, NodeState::Deaf], NodeState::Expired);
    }

    /// Notes that the row is this node's again, and returns since when there is something to make good.
    fn regain(&self, now: Millis) -> Millis {
        self.lives(now);
        let mut since = now;
        self.debt.send_modify(|debt| {
            if let Some(debt) = debt {
                (debt.held, since) = (true, debt.since);
            }
        });
        since
    }

    /// Waits until there is a lease again and something to make good. Cancel-safe.
    pub(super) async fn owes(&self) -> Debt {
        let mut debt = self.debt.subscribe();
        let owed = debt.wait_for(|debt| debt.is_some_and(|debt| debt.held)).await.map(|debt| *debt);
        owed.ok().flatten().expect("the sender is a field of the lease, and there is one")
    }

    /// Notes that it is made good: the node is ready, unless the lease was lost again meanwhile.
    pub(super) fn settle(&self, settled: Debt) {
        if self.debt.send_if_modified(|debt| debt.take_if(|debt| *debt == settled).is_some()) {
            self.turn(&[NodeState::Expired], NodeState::Ready);
        }
    }

    fn lives(&self, now: Millis) {
        self.clock.set(now);
        self.last_beat.store(now, Ordering::Release);
        self.alive_at.store(self.clock.elapsed(), Ordering::Release);
    }

    /// Notes the database's clock.
    pub(super) fn set_clock(&self, now: Millis) {
        self.clock.set(now);
    }

    /// Leaves new clients to the other nodes.
    fn withdraw(&self) {
        self.turn(&[NodeState::Ready], NodeState::Deaf);
    }

    /// Takes new clients again, if it was for its deafness that it did not.
    pub(super) fn return_to_service(&self) {
        self.turn(&[NodeState::Deaf], NodeState::Ready);
    }

    fn turn(&self, from: &[NodeState], to: NodeState) {
        let turned = self.state.send_if_modified(|state| {
            let turns = from.contains(state);
            if turns {
                tracing::warn!(from = ?*state, to = ?to, "the node's readiness has changed");
                *state = to;
            }
            turns
        });
        if turned {
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

    /// Notes which other nodes hold a lease.
    pub(super) fn set_peers(&self, peers: Vec<NodeRow>) {
        *self.peers.lock().expect("no code panics while it holds the list of peers") = peers;
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
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        taken = beats(&core, &tcp, &http, weight) => Err(taken),
        never = looks(&core) => match never {},
    }
}

/// Renews the lease for ever. Returns when another process has taken this node's place.
async fn beats(core: &Core, tcp: &str, http: &str, weight: u32) -> ClaimError {
    let mut beats = interval(BEAT_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = core.lease.beat_now.notified() => {}
            _ = beats.tick() => {}
        }
        match timeout(GIVE_UP, beat(core, tcp, http, weight)).await {
            Ok(Ok(())) => {}
            Ok(Err(Trouble::Taken(error))) => return error,
            Ok(Err(Trouble::Store(error))) => tracing::warn!(%error, "the lease cannot be renewed"),
            Err(_) => tracing::warn!("the lease cannot be renewed, the log does not answer"),
        }
    }
}

/// Looks after the other nodes for ever. Neither beats nor looks wait for each other, however slowly the log answers
/// either.
async fn looks(core: &Core) -> Infallible {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut neighbours = Neighbours::default();
    loop {
        looks.tick().await;
        match timeout(GIVE_UP, look(core, &mut neighbours)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the node table cannot be read"),
            Err(_) => tracing::warn!("the node table does not answer"),
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
            core.lease.lives(now);
            core.lease.wrote.send_replace(Some(beat.state));
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
        state: match core.lease.state() {
            // In the row that would say that nobody holds it.
            NodeState::Expired => NodeState::Starting,
            state => state,
        },
        bus_ok: core.health.bus_ok(),
        heard: core.health.take_fresh(),
        dirty_since: core.router.dirty_since(core.lease.database_now()),
        sessions: core.locals.count() as u32,
        lease_ms: LEASE_MS,
    }
}

/// Comes back after the lease was lost, with a new epoch. What is owed then is made good elsewhere, while the beats go on.
async fn heal(core: &Core, tcp: &str, http: &str, weight: u32) -> Result<(), Trouble> {
    tracing::warn!(epoch = core.lease.epoch(), "the lease was lost, taking a new one");
    core.lease.lose();
    let (epoch, now) = match take(&*core.store, &core.node, tcp, http, weight).await {
        Ok(taken) => taken,
        Err(ClaimError::Store { source, .. }) => return Err(source.into()),
        Err(taken) => return Err(Trouble::Taken(taken)),
    };
    core.lease.epoch.store(epoch, Ordering::Release);
    core.presence.rewrite();
    let since = core.lease.regain(now);
    core.repairs.sweep(since);
    core.lease.beat_now();
    Ok(())
}
