//! The broker's word on messages, as it comes on the client library's own thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};
use tokio::sync::Notify;

use super::alarm::Alarm;

/// The messages of a call that are under way.
#[derive(Debug, Default)]
pub(super) struct Pending {
    under_way: AtomicUsize,
    failures: Mutex<Vec<(usize, KafkaError)>>,
    done: Notify,
}

impl Pending {
    /// Waits until all of its messages are done, and returns those that failed, with their places. No further ones may
    /// be added meanwhile.
    pub(super) async fn all(self: Arc<Self>) -> Vec<(usize, KafkaError)> {
        while self.under_way.load(Ordering::Acquire) > 0 {
            self.done.notified().await;
        }
        std::mem::take(&mut *self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One message under way. Dropping it says that it is done.
#[derive(Debug)]
pub(super) struct Ticket {
    pending: Arc<Pending>,
    place: usize,
}

impl Ticket {
    /// Counts one more message, at a place of its batch.
    pub(super) fn new(pending: &Arc<Pending>, place: usize) -> Self {
        pending.under_way.fetch_add(1, Ordering::Relaxed);
        Self { pending: Arc::clone(pending), place }
    }

    /// Says what came of the message.
    pub(super) fn settle(self, result: Result<(), KafkaError>) {
        if let Err(error) = result {
            self.pending.failures.lock().unwrap_or_else(PoisonError::into_inner).push((self.place, error));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.pending.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.pending.done.notify_one();
        }
    }
}

/// Takes the broker's word from the client library.
#[derive(Debug, Clone)]
pub(super) struct Delivery(pub(super) Alarm);

impl ClientContext for Delivery {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.raise(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Delivery {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let Err((error, _)) = result else { return ticket.settle(Ok(())) };
        // The producer is of no use after these: the broker and it no longer agree about the sequence of messages.
        use RDKafkaErrorCode as Code;
        if let Some(
            Code::Fatal | Code::OutOfOrderSequenceNumber | Code::UnknownProducerId | Code::InvalidProducerEpoch,
        ) = error.rdkafka_error_code()
        {
            self.0.raise(error.clone(), "");
        }
        ticket.settle(Err(error.clone()));
    }
}
