//! The client library of RabbitMQ by itself.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use super::failure::{lost, not_opened, refused};
use super::{EXCHANGE, address, declare_exchange};
use crate::bus::config::RabbitmqConfig;
use crate::bus::raw::{BatchPublisher, Heard};
use crate::bus::{BusError, BusErrorKind, Subject};

struct Rabbitmq {
    publishing: Channel,
    subject: Subject,
    _connections: [Connection; 2],
}

/// Subscribes, and connects to publish.
pub(in crate::bus) async fn connect(
    config: &RabbitmqConfig,
    subject: &Subject,
    heard: Heard,
) -> Result<Box<dyn BatchPublisher>, BusError> {
    let uri = address::parse(&config.url)?;
    let connect = || Connection::connect_uri(uri.clone(), ConnectionProperties::default());
    let (listening, publishing) = tokio::try_join!(connect(), connect()).map_err(not_opened)?;
    let channel = listening.create_channel().await.map_err(lost)?;
    declare_exchange(&channel).await.map_err(refused)?;
    let consumer = async {
        let queue = ShortString::from(format!("switchboard.raw.{:032x}", rand::random::<u128>()));
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.clone(), options, FieldTable::default()).await?;
        let (exchange, key, options) = (EXCHANGE.into(), subject.as_str().into(), QueueBindOptions::default());
        channel.queue_bind(queue.clone(), exchange, key, options, FieldTable::default()).await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        channel.basic_consume(queue, ShortString::default(), options, FieldTable::default()).await
    };
    let mut consumer = consumer.await.map_err(refused)?;
    tokio::spawn(async move {
        while let Some(Ok(_)) = consumer.next().await {
            heard();
        }
    });
    let channel = publishing.create_channel().await.map_err(lost)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(refused)?;
    let connections = [listening, publishing];
    Ok(Box::new(Rabbitmq { publishing: channel, subject: subject.clone(), _connections: connections }))
}

#[async_trait]
impl BatchPublisher for Rabbitmq {
    async fn publish(&self, batch: &[Bytes]) -> Result<(), BusError> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publish = |payload| {
            let (exchange, key) = (EXCHANGE.into(), self.subject.as_str().into());
            self.publishing.basic_publish(exchange, key, options, payload, BasicProperties::default())
        };
        let sent = try_join_all(batch.iter().map(|payload| publish(payload))).await.map_err(lost)?;
        for confirm in sent {
            if !confirm.await.map_err(lost)?.is_ack() {
                return Err(BusError::new(BusErrorKind::Rejected, "RabbitMQ could not take a message"));
            }
        }
        Ok(())
    }
}
