//! One task that brings what was committed here to the nodes that have sessions for it, in commit order.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use metrics::counter;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::addressing::address;
use super::envelope::Packet;
use super::notice::Notice;
use super::timeline::Entry;
use crate::bus::Outgoing;
use crate::model::{ConversationId, Millis};
use crate::server::core::Core;
use crate::telemetry;

/// Batches that wait for the router. When it is full the appender does not wait: what cannot be routed is a failed
/// publish, which the log makes good.
const QUEUE: usize = 256;

/// One packet on the bus.
const MAX_PACKET: usize = 256 * 1024;

/// A publish that is not accepted within this time has failed.
const PUBLISH_WITHIN: Duration = Duration::from_secs(1);

/// A peer that has not read the node table for this long has lost its lease and will sweep anyway: longer than a lease
/// and a half, in milliseconds. So long `dirty_since` stays in the node's row after the last failure.
const DIRTY_FOR: Millis = 10_000;

/// An entry that is in the log and in its timeline here.
#[derive(Debug)]
pub(crate) struct Routed {
    /// The conversation.
    pub(crate) conversation: ConversationId,
    /// The entry.
    pub(crate) entry: Entry,
}

/// What the router is given.
#[derive(Debug)]
pub(crate) enum Work {
    /// Entries in commit order, and when they were committed at the latest, by the database's clock.
    Entries(Vec<Routed>, Millis),
    /// What is not in the log, for whoever is there.
    Notices(Vec<Notice>),
}

/// The way to the router, and what it could not do.
#[derive(Debug)]
pub(crate) struct Router {
    queue: mpsc::Sender<Work>,
    trouble: Mutex<Option<Trouble>>,
}

/// Publishes that may have been lost.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    /// Since when, by the database's clock.
    since: Millis,
    /// When the node's row had said so after the last failure.
    told: Option<Millis>,
}

impl Router {
    /// Makes the queue.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Work>) {
        let (queue, work) = mpsc::channel(QUEUE);
        (Self { queue, trouble: Mutex::default() }, work)
    }

    /// Queues what was committed.
    pub(crate) fn route(&self, core: &Core, entries: Vec<Routed>) {
        let now = core.lease.database_now();
        if !entries.is_empty() && self.queue.try_send(Work::Entries(entries, now)).is_err() {
            self.failed(core, now, "the router's queue is full");
        }
    }

    /// Queues notices; they are dropped when the router is behind.
    pub(super) fn notify(&self, notices: Work) {
        if self.queue.try_send(notices).is_err() {
            counter!(telemetry::PUBLISH_FAILURES).increment(1);
        }
    }

    /// Returns since when this node's publishes may have been lost, for its lease row, until every peer has swept or
    /// lost its lease.
    pub(crate) fn dirty_since(&self, now: Millis) -> Option<Millis> {
        let mut trouble = self.trouble();
        trouble.take_if(|trouble| trouble.told.is_some_and(|told| now - told > DIRTY_FOR));
        trouble.map(|trouble| trouble.since)
    }

    /// Notes that the node's row says so.
    pub(crate) fn dirty_told(&self, now: Millis) {
        if let Some(trouble) = self.trouble().as_mut() {
            trouble.told.get_or_insert(now);
        }
    }

    /// Notes that what was committed since then may not reach other nodes: they and this one look into the log.
    pub(in crate::server) fn failed(&self, core: &Core, committed: Millis, why: &str) {
        counter!(telemetry::PUBLISH_FAILURES).increment(1);
        let since = committed - COMMIT_SLACK;
        let first = {
            let mut trouble = self.trouble();
            let earlier = trouble.map_or(since, |trouble| trouble.since.min(since));
            trouble.replace(Trouble { since: earlier, told: None }).is_none_or(|trouble| earlier < trouble.since)
        };
        if first {
            tracing::warn!(why, "a publish failed, peers are asked to sweep");
            core.lease.beat_now();
        }
        core.repairs.sweep(since);
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().expect("no code panics while it holds it")
    }
}

/// What is known to be committed now was stamped at most this much earlier, in milliseconds: as far as an append
/// transaction can last.
const COMMIT_SLACK: Millis = 5_000;

/// Runs the router until the node stops and the queue is empty.
pub(crate) async fn run(core: Arc<Core>, mut work: mpsc::Receiver<Work>, stop: CancellationToken) {
    let mut batches = Vec::new();
    loop {
        tokio::select! {
            biased;
            count = work.recv_many(&mut batches, QUEUE) => if count == 0 { return },
            () = stop.cancelled(), if !work.is_closed() => {
                work.close();
                continue;
            }
        }
        let (mut entries, mut notices) = (Vec::new(), Vec::new());
        let mut committed: Option<Millis> = None;
        for batch in batches.drain(..) {
            match batch {
                Work::Entries(more, at) => {
                    committed.get_or_insert(at);
                    entries.extend(more);
                }
                Work::Notices(more) => notices.extend(more),
            }
        }
        if let (Err(why), Some(committed)) = (route(&core, entries, notices).await, committed) {
            core.router.failed(&core, committed, &why);
            if core.bus.state().borrow().is_connected() {
                ask_peers_to_sweep(&core, committed - COMMIT_SLACK).await;
            }
        }
    }
}

async fn route(core: &Core, entries: Vec<Routed>, notices: Vec<Notice>) -> Result<(), String> {
    let parcels = address(core, entries, notices).await.map_err(|error| format!("presence: {error}"))?;
    let limit = MAX_PACKET.min(core.bus.guarantees().max_payload);
    let mut letters = Vec::new();
    for (subject, parcel) in parcels {
        let listeners = parcel.listeners as u64;
        let payloads = parcel.packets(limit).into_iter().map(|packet| packet.encode(&core.origin()));
        letters.extend(payloads.map(|payload| (Outgoing { subject: subject.clone(), payload }, listeners)));
    }
    publish(core, letters).await
}

/// Publishes and takes anything but a delivery to so many nodes for a failure.
async fn publish(core: &Core, letters: Vec<(Outgoing, u64)>) -> Result<(), String> {
    if letters.is_empty() {
        return Ok(());
    }
    counter!(telemetry::ENVELOPES_PUBLISHED).increment(letters.len() as u64);
    let (outgoing, listeners): (Vec<Outgoing>, Vec<u64>) = letters.into_iter().unzip();
    let results = timeout(PUBLISH_WITHIN, core.bus.publish(outgoing)).await;
    let results = results.map_err(|_| format!("not accepted within {PUBLISH_WITHIN:?}"))?;
    for (result, wanted) in results.into_iter().zip(listeners) {
        match result {
            Ok(receipt) if receipt.receivers.is_some_and(|receivers| receivers < wanted) => {
                return Err("fewer nodes listen than have recipients".to_owned());
            }
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// Tells every live peer to sweep what changed since then. Losing it is harmless: the lease row says the same.
async fn ask_peers_to_sweep(core: &Core, since: Millis) {
    let payload = Packet::Sweep { since }.encode(&core.origin());
    let peers = core.lease.live_peers();
    let subjects = peers.iter().map(|peer| core.inbox_of(peer));
    let letters = subjects.map(|subject| (Outgoing { subject, payload: payload.clone() }, 1)).collect();
    if let Err(why) = publish(core, letters).await {
        tracing::debug!(why, "peers could not be asked to sweep through the bus");
    }
}
