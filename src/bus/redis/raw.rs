//! The client library of Redis by itself.

use async_trait::async_trait;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind};

use super::{RedisBackend, bus_error};
use crate::bus::config::BrokerUrl;
use crate::bus::raw::{BatchPublisher, Heard};
use crate::bus::{BusError, Subject};

struct Redis {
    publishing: MultiplexedConnection,
    subject: Subject,
    _listening: MultiplexedConnection,
}

/// Subscribes, and connects to publish.
pub(in crate::bus) async fn connect(
    url: &BrokerUrl,
    subject: &Subject,
    heard: Heard,
) -> Result<Box<dyn BatchPublisher>, BusError> {
    let client = RedisBackend::new(url)?.client;
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(move |push: PushInfo| {
        if push.kind == PushKind::Message {
            heard();
        }
        Ok::<(), redis::aio::SendError>(())
    });
    let mut listening = client.get_multiplexed_async_connection_with_config(&config).await.map_err(bus_error)?;
    listening.subscribe(subject.as_str()).await.map_err(bus_error)?;
    let publishing = client.get_multiplexed_async_connection().await.map_err(bus_error)?;
    Ok(Box::new(Redis { publishing, subject: subject.clone(), _listening: listening }))
}

#[async_trait]
impl BatchPublisher for Redis {
    async fn publish(&self, batch: &[Bytes]) -> Result<(), BusError> {
        let mut pipeline = redis::pipe();
        for payload in batch {
            pipeline.cmd("PUBLISH").arg(self.subject.as_str()).arg(payload.as_ref());
        }
        let _: Vec<u64> = pipeline.query_async(&mut self.publishing.clone()).await.map_err(bus_error)?;
        Ok(())
    }
}
