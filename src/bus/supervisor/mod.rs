//! What all backends share: connecting for ever, subscribing again, finding half-open links, and saying so.
//!
//! A [`Backend`] only knows how to connect once. [`Supervised`] makes a [`MessageBus`] of it: one owner task connects,
//! keeps the broker's subscriptions in line with ours, pings, and gives a broken link up whole. Publishing does not
//! pass that task.

mod backend;
mod backoff;
mod owner;
mod table;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{BusError, BusErrorKind, BusState, Guarantees, MessageBus, Outgoing, Receipt, Subject, Subscription};
use owner::Owner;

pub use backend::{Backend, Incoming, Link};
pub(super) use table::{Barrier, Table, closed};

/// How long the broker may take to answer a publish while it answers pings.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(5);

/// A bus over a backend, supervised. Dropping it closes it.
pub struct Supervised<B: Backend> {
    backend: Arc<B>,
    shared: Arc<Shared<B::Link>>,
    state: watch::Receiver<BusState>,
    _close: DropGuard,
}

/// What the owner task and the publishers share.
struct Shared<L> {
    table: Arc<Table>,
    current: RwLock<Option<Arc<Live<L>>>>,
    state: watch::Sender<BusState>,
    /// Publishes under way, so that `close` can wait for them.
    publishing: TaskTracker,
    /// Set by `close`: the owner ends.
    closing: CancellationToken,
    /// Set by the owner when it has ended.
    ended: CancellationToken,
    /// Whether `close` had to cut publishes short.
    cut: AtomicBool,
}

/// A link that publishers may use.
struct Live<L> {
    link: L,
    /// Cancelled when the link is given up: what is in flight on it fails.
    given_up: CancellationToken,
}

impl<B: Backend> Supervised<B> {
    /// Starts supervising: the first attempt to connect begins at once, in a task of the current runtime.
    pub fn start(backend: B) -> Self {
        let backend = Arc::new(backend);
        let closing = CancellationToken::new();
        let (state, state_receiver) = watch::channel(BusState::Lost { since: Instant::now() });
        let shared = Arc::new(Shared {
            table: Arc::new(Table::new()),
            current: RwLock::new(None),
            state,
            publishing: TaskTracker::new(),
            closing: closing.clone(),
            ended: CancellationToken::new(),
            cut: AtomicBool::new(false),
        });
        tokio::spawn(Owner::new(Arc::clone(&backend), Arc::clone(&shared)).run());
        Self { backend, shared, state: state_receiver, _close: closing.drop_guard() }
    }
}

#[async_trait]
impl<B: Backend> MessageBus for Supervised<B> {
    fn guarantees(&self) -> Guarantees {
        self.backend.guarantees()
    }

    async fn subscribe(&self, subject: &Subject) -> Result<Subscription, BusError> {
        let (subscription, barrier) = self.shared.table.add(subject)?;
        if let Some(barrier) = barrier {
            barrier.await.unwrap_or_else(|_| Err(closed()))?;
        }
        Ok(subscription)
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>> {
        // The token comes first: once `closing` is seen unset, `close` waits for this publish.
        let _publishing = self.shared.publishing.token();
        if self.shared.closing.is_cancelled() {
            return batch.iter().map(|_| Err(closed())).collect();
        }
        let max = self.backend.guarantees().max_payload;
        if batch.iter().all(|outgoing| outgoing.payload.len() <= max) {
            return self.shared.publish(batch).await;
        }
        let (fitting, fits): (Vec<Outgoing>, Vec<Result<(), BusError>>) = sift(batch, max);
        let mut results = self.shared.publish(fitting).await.into_iter();
        let missing = || Err(BusError::new(BusErrorKind::Disconnected, "the broker gave no answer for this message"));
        fits.into_iter().map(|fits| fits.and_then(|()| results.next().unwrap_or_else(missing))).collect()
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.state.clone()
    }

    async fn close(&self) -> Result<(), BusError> {
        self.shared.closing.cancel();
        self.shared.ended.cancelled().await;
        if self.shared.cut.load(Ordering::Relaxed) {
            return Err(BusError::new(BusErrorKind::Timeout, "the broker did not answer while the bus was closing"));
        }
        Ok(())
    }
}

impl<L: Link> Shared<L> {
    /// Publishes on the current link, if any.
    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>> {
        let fail = |count: usize, kind, text: &str| (0..count).map(|_| Err(BusError::new(kind, text))).collect();
        let count = batch.len();
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(live) = current else {
            return fail(count, BusErrorKind::Disconnected, "the bus is not connected");
        };
        tokio::select! {
            biased;
            results = tokio::time::timeout(PUBLISH_DEADLINE, live.link.publish(batch)) => results
                .unwrap_or_else(|_| fail(count, BusErrorKind::Timeout, "the broker did not answer a publish")),
            () = live.given_up.cancelled() => fail(count, BusErrorKind::Disconnected, "the bus was lost meanwhile"),
        }
    }
}

/// Takes the messages that are too large out of a batch, and says for each message of it whether it was left in.
fn sift(batch: Vec<Outgoing>, max: usize) -> (Vec<Outgoing>, Vec<Result<(), BusError>>) {
    let mut fitting = Vec::with_capacity(batch.len());
    let mut fits = Vec::with_capacity(batch.len());
    for outgoing in batch {
        let size = outgoing.payload.len();
        if size <= max {
            fitting.push(outgoing);
            fits.push(Ok(()));
        } else {
            let text = format!("a payload of {size} bytes is too large: this bus takes {max}");
            fits.push(Err(BusError::new(BusErrorKind::TooLarge, text)));
        }
    }
    (fitting, fits)
}

impl<B: Backend> fmt::Debug for Supervised<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervised")
            .field("backend", &self.backend)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
