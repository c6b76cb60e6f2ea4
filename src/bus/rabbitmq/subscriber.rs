//! The connection that listens.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{Channel, Consumer};
use tokio::task::coop::consume_budget;

use super::failure::{lost, refused};
use super::session::{Session, Watch};
use super::{EXCHANGE, declare_exchange};
use crate::bus::supervisor::Incoming;
use crate::bus::{BusError, BusErrorKind, Subject};

/// How many messages may wait in the broker for a node that does not keep up. Dropping the oldest, which the broker
/// offers, would tell nobody; refusing the newest would tell the wrong one, who published it.
const LONGEST_BACKLOG: u32 = 100_000;

/// Listens on a queue of its own, which goes with the connection.
pub(super) struct Subscriber {
    // Dropped before the connection.
    _delivering: Watch,
    _watch: Watch,
    channel: Channel,
    queue: ShortString,
    session: Session,
}

impl Subscriber {
    /// Connects and listens, to nothing as yet.
    pub(super) async fn open(uri: &AMQPUri, incoming: Incoming) -> Result<Self, BusError> {
        let (session, trouble) = Session::open(uri, "listening").await?;
        let channel = session.channel().await.map_err(refused)?;
        // Never a name of the broker's choice, which the client library would ask for again; and a fresh one for each
        // link, for the broker may not have noticed the end of the last.
        let queue = ShortString::from(format!("switchboard.{:032x}", rand::random::<u128>()));
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
        let declaring = channel.queue_declare(queue.clone(), options, arguments);
        // Whether it may bind at all is found out here, where a refusal is told as one.
        let binding = bind(&channel, &queue, queue.as_str());
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        let consuming = channel.basic_consume(queue.clone(), ShortString::default(), options, FieldTable::default());
        // All in one go; the broker takes them one after another.
        let opening = async { tokio::try_join!(biased; declare_exchange(&channel), declaring, binding, consuming) };
        let (_, _, (), consumer) = opening.await.map_err(refused)?;
        let watch = Watch::for_trouble(trouble, incoming.clone());
        Ok(Self { _delivering: Watch::spawn(deliver(consumer, incoming)), _watch: watch, channel, queue, session })
    }

    /// Binds the queue to subjects, in one go. A binding is effective when the broker has confirmed it.
    pub(super) async fn bind(&self, subjects: &[Subject]) -> Result<(), BusError> {
        let binds = subjects.iter().map(|subject| bind(&self.channel, &self.queue, subject.as_str()));
        try_join_all(binds).await.map(drop).map_err(lost)
    }

    /// Ends bindings.
    pub(super) async fn unbind(&self, subjects: &[Subject]) -> Result<(), BusError> {
        let unbinds = subjects.iter().map(|subject| {
            let (queue, subject) = (self.queue.clone(), subject.as_str().into());
            self.channel.queue_unbind(queue, EXCHANGE.into(), subject, FieldTable::default())
        });
        try_join_all(unbinds).await.map(drop).map_err(lost)
    }

    /// Asks the broker for the queue.
    pub(super) async fn ping(&self) -> Result<(), BusError> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.channel.queue_declare(self.queue.clone(), options, FieldTable::default()).await;
        bounded(queue.map_err(lost)?.message_count())
    }

    /// Takes leave of the broker.
    pub(super) async fn close(&self) -> Result<(), BusError> {
        self.session.close().await
    }
}

async fn bind(channel: &Channel, queue: &ShortString, key: &str) -> lapin::Result<()> {
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.clone(), EXCHANGE.into(), key.into(), options, FieldTable::default()).await
}

/// Takes deliveries out of the client library as fast as they come: it has no bound for them, and nothing here waits.
/// A delegate would get each in a task of its own, and so out of order.
async fn deliver(mut consumer: Consumer, incoming: Incoming) {
    let reason = loop {
        match consumer.next().await {
            Some(Ok(delivery)) => {
                incoming.deliver(delivery.routing_key.as_str(), Bytes::from(delivery.data));
            }
            Some(Err(error)) => break lost(error),
            None => break BusError::new(BusErrorKind::Disconnected, "RabbitMQ ended the consumer"),
        }
        // The stream knows nothing of the runtime's budget, and would hold up other tasks while messages keep coming.
        consume_budget().await;
    };
    incoming.broken(reason);
}

/// Gives up on a backlog that is too long.
fn bounded(backlog: u32) -> Result<(), BusError> {
    if backlog <= LONGEST_BACKLOG {
        return Ok(());
    }
    let text = format!("{backlog} messages wait in RabbitMQ for this node, which does not keep up; it drops them");
    Err(BusError::new(BusErrorKind::Disconnected, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_has_a_bound_and_what_is_dropped_is_told() {
        assert!(bounded(LONGEST_BACKLOG).is_ok());
        let error = bounded(LONGEST_BACKLOG + 1).unwrap_err();
        assert!(error.to_string().contains("100001 messages"), "{error}");
    }
}
