//! The receiving end of a subject: a bounded queue that never loses anything silently.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Subject;
use super::queue::Queue;
use super::supervisor::Table;

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

/// The events of one subject for one subscriber. Dropping it unsubscribes.
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

    /// Returns the subject.
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
        self.table.release(&self.subject, &self.queue);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("subject", &self.subject).finish_non_exhaustive()
    }
}
