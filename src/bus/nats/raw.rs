//! The client library of NATS by itself.

use async_nats::{Client, RequestErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio_util::task::AbortOnDropHandle;

use super::servers::Servers;
use super::{connect_error, ended, suits};
use crate::bus::config::NatsConfig;
use crate::bus::raw::{BatchPublisher, Heard};
use crate::bus::{BusError, Subject};

struct Nats {
    client: Client,
    subject: String,
    unused: String,
    _listening: AbortOnDropHandle<()>,
}

/// Subscribes, and connects to publish, on one connection.
pub(in crate::bus) async fn connect(
    config: &NatsConfig,
    subject: &Subject,
    heard: Heard,
) -> Result<Box<dyn BatchPublisher>, BusError> {
    let servers = Servers::parse(&config.url)?;
    let addresses: Vec<_> = servers.iter().cloned().collect();
    let client = servers.options().connect(addresses).await.map_err(connect_error)?;
    suits(&client.server_info())?;
    let mut messages = client.subscribe(subject.as_str().to_owned()).await.map_err(|e| ended().caused_by(e))?;
    let listening = tokio::spawn(async move {
        while messages.next().await.is_some() {
            heard();
        }
    });
    let unused = client.new_inbox();
    let (subject, _listening) = (subject.as_str().to_owned(), AbortOnDropHandle::new(listening));
    let nats = Nats { client, subject, unused, _listening };
    // The subscription is effective when the server answers.
    nats.publish(&[]).await?;
    Ok(Box::new(nats))
}

#[async_trait]
impl BatchPublisher for Nats {
    async fn publish(&self, batch: &[Bytes]) -> Result<(), BusError> {
        for payload in batch {
            let publishing = self.client.publish(self.subject.clone(), payload.clone());
            publishing.await.map_err(|error| ended().caused_by(error))?;
        }
        // A publish has no answer of its own. This one says that nobody is there, once the server has taken the others.
        match self.client.request(self.unused.clone(), Bytes::new()).await {
            Err(error) if error.kind() != RequestErrorKind::NoResponders => Err(ended().caused_by(error)),
            _ => Ok(()),
        }
    }
}
