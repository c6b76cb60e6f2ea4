//! The bus on a broker that speaks MQTT 3.1.1, ActiveMQ among them: one connection listens, another publishes, so that a
//! broker which stops reading a publisher does not stop what it delivers.

mod address;
mod connection;
pub(super) mod inspect;
pub(super) mod raw;
mod topic;

use std::fmt;

use super::config::{BusConfig, BusKind};
use super::supervisor::{Backend, Incoming, Link};
use super::{BusError, BusErrorKind, Claim, Guarantees, Outgoing, Receipt, Subject};
use address::Address;
use connection::{Connection, Happening};

/// The largest payload.
const MAX_PAYLOAD: usize = 1024 * 1024;
/// How many topics go into one SUBSCRIBE: as many of the longest stay below 32 KiB.
const TOPICS: usize = 200;

/// A [`Backend`] on one broker that speaks MQTT 3.1.1.
pub struct MqttBackend {
    address: Address,
    confirmed: bool,
}

/// The two connections of one node to its broker.
pub struct MqttLink {
    listening: Connection,
    publishing: Connection,
    confirmed: bool,
}

impl MqttBackend {
    /// Checks the address of the kind of broker that the config names; nothing is connected yet.
    pub fn new(config: &BusConfig) -> Result<Self, BusError> {
        Ok(Self { address: Address::of(config)?, confirmed: is_confirmed(config) })
    }
}

/// Tells whether the broker confirms what is published (QoS 1).
fn is_confirmed(config: &BusConfig) -> bool {
    let qos = if config.kind == BusKind::Activemq { config.activemq.qos } else { config.mqtt.qos };
    qos > 0
}

impl Backend for MqttBackend {
    type Link = MqttLink;

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            ordered: Claim::Yes,
            at_least_once: Claim::No,
            survives_broker_restart: Claim::No,
            confirmed: if self.confirmed { Claim::Yes } else { Claim::No },
            counts_receivers: Claim::No,
            tells_no_receivers: Claim::No,
            // Beyond 10,000 topics ActiveMQ subscribes a few hundred a second.
            per_user_subjects: Claim::No,
            max_payload: MAX_PAYLOAD,
        }
    }

    async fn connect(&self, incoming: Incoming) -> Result<MqttLink, BusError> {
        let breaking = incoming.clone();
        let (listening, publishing) = tokio::try_join!(
            Connection::open(&self.address, move |happening| heard(&incoming, happening)),
            Connection::open(&self.address, move |happening| heard(&breaking, happening)),
        )?;
        Ok(MqttLink { listening, publishing, confirmed: self.confirmed })
    }
}

fn heard(incoming: &Incoming, happening: Happening) {
    match happening {
        // What a broker has kept for whoever subscribes later is none of ours: nodes publish nothing of the kind.
        Happening::Message { retained: true, .. } => {}
        Happening::Message { topic, payload, .. } => {
            // A topic that is no text is none of ours.
            if let Ok(topic) = str::from_utf8(&topic) {
                incoming.deliver(&topic::subject(topic), payload);
            }
        }
        Happening::Broken(reason) => incoming.broken(reason),
    }
}

impl Link for MqttLink {
    async fn subscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        let topics = topics(subjects);
        let subscribing = topics.chunks(TOPICS).map(|chunk| self.listening.subscribe(chunk));
        let granted = futures_util::future::try_join_all(subscribing).await?.concat();
        let mut refused = topics.iter().zip(&granted).filter(|(_, granted)| !**granted).map(|(topic, _)| topic);
        let Some(first) = refused.next() else { return Ok(()) };
        let text = format!("the broker refuses a subscription to the topic {first}");
        let held = topics.iter().zip(&granted).filter(|(_, granted)| **granted).map(|(topic, _)| topic.clone());
        self.leave(&held.collect::<Vec<_>>()).await?;
        Err(BusError::new(BusErrorKind::Rejected, text))
    }

    async fn unsubscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        self.leave(&topics(subjects)).await
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>> {
        let messages = batch.into_iter().map(|outgoing| (topic::topic(&outgoing.subject), outgoing.payload));
        let results = self.publishing.publish(messages, self.confirmed).await;
        results.into_iter().map(|result| result.map(|()| Receipt { receivers: None })).collect()
    }

    async fn ping(&self) -> Result<(), BusError> {
        tokio::try_join!(self.listening.ping(), self.publishing.ping()).map(|_| ())
    }

    async fn close(&self) -> Result<(), BusError> {
        tokio::try_join!(self.listening.close(), self.publishing.close()).map(|_| ())
    }
}

impl MqttLink {
    async fn leave(&self, topics: &[String]) -> Result<(), BusError> {
        let leaving = topics.chunks(TOPICS).map(|chunk| self.listening.unsubscribe(chunk));
        futures_util::future::try_join_all(leaving).await.map(|_| ())
    }
}

fn topics(subjects: &[Subject]) -> Vec<String> {
    subjects.iter().map(topic::topic).collect()
}

impl fmt::Debug for MqttBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MqttBackend").field("url", &self.address.url).finish_non_exhaustive()
    }
}
