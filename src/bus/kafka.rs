//! The bus on Kafka: a topic of one partition for each subject, read from an offset of our own choosing. There are no
//! consumer groups, whose rebalances would hold messages up.
//!
//! A topic keeps its messages for a minute, so what was published while a connection was away arrives when there is one
//! again: `positions` outlive the links of a bus.

mod alarm;
mod clients;
mod delivery;
pub(super) mod inspect;
mod listener;
mod positions;
mod publisher;
pub(super) mod raw;
mod settings;
mod topics;
mod upkeep;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio_util::task::AbortOnDropHandle;

use super::config::KafkaConfig;
use super::supervisor::{Backend, Incoming, Link};
use super::{BusError, BusErrorKind, Claim, Guarantees, Outgoing, Receipt, Subject};
use alarm::Alarm;
use clients::Clients;
use listener::Listener;
use positions::Positions;
use publisher::Publisher;
use settings::MAX_PAYLOAD;
use upkeep::{IDLE_AFTER, Upkeep};

/// A [`Backend`] on a Kafka cluster, version 2.4 or newer.
pub struct KafkaBackend {
    brokers: String,
    positions: Arc<Positions>,
    upkeep: Arc<Upkeep>,
}

/// The connections of one node to Kafka: one listens, one publishes, one creates topics.
pub struct KafkaLink {
    clients: Clients,
    listener: Listener,
    publisher: Publisher,
    _upkeep: AbortOnDropHandle<()>,
}

impl KafkaBackend {
    /// Checks the addresses; nothing is connected yet.
    pub fn new(config: &KafkaConfig) -> Result<Self, BusError> {
        Self::with_idle_after(config, IDLE_AFTER)
    }

    /// Like [`new`](Self::new), with a time of its own after which a topic that nobody uses is removed.
    pub fn with_idle_after(config: &KafkaConfig, idle_after: Duration) -> Result<Self, BusError> {
        let brokers = settings::brokers(&config.brokers)?;
        Ok(Self { brokers, positions: Arc::default(), upkeep: Arc::new(Upkeep::new(idle_after)) })
    }
}

impl Backend for KafkaBackend {
    type Link = KafkaLink;

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            ordered: Claim::Yes,
            at_least_once: Claim::Yes,
            survives_broker_restart: Claim::Yes,
            confirmed: Claim::Yes,
            counts_receivers: Claim::No,
            // A topic is there for a while after its last subscriber has gone.
            tells_no_receivers: Claim::No,
            // Each costs a broker two open files, and each of its subscribers a place in every request.
            per_user_subjects: Claim::No,
            max_payload: MAX_PAYLOAD,
        }
    }

    async fn connect(&self, incoming: Incoming) -> Result<KafkaLink, BusError> {
        self.positions.begin_link();
        let alarm = Alarm::new(incoming.clone());
        let clients = Clients::open(&self.brokers, &alarm).await?;
        tokio::select! {
            biased;
            greeted = clients.greet() => greeted.map_err(|error| alarm.explain(error))?,
            error = alarm.hopeless(&self.brokers) => return Err(error),
        }
        alarm.arm();
        let listener = Listener::start(&clients, incoming, alarm, Arc::clone(&self.positions))?;
        let publisher = Publisher::default();
        let upkeep = Arc::clone(&self.upkeep).run(clients.share(), Arc::clone(&self.positions));
        Ok(KafkaLink { clients, listener, publisher, _upkeep: AbortOnDropHandle::new(tokio::spawn(upkeep)) })
    }
}

impl Link for KafkaLink {
    async fn subscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        topics::create(&self.clients.admin, subjects).await.map_err(bus_error)?;
        self.listener.assign(&self.clients, subjects).await
    }

    async fn unsubscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        self.listener.unassign(&self.clients, subjects).await
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>> {
        self.publisher.publish(&self.clients, batch).await
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.clients.ping(self.listener.any()).await
    }

    async fn close(&self) -> Result<(), BusError> {
        // Whatever was published has its answer, and Kafka knows no subscribers.
        Ok(())
    }
}

/// Says what an error of the client library means for a caller.
fn bus_error(error: KafkaError) -> BusError {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    let (kind, context) = match code {
        Some(Code::MessageSizeTooLarge) => (BusErrorKind::TooLarge, "Kafka refused a message for its size"),
        Some(Code::OperationTimedOut | Code::RequestTimedOut | Code::MessageTimedOut | Code::TimedOutQueue) => {
            (BusErrorKind::Timeout, "Kafka did not answer in time")
        }
        Some(Code::QueueFull) => (BusErrorKind::Rejected, "too many messages wait for Kafka"),
        Some(Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend) => {
            (BusErrorKind::Rejected, "Kafka has fewer replicas of the topic than min.insync.replicas demands")
        }
        Some(code) if is_passing(code) => (BusErrorKind::Disconnected, "Kafka has no leader for a topic at the moment"),
        // What a broker says has a positive number, what the library says of itself a negative one.
        Some(code) if code as i32 > 0 || matches!(code, Code::Authentication) => {
            return BusError::new(BusErrorKind::Rejected, format!("Kafka refused a request: {code}")).caused_by(error);
        }
        _ => (BusErrorKind::Disconnected, "there is no connection to Kafka"),
    };
    BusError::new(kind, context).caused_by(error)
}

/// Tells whether a broker says that it is not the one to ask, or not yet, as happens with a topic that is new or whose
/// leader moves.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::NotController
            | Code::NetworkException
            | Code::KafkaStorageError
    )
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BusError> {
    let cut = |error| BusError::new(BusErrorKind::Disconnected, "the connection to Kafka ended").caused_by(error);
    tokio::task::spawn_blocking(work).await.map_err(cut)
}

impl fmt::Debug for KafkaBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaBackend").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::bus::supervisor::Table;

    async fn refused_by(brokers: String) -> BusError {
        let backend = KafkaBackend::new(&KafkaConfig { brokers }).unwrap();
        backend.connect(Incoming::new(Arc::new(Table::new()), 0)).await.err().unwrap()
    }

    /// Connects to a server that has one answer to everything.
    async fn answered_with(answer: &'static [u8]) -> BusError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let brokers = listener.local_addr().unwrap().to_string();
        let serve = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                        drop(stream.write_all(answer).await);
                    }
                });
            }
        };
        tokio::select! {
            error = refused_by(brokers) => error,
            () = serve => unreachable!("a server never ends"),
        }
    }

    #[tokio::test]
    async fn a_server_that_is_no_kafka_or_turns_us_away_is_told_by_its_address() {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"-ERR unknown command\r\n", b""] {
            let error = answered_with(answer).await;
            assert!(error.to_string().contains("127.0.0.1:"), "{answer:?}: {error:?}");
        }
    }

    #[tokio::test]
    async fn an_address_where_nobody_listens_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let brokers = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = refused_by(brokers.clone()).await;
        assert_eq!(error.kind(), BusErrorKind::Disconnected);
        assert!(error.to_string().contains(&brokers) && error.to_string().contains("refused"), "{error:?}");
    }

    #[test]
    fn what_passes_by_itself_is_no_refusal() {
        let kind = |code| bus_error(KafkaError::Global(code)).kind();
        assert_eq!(kind(RDKafkaErrorCode::NotLeaderForPartition), BusErrorKind::Disconnected);
        assert_eq!(kind(RDKafkaErrorCode::BrokerTransportFailure), BusErrorKind::Disconnected);
        assert_eq!(kind(RDKafkaErrorCode::PolicyViolation), BusErrorKind::Rejected);
        assert_eq!(kind(RDKafkaErrorCode::TopicAuthorizationFailed), BusErrorKind::Rejected);
        assert_eq!(kind(RDKafkaErrorCode::MessageSizeTooLarge), BusErrorKind::TooLarge);
        assert_eq!(kind(RDKafkaErrorCode::MessageTimedOut), BusErrorKind::Timeout);
    }
}
