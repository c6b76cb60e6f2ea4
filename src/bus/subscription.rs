//! The receiving end of a subject: a bounded queue that never loses anything silently.

use bytes::Bytes;

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusEvent {
    /// A message, as it was published.
    Message(Bytes),
    /// Messages were dropped, or may have been missed, from here on until `Resumed`.
    Lost,
    /// Whatever is published from here on arrives again. What was published before may have been missed.
    Resumed,
}

/// The events of one subject for one subscriber. Dropping it unsubscribes.
///
/// The queue is bounded: a subscriber that does not keep up loses messages and sees `Lost`, then `Resumed`; other subscribers are not
/// held up.
#[derive(Debug)]
pub struct Subscription {
    // The supervisor's side is in this module too.
}

impl Subscription {
    /// Waits for the next event. `None`: the bus was closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<BusEvent> {
        None
    }
}
