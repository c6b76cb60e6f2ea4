//! What a backend brings: connections that may break. Everything that must survive a broken one is the supervisor's.

use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::table::Table;
use crate::bus::{BusError, BusErrorKind, Guarantees, Outgoing, Receipt, Subject};

/// A kind of broker, and where one is.
pub trait Backend: Debug + Send + Sync + 'static {
    /// The connection, or the set of connections that live and die together.
    type Link: Link;

    /// Returns what this backend claims.
    fn guarantees(&self) -> Guarantees;

    /// Connects once, without retries. The supervisor gives it 3 s and then drops the future. Everything that arrives
    /// later on goes to `incoming`, which belongs to this one link.
    fn connect(&self, incoming: Incoming) -> impl Future<Output = Result<Self::Link, BusError>> + Send;
}

/// One connection to a broker, without any recovery of its own: what breaks it is told to [`Incoming::broken`], then it
/// is dropped whole.
///
/// All calls may run concurrently, except that `subscribe` and `unsubscribe` come one at a time, and `close` comes last.
/// No call needs a deadline of its own, for the supervisor has one for each. All of them may be cancelled at any point:
/// `publish` also while the link goes on, for its caller may stop waiting, and must not leave half a message behind; the
/// others only once the link is to be closed or dropped.
pub trait Link: Send + Sync + 'static {
    /// Subscribes to at most 1000 subjects and returns once a publish from anywhere will arrive for each of them.
    /// [`BusErrorKind::Rejected`]: the broker refused, and none is subscribed. Any other error breaks the link.
    fn subscribe(&self, subjects: &[Subject]) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Ends subscriptions. Any error breaks the link.
    fn unsubscribe(&self, subjects: &[Subject]) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Publishes in order; one result per message. No payload is larger than [`Guarantees::max_payload`].
    fn publish(&self, batch: Vec<Outgoing>) -> impl Future<Output = Vec<Result<Receipt, BusError>>> + Send;

    /// Asks the broker for a sign of life on every connection of the link. An error, or no answer in 2 s, breaks the
    /// link.
    fn ping(&self) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Takes leave of the broker; the link is dropped afterwards.
    fn close(&self) -> impl Future<Output = Result<(), BusError>> + Send;
}

/// Where a link puts what arrives. Cloneable; nothing here waits, so it may be called on the client library's own
/// receive task.
#[derive(Debug, Clone)]
pub struct Incoming {
    table: Arc<Table>,
    link: u64,
    breakage: Arc<Breakage>,
}

impl Incoming {
    pub(in crate::bus) fn new(table: Arc<Table>, link: u64) -> Self {
        Self { table, link, breakage: Arc::new(Breakage::default()) }
    }

    /// Returns the number of the link.
    pub(super) fn link(&self) -> u64 {
        self.link
    }

    /// Hands a message to the subscribers of its subject. A full queue drops it, and its subscriber is told `Lost`.
    /// Tells whether the link still counts: what comes after it was given up goes nowhere.
    pub fn deliver(&self, subject: &str, payload: Bytes) -> bool {
        self.table.deliver(self.link, subject, payload)
    }

    /// Says that the link is broken. The first reason counts.
    pub fn broken(&self, reason: BusError) {
        self.breakage.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.breakage.happened.cancel();
    }

    /// Waits until the link is said to be broken.
    pub(super) async fn breakage(&self) -> BusError {
        self.breakage.happened.cancelled().await;
        let reason = self.breakage.reason.lock().unwrap_or_else(PoisonError::into_inner).take();
        reason.unwrap_or_else(|| BusError::new(BusErrorKind::Disconnected, "the connection to the broker broke"))
    }
}

#[derive(Debug, Default)]
struct Breakage {
    reason: Mutex<Option<BusError>>,
    happened: CancellationToken,
}
