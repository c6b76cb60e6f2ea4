//! The bus inside one process: the reference for all others, and the double in tests.

mod broker;

use super::supervisor::{Backend, Incoming, Link};
use super::{BusError, Claim, Guarantees, Outgoing, Receipt, Subject};

pub use broker::{MemoryBroker, Operation};

/// The largest payload.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// A [`Backend`] on a [`MemoryBroker`].
#[derive(Debug)]
pub struct MemoryBackend {
    broker: MemoryBroker,
}

/// One node's connection to a [`MemoryBroker`].
#[derive(Debug)]
pub struct MemoryLink {
    broker: MemoryBroker,
    id: u64,
}

impl MemoryBackend {
    /// Makes a backend on a broker.
    pub fn new(broker: MemoryBroker) -> Self {
        Self { broker }
    }
}

impl Backend for MemoryBackend {
    type Link = MemoryLink;

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            ordered: Claim::Yes,
            at_least_once: Claim::No,
            survives_broker_restart: Claim::NotApplicable,
            confirmed: Claim::Yes,
            counts_receivers: Claim::Yes,
            tells_no_receivers: Claim::Yes,
            per_user_subjects: Claim::Yes,
            max_payload: MAX_PAYLOAD,
        }
    }

    async fn connect(&self, incoming: Incoming) -> Result<MemoryLink, BusError> {
        self.broker.ready(Operation::Connect).await;
        let id = self.broker.attach(incoming)?;
        Ok(MemoryLink { broker: self.broker.clone(), id })
    }
}

impl Link for MemoryLink {
    async fn subscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        self.broker.ready(Operation::Subscribe).await;
        self.broker.subscribe(self.id, subjects)
    }

    async fn unsubscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        self.broker.ready(Operation::Subscribe).await;
        self.broker.unsubscribe(self.id, subjects);
        Ok(())
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>> {
        self.broker.ready(Operation::Publish).await;
        self.broker.publish(self.id, batch)
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.broker.ready(Operation::Ping).await;
        self.broker.check(self.id)
    }

    async fn close(&self) -> Result<(), BusError> {
        Ok(())
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        self.broker.detach(self.id);
    }
}
