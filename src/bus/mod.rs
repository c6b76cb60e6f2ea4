//! The bus: the broker as the cluster sees it. It moves opaque bytes between nodes and knows nothing of chat.
//!
//! A bus is an accelerator, not the truth: what it loses, the log still has. Its one duty is to say so: whatever was
//! dropped or may have been missed surfaces as [`BusEvent::Lost`], and [`BusEvent::Resumed`] follows once everything
//! published arrives again.

pub mod config;
pub mod connect;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod error;
mod guarantees;
pub mod inspection;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
#[cfg(feature = "mqtt")]
pub mod mqtt;
#[cfg(feature = "nats")]
pub mod nats;
mod queue;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;
pub mod raw;
#[cfg(feature = "redis")]
pub mod redis;
mod subject;
mod subscription;
pub mod supervisor;

use std::fmt::Debug;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

pub use config::{BusConfig, BusKind, Routing};
pub use connect::{backends, connect, guarantees, inspect};
pub use error::{BusError, BusErrorKind};
pub use guarantees::{Claim, Guarantees};
pub use inspection::Inspection;
pub use subject::{InvalidSubject, MAX_SUBJECT_BYTES, Subject};
pub use subscription::{BusEvent, Subjects, Subscription};
pub use supervisor::Supervised;

/// A broker, or something that behaves like one.
///
/// Every subscriber of a subject gets its own copy of each message. Messages of one publisher to one subject arrive in
/// the order in which they were given to [`publish`](Self::publish), unless [`Guarantees::ordered`] says otherwise;
/// nothing is promised between publishers. A message may arrive late (after an outage), and on some backends twice:
/// receivers must tell an old message from a new one.
///
/// An implementation reconnects by itself, for ever, and subscribes everything again by itself.
#[async_trait]
pub trait MessageBus: Debug + Send + Sync + 'static {
    /// Returns what this backend claims, each claim proved by the contract suite on the real broker.
    fn guarantees(&self) -> Guarantees;

    /// Subscribes to a subject. Returns once a publish from anywhere will arrive, or at once with a subscription whose
    /// first event is [`BusEvent::Lost`] while the bus is not connected; `Resumed` follows when it is effective.
    /// Dropping the subscription unsubscribes. Several subscriptions of one subject each get every message. One that is
    /// to hear thousands of subjects begins with one of them and adds the others through
    /// [`Subscription::subjects`].
    ///
    /// [`BusErrorKind::Disconnected`]: the connection broke while the call waited; nothing is left subscribed, call
    /// again. [`BusErrorKind::Rejected`]: the broker refuses this subject. Cancel-safe: a dropped future leaves nothing
    /// subscribed.
    async fn subscribe(&self, subject: &Subject) -> Result<Subscription, BusError>;

    /// Publishes messages in order and returns one result per message: accepted or confirmed by the broker, as
    /// [`Guarantees::confirmed`] says, or failed. A failed message may still have been sent. While the bus is not
    /// connected every message fails at once; nothing is queued for later. When the connection breaks meanwhile, or the
    /// broker does not answer for 5 s, what has no answer yet fails.
    ///
    /// Calls may run concurrently; each costs one round trip, whatever the size of its batch. Not cancel-safe: a
    /// dropped future may have published any prefix of the batch.
    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>>;

    /// Follows the connection.
    fn state(&self) -> watch::Receiver<BusState>;

    /// Waits for the publishes under way, closes the connections and ends every subscription; takes at most 2 s, after
    /// which it fails with [`BusErrorKind::Timeout`] but is closed all the same. Idempotent; after it, `subscribe` and
    /// `publish` fail with [`BusErrorKind::Closed`]. A bus that is dropped closes by itself.
    async fn close(&self) -> Result<(), BusError>;
}

/// A message to publish.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub subject: Subject,
    /// What; at most [`Guarantees::max_payload`] bytes.
    pub payload: Bytes,
}

/// The broker's word for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// How many buses the broker handed the message to, where it can tell ([`Guarantees::counts_receivers`]). A bus
    /// with several subscriptions of the subject counts once. A broker that can tell only that there was none
    /// ([`Guarantees::tells_no_receivers`]) makes it 0 then, and leaves it out else.
    pub receivers: Option<u64>,
}

/// The connection to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusState {
    /// Connected; everything subscribed is effective.
    Connected {
        /// Counts connections, from 1.
        epoch: u64,
    },
    /// Not connected, or not yet subscribed again.
    Lost {
        /// Since when.
        since: Instant,
    },
}

impl BusState {
    /// Tells whether publishes are accepted and subscriptions effective.
    pub fn is_connected(&self) -> bool {
        matches!(self, BusState::Connected { .. })
    }
}
