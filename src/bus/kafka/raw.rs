//! The client library of Kafka by itself: its `FutureProducer` and its `StreamConsumer`.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaResult;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use tokio_util::task::AbortOnDropHandle;

use super::{bus_error, settings, topics};
use crate::bus::config::KafkaConfig;
use crate::bus::raw::{BatchPublisher, Heard};
use crate::bus::{BusError, BusErrorKind, Subject};

const PATIENCE: Duration = Duration::from_secs(5);

struct Kafka {
    producer: FutureProducer,
    topic: String,
    _listening: AbortOnDropHandle<()>,
}

/// Subscribes, and connects to publish. A message is confirmed by all replicas in sync, and none overtakes another, as
/// through the bus: without that the library has any number of requests under way, each with next to nothing in it, and
/// is several times slower.
pub(in crate::bus) async fn connect(
    config: &KafkaConfig,
    subject: &Subject,
    heard: Heard,
) -> Result<Box<dyn BatchPublisher>, BusError> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", settings::brokers(&config.brokers)?);
    let admin: AdminClient<DefaultClientContext> = client.create().map_err(bus_error)?;
    topics::create(&admin, std::slice::from_ref(subject)).await.map_err(bus_error)?;
    let topic = topics::name_of(subject);
    let consumer = listen(&client, topic.clone()).await?;
    let listening = tokio::spawn(async move {
        while consumer.recv().await.is_ok() {
            heard();
        }
    });
    client.set("enable.idempotence", "true").set("linger.ms", "0").set("message.timeout.ms", "5000");
    let producer = client.create().map_err(bus_error)?;
    Ok(Box::new(Kafka { producer, topic, _listening: AbortOnDropHandle::new(listening) }))
}

async fn listen(client: &ClientConfig, topic: String) -> Result<StreamConsumer, BusError> {
    let mut config = client.clone();
    config.set("group.id", "switchboard").set("enable.auto.commit", "false");
    let start = move || -> KafkaResult<StreamConsumer> {
        let consumer: StreamConsumer = config.create()?;
        let (_, end) = consumer.fetch_watermarks(&topic, 0, PATIENCE)?;
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(&topic, 0, Offset::Offset(end))?;
        consumer.assign(&partitions)?;
        Ok(consumer)
    };
    super::blocking(start).await?.map_err(bus_error)
}

#[async_trait]
impl BatchPublisher for Kafka {
    async fn publish(&self, batch: &[Bytes]) -> Result<(), BusError> {
        let mut deliveries = Vec::with_capacity(batch.len());
        for payload in batch {
            let record = FutureRecord::<(), [u8]>::to(&self.topic).payload(payload);
            deliveries.push(self.producer.send_result(record).map_err(|(error, _)| bus_error(error))?);
        }
        let ended = |_| BusError::new(BusErrorKind::Disconnected, "the connection to Kafka ended");
        for delivered in try_join_all(deliveries).await.map_err(ended)? {
            delivered.map_err(|(error, _)| bus_error(error))?;
        }
        Ok(())
    }
}
