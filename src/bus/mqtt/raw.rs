//! The client library of MQTT by itself.

use async_trait::async_trait;
use bytes::Bytes;
use rumqttc::{AsyncClient, Event, EventLoop, Packet, PublishOptions, QoS};
use tokio_util::task::AbortOnDropHandle;

use super::address::Address;
use super::connection::{client, ended, refusal};
use super::{is_confirmed, topic};
use crate::bus::config::BusConfig;
use crate::bus::raw::{BatchPublisher, Heard};
use crate::bus::{BusError, Subject};

struct Mqtt {
    publishing: AsyncClient,
    topic: String,
    options: PublishOptions,
    _listening: AsyncClient,
    _loops: [AbortOnDropHandle<()>; 2],
}

/// Subscribes, and connects to publish.
pub(in crate::bus) async fn connect(
    config: &BusConfig,
    subject: &Subject,
    heard: Heard,
) -> Result<Box<dyn BatchPublisher>, BusError> {
    let address = Address::of(config)?;
    let qos = if is_confirmed(config) { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    let (listening, listening_loop) = open(&address, heard).await?;
    let topic = topic::topic(subject);
    let subscribed = listening.subscribe_tracked(topic.as_str(), QoS::AtMostOnce).await.map_err(ended)?;
    subscribed.wait_async().await.map_err(ended)?;
    let (publishing, publishing_loop) = open(&address, std::sync::Arc::new(|| {})).await?;
    let options = PublishOptions::new(qos);
    let _loops = [listening_loop, publishing_loop];
    Ok(Box::new(Mqtt { publishing, topic, options, _listening: listening, _loops }))
}

async fn open(address: &Address, heard: Heard) -> Result<(AsyncClient, AbortOnDropHandle<()>), BusError> {
    let (client, mut events) = client(address)?;
    events.poll().await.map_err(|error| refusal(error, address.key))?;
    let polling = tokio::spawn(poll(events, heard));
    Ok((client, AbortOnDropHandle::new(polling)))
}

async fn poll(mut events: EventLoop, heard: Heard) {
    while let Ok(event) = events.poll().await {
        if let Event::Incoming(Packet::Publish(_)) = event {
            heard();
        }
    }
}

#[async_trait]
impl BatchPublisher for Mqtt {
    async fn publish(&self, batch: &[Bytes]) -> Result<(), BusError> {
        let mut notices = Vec::with_capacity(batch.len());
        for payload in batch {
            let publishing = self.publishing.publish_tracked(self.topic.as_str(), payload.clone(), self.options);
            notices.push(publishing.await.map_err(ended)?);
        }
        for notice in notices {
            notice.wait_async().await.map_err(ended)?;
        }
        Ok(())
    }
}
