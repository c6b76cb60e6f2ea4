//! A broker's client library by itself, used as its own documentation has it: what a backend is measured against.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::BusError;

/// Publishes to one subject, of which it has a subscriber too.
#[async_trait]
pub trait BatchPublisher: Send + Sync {
    /// Publishes messages in order. Returns when the broker has said of them what the backend's own publish waits for.
    async fn publish(&self, batch: &[Bytes]) -> Result<(), BusError>;
}

/// Is called for each message that arrives, on whatever task the library has for that.
pub type Heard = Arc<dyn Fn() + Send + Sync>;
