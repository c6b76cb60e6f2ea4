//! The bus on RabbitMQ: one connection listens, another publishes, because the broker holds back those that publish when
//! it runs out of memory or disk.
//!
//! Every link has a queue of its own, bound to one direct exchange by the subjects that it hears.

mod address;
mod failure;
pub(super) mod inspect;
mod publisher;
pub(super) mod raw;
mod session;
mod subscriber;

use std::fmt;

use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use lapin::uri::AMQPUri;

use super::config::{BrokerUrl, RabbitmqConfig};
use super::supervisor::{Backend, Incoming, Link};
use super::{BusError, Claim, Guarantees, Outgoing, Receipt, Subject};
use publisher::Publisher;
use subscriber::Subscriber;

/// The exchange that all nodes publish to.
const EXCHANGE: &str = "switchboard";
/// The largest payload. The broker itself takes 128 MiB, but keeps every message in memory until all nodes have it.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// A [`Backend`] on one RabbitMQ, or on a cluster of them behind one address.
pub struct RabbitmqBackend {
    uri: AMQPUri,
    url: BrokerUrl,
}

/// The two connections of one node to RabbitMQ.
pub struct RabbitmqLink {
    publisher: Publisher,
    subscriber: Subscriber,
}

impl RabbitmqBackend {
    /// Checks the URL; nothing is connected yet.
    pub fn new(config: &RabbitmqConfig) -> Result<Self, BusError> {
        Ok(Self { uri: address::parse(&config.url)?, url: config.url.clone() })
    }
}

impl Backend for RabbitmqBackend {
    type Link = RabbitmqLink;

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            ordered: Claim::Yes,
            at_least_once: Claim::No,
            survives_broker_restart: Claim::No,
            confirmed: Claim::Yes,
            counts_receivers: Claim::No,
            tells_no_receivers: Claim::Yes,
            per_user_subjects: Claim::No,
            max_payload: MAX_PAYLOAD,
        }
    }

    async fn connect(&self, incoming: Incoming) -> Result<RabbitmqLink, BusError> {
        let publisher = Publisher::open(&self.uri, incoming.clone());
        let subscriber = Subscriber::open(&self.uri, incoming);
        let (publisher, subscriber) = tokio::try_join!(publisher, subscriber)?;
        Ok(RabbitmqLink { publisher, subscriber })
    }
}

impl Link for RabbitmqLink {
    async fn subscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        self.subscriber.bind(subjects).await
    }

    async fn unsubscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        self.subscriber.unbind(subjects).await
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>> {
        self.publisher.publish(batch).await
    }

    async fn ping(&self) -> Result<(), BusError> {
        tokio::try_join!(self.publisher.ping(), self.subscriber.ping()).map(|_| ())
    }

    async fn close(&self) -> Result<(), BusError> {
        tokio::try_join!(self.publisher.close(), self.subscriber.close()).map(|_| ())
    }
}

/// Makes the exchange, unless it is there. It is durable: brokers of the future refuse what is neither durable nor
/// exclusive, and all nodes have to declare it alike.
async fn declare_exchange(channel: &lapin::Channel) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Direct, options, FieldTable::default()).await
}

impl fmt::Debug for RabbitmqBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitmqBackend").field("url", &self.url).finish_non_exhaustive()
    }
}
