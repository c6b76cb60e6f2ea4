//! The client library's connections, and their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, Producer, PurgeConfig};

use super::alarm::Alarm;
use super::delivery::Delivery;
use super::{blocking, bus_error, settings, topics};
use crate::bus::{BusError, BusErrorKind, Subject};

/// How long the library may block one of our calls. The supervisor gives up earlier.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a thread waits for something to do before it looks whether the link has ended.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The three clients of a link.
pub(super) struct Set {
    pub(super) producer: BaseProducer<Delivery>,
    pub(super) consumer: BaseConsumer<Alarm>,
    pub(super) admin: AdminClient<Alarm>,
    ended: AtomicBool,
}

/// The clients as their link holds them: when it drops them, they end. Nothing that waits in them is sent any more.
pub(super) struct Clients(Option<Arc<Set>>);

impl Clients {
    /// Makes the clients, which then connect by themselves, and the thread that the producer needs.
    pub(super) async fn open(brokers: &str, alarm: &Alarm) -> Result<Self, BusError> {
        let (brokers, alarm) = (brokers.to_owned(), alarm.clone());
        let open = move || {
            let made = |error| BusError::new(BusErrorKind::Config, "the Kafka client cannot be made").caused_by(error);
            let set = Arc::new(Set {
                producer: settings::producer(&brokers).create_with_context(Delivery(alarm.clone())).map_err(made)?,
                consumer: settings::consumer(&brokers).create_with_context(alarm.clone()).map_err(made)?,
                admin: settings::client(&brokers).create_with_context(alarm).map_err(made)?,
                ended: AtomicBool::new(false),
            });
            let clients = Self(Some(set));
            clients.spawn("kafka-publish", |set| set.producer.poll(LOOK_EVERY))?;
            Ok(clients)
        };
        blocking(open).await?
    }

    /// Runs something again and again on a thread of its own until the link ends. It must not take long.
    pub(super) fn spawn(&self, name: &str, mut work: impl FnMut(&Set) + Send + 'static) -> Result<(), BusError> {
        let set = self.share();
        let run = move || {
            while !set.ended.load(Ordering::Relaxed) {
                work(&set);
            }
        };
        let failed = |error| BusError::new(BusErrorKind::Disconnected, "no thread for Kafka").caused_by(error);
        std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).map_err(failed)
    }

    /// Returns the clients for work that may outlast the link a little.
    pub(super) fn share(&self) -> Arc<Set> {
        Arc::clone(self)
    }

    /// Waits until both connections that messages pass have had an answer.
    pub(super) async fn greet(&self) -> Result<(), BusError> {
        self.ping(None).await
    }

    /// Asks for a sign of life on both connections that messages pass, about a subject that is subscribed, if any: so
    /// the answer comes from the broker that has it.
    pub(super) async fn ping(&self, subject: Option<Subject>) -> Result<(), BusError> {
        let topic = subject.as_ref().map(topics::name_of);
        let (publishing, listening, asked) = (self.share(), self.share(), topic.clone());
        let (published, heard) = tokio::join!(
            blocking(move || ask(publishing.producer.client(), None)),
            blocking(move || ask(listening.consumer.client(), asked.as_deref())),
        );
        published?.and(heard?)
    }
}

fn ask<C: ClientContext>(client: &Client<C>, topic: Option<&str>) -> Result<(), BusError> {
    let answered = match topic {
        Some(topic) => client.fetch_watermarks(topic, 0, PATIENCE).map(drop),
        // One that is never there: the answer is short, and nothing is remembered of it.
        None => client.fetch_metadata(Some(topics::NEVER), PATIENCE).map(drop),
    };
    answered.map_err(bus_error)
}

impl std::ops::Deref for Clients {
    type Target = Arc<Set>;

    fn deref(&self) -> &Arc<Set> {
        self.0.as_ref().expect("taken only by the drop")
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let Some(set) = self.0.take() else { return };
        set.ended.store(true, Ordering::Relaxed);
        // The end of a client waits for its threads, which is nothing for a worker of the runtime.
        let end = move || {
            set.producer.purge(PurgeConfig::default().queue().inflight());
            drop(set);
        };
        // Without a thread for it, whoever drops the clients last waits.
        drop(std::thread::Builder::new().name("kafka-end".to_owned()).spawn(end));
    }
}
