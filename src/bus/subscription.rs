//! The receiving end of one subject or many: a bounded queue that never loses anything silently.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use super::queue::Queue;
use super::supervisor::{Barrier, Table, closed};
use super::{BusError, Subject};

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusEvent {
    /// A message, as it was published.
    Message(Bytes),
    /// Messages were dropped, or may have been missed, from here on until `Resumed`; some may arrive in between.
    Lost,
    /// Whatever is published from here on arrives again. What was published before may have been missed.
    Resumed,
}

/// The events of one subject for one subscriber, or of all the subjects that were added to it (see [`Subjects`]).
/// Dropping it unsubscribes.
///
/// The queue holds 4096 messages: a subscriber that does not keep up loses messages and sees `Lost`, then `Resumed`;
/// other subscribers are not held up. `Lost` and `Resumed` alternate and are never dropped themselves; a loss whose
/// `Resumed` was not read yet may swallow a second one.
pub struct Subscription {
    subject: Subject,
    queue: Arc<Queue>,
    table: Arc<Table>,
}

impl Subscription {
    pub(super) fn new(subject: Subject, queue: Arc<Queue>, table: Arc<Table>) -> Self {
        Self { subject, queue, table }
    }

    /// Waits for the next event. `None`: the bus was closed and everything that had arrived is read. Cancel-safe.
    pub async fn next(&mut self) -> Option<BusEvent> {
        self.queue.next().await
    }

    /// Returns a handle by which more subjects are added to this subscription.
    pub fn subjects(&self) -> Subjects {
        Subjects { queue: Arc::clone(&self.queue), table: Arc::clone(&self.table) }
    }

    /// Returns the subject with which it began.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Returns how many messages were dropped because this subscriber did not keep up.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.table.release_all(&self.subject, &self.queue);
    }
}

/// Adds subjects to a subscription and takes them out again. A subject costs one row of a table, whatever it brings:
/// everything arrives in the one queue of the subscription, in the order in which the connection brought it, and `Lost`
/// and `Resumed` are said once for all.
#[derive(Clone)]
pub struct Subjects {
    queue: Arc<Queue>,
    table: Arc<Table>,
}

impl Subjects {
    /// Adds a subject, at once; adding it twice adds it once. The future waits until a publish from anywhere will
    /// arrive. While the bus is not connected it is ready at once, and the subscription's `Resumed` says when.
    ///
    /// The subject stays whatever the future says, also when it is dropped: after
    /// [`BusErrorKind::Disconnected`](super::BusErrorKind::Disconnected) it is effective with the next `Resumed`. Only
    /// after [`BusErrorKind::Rejected`](super::BusErrorKind::Rejected) nothing more happens by itself, until it is
    /// added again.
    pub fn add(&self, subject: &Subject) -> impl Future<Output = Result<(), BusError>> + Send + use<> {
        effective(self.table.join(subject, &self.queue))
    }

    /// Subscribes a subject anew at the broker, though it seems to be subscribed: something that should have come did
    /// not. What is published meanwhile may be missed; the future is as that of [`add`](Self::add).
    pub fn renew(&self, subject: &Subject) -> impl Future<Output = Result<(), BusError>> + Send + use<> {
        effective(self.table.renew(subject, &self.queue))
    }

    /// Takes a subject out again. Unknown ones are ignored.
    pub fn remove(&self, subject: &Subject) {
        self.table.release(subject, &self.queue);
    }
}

async fn effective(barrier: Result<Option<Barrier>, BusError>) -> Result<(), BusError> {
    match barrier? {
        Some(barrier) => barrier.await.unwrap_or_else(|_| Err(closed())),
        None => Ok(()),
    }
}

impl fmt::Debug for Subjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subjects").finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("subject", &self.subject).finish_non_exhaustive()
    }
}
