//! What the client library says of its connections while nobody asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::Notify;
use tracing::debug;

use super::bus_error;
use crate::bus::supervisor::{Incoming, Table};
use crate::bus::{BusError, BusErrorKind};

/// Breaks the link when one of its connections does. Until the link stands, an address that cannot be reached is no
/// harm while there are others.
#[derive(Debug, Clone)]
pub(super) struct Alarm(Arc<State>);

#[derive(Debug)]
struct State {
    incoming: Incoming,
    armed: AtomicBool,
    /// What was said last, while the link does not stand yet.
    said: Mutex<Option<String>>,
    hopeless: Notify,
}

impl Alarm {
    pub(super) fn new(incoming: Incoming) -> Self {
        let (armed, said, hopeless) = (AtomicBool::new(false), Mutex::default(), Notify::new());
        Self(Arc::new(State { incoming, armed, said, hopeless }))
    }

    /// Makes one for clients without a link.
    pub(super) fn deaf() -> Self {
        Self::new(Incoming::new(Arc::new(Table::new()), 0))
    }

    /// From now on the loss of a connection breaks the link.
    pub(super) fn arm(&self) {
        self.0.armed.store(true, Ordering::Release);
    }

    /// Waits until it is clear that no connection comes about.
    pub(super) async fn hopeless(&self, brokers: &str) -> BusError {
        self.0.hopeless.notified().await;
        let text = format!("no Kafka broker can be reached at {brokers}");
        self.explain(BusError::new(BusErrorKind::Disconnected, text))
    }

    /// Adds what the library has said to an error, which tells little of itself.
    pub(super) fn explain(&self, error: BusError) -> BusError {
        match self.0.said.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(said) => BusError::new(error.kind(), format!("there is no connection to Kafka: {said}")),
            None => error,
        }
    }

    /// Takes an error of a client.
    pub(super) fn raise(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code();
        // We have no group, so it does not matter that its broker is away or that we may not use it.
        if matches!(code, Some(Code::CoordinatorNotAvailable | Code::GroupAuthorizationFailed | Code::NotCoordinator)) {
            return;
        }
        debug!(%error, reason, "kafka client reports");
        if self.0.armed.load(Ordering::Acquire) {
            let context = if reason.is_empty() { "the connection to Kafka broke" } else { reason };
            return self.0.incoming.broken(BusError::new(bus_error(error.clone()).kind(), context).caused_by(error));
        }
        if code != Some(Code::AllBrokersDown) {
            let mut said = self.0.said.lock().unwrap_or_else(PoisonError::into_inner);
            *said = Some(if reason.is_empty() { error.to_string() } else { reason.to_owned() });
        }
        let of_one_address = matches!(code, Some(Code::BrokerTransportFailure | Code::Resolve | Code::TimedOutQueue));
        if !of_one_address {
            self.0.hopeless.notify_one();
        }
    }
}

impl ClientContext for Alarm {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(facility, message, "kafka client says");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.raise(error, reason);
    }
}

impl ConsumerContext for Alarm {}
