//! One connection to NATS.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::{Client, ConnectOptions, ServerAddr, ServerInfo, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, unconstrained};

use super::answers::{Answers, Published};
use super::publishing::Publishing;
use super::thread::LinkThread;
use super::{connect_error, ended};
use crate::bus::supervisor::{Incoming, Link};
use crate::bus::{BusError, BusErrorKind, Outgoing, Receipt, Subject};

/// The connection of one node to NATS, with the thread on which it lives.
pub struct NatsLink {
    wire: Wire,
    incoming: Incoming,
    readers: Mutex<HashMap<Subject, Reader>>,
    publishing: Publishing,
    thread: LinkThread,
}

/// The way to the server, and what it answers. Used on the link's thread only.
#[derive(Clone)]
pub(super) struct Wire {
    client: Client,
    inbox: Arc<str>,
    pub(super) answers: Arc<Answers>,
}

/// The task that takes the messages of a subscription.
struct Reader {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Connects, and subscribes to the inbox in which the server's answers arrive.
    pub(super) async fn open(server: ServerAddr, options: ConnectOptions) -> Result<Self, BusError> {
        let answers = Arc::new(Answers::default());
        let noting = Arc::clone(&answers);
        let options = options.event_callback(move |event| {
            noting.note(&event);
            std::future::ready(())
        });
        let client = options.connect(server).await.map_err(connect_error)?;
        let wire = Self { inbox: client.new_inbox().into(), client, answers };
        let inbox = wire.client.subscribe(format!("{}.*", wire.inbox)).await.map_err(failed)?;
        let (answers, prefix) = (Arc::clone(&wire.answers), Arc::clone(&wire.inbox));
        tokio::spawn(unconstrained(async move { answers.hear(inbox, &prefix).await }));
        wire.round_trip().await?;
        Ok(wire)
    }

    pub(super) fn server_info(&self) -> ServerInfo {
        self.client.server_info()
    }

    /// Waits until the server has dealt with everything that was sent before: it answers in order.
    pub(super) async fn round_trip(&self) -> Result<(), BusError> {
        let (end, answered) = self.answers.expect_round_trip();
        self.client.publish(format!("{}.{end}", self.inbox), Bytes::new()).await.map_err(failed)?;
        answered.await.map_err(|_| self.answers.reason())
    }

    /// Begins a round trip behind messages. The answer tells of them, and fails when the link is broken.
    pub(super) async fn round_trip_behind_messages(&self) -> Result<oneshot::Receiver<Published>, BusError> {
        let (end, answered) = self.answers.expect_published();
        self.client.publish(format!("{}.{end}", self.inbox), Bytes::new()).await.map_err(failed)?;
        Ok(answered)
    }

    /// Sends a message.
    pub(super) async fn send(&self, subject: async_nats::Subject, payload: Bytes) -> Result<(), BusError> {
        self.client.publish(subject, payload).await.map_err(failed)
    }

    /// Sends a message. When nobody is there for it the server says so in the inbox, by this number.
    pub(super) async fn send_asking(
        &self,
        subject: async_nats::Subject,
        payload: Bytes,
        number: usize,
    ) -> Result<(), BusError> {
        let reply = format!("{}.{number}", self.inbox);
        self.client.publish_with_reply(subject, reply, payload).await.map_err(failed)
    }

    /// Subscribes; what arrives is delivered from now on. It is not effective before a round trip.
    async fn subscribe(&self, subject: &Subject, incoming: Incoming) -> Result<Reader, BusError> {
        let subscriber = self.client.subscribe(subject.as_str().to_owned()).await.map_err(failed)?;
        let (end, ending) = oneshot::channel();
        // It takes all there is whenever it runs. A task that had to let others run in between would fall behind the
        // one that reads the socket.
        let task = tokio::spawn(unconstrained(read(subscriber, ending, incoming)));
        Ok(Reader { end, task })
    }

    /// Ends subscriptions, effectively.
    async fn unsubscribe(&self, readers: Vec<Reader>) -> Result<(), BusError> {
        let mut tasks = Vec::with_capacity(readers.len());
        for Reader { end, task } in readers {
            // One that has ended already has nothing to end.
            end.send(()).ok();
            tasks.push(task);
        }
        for task in tasks {
            task.await.map_err(|error| ended().caused_by(error))?;
        }
        self.round_trip().await
    }
}

/// Delivers the messages of a subscription until it is to end.
async fn read(mut subscriber: Subscriber, mut ending: oneshot::Receiver<()>, incoming: Incoming) {
    loop {
        tokio::select! {
            message = subscriber.next() => match message {
                Some(message) => {
                    incoming.deliver(&message.subject, message.payload);
                }
                None => return incoming.broken(ended()),
            },
            _ = &mut ending => break,
        }
    }
    if let Err(error) = subscriber.unsubscribe().await {
        return incoming.broken(ended().caused_by(error));
    }
    while let Some(message) = subscriber.next().await {
        incoming.deliver(&message.subject, message.payload);
    }
}

impl NatsLink {
    pub(super) fn new(thread: LinkThread, wire: Wire, incoming: Incoming) -> Self {
        wire.answers.belong_to(incoming.clone());
        let publishing = Publishing::start(&thread, wire.clone());
        Self { wire, incoming, readers: Mutex::default(), publishing, thread }
    }
}

impl Link for NatsLink {
    async fn subscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        let (wire, incoming, subjects) = (self.wire.clone(), self.incoming.clone(), subjects.to_vec());
        let subscribing = async move {
            let mut readers = HashMap::with_capacity(subjects.len());
            for subject in subjects {
                let reader = wire.subscribe(&subject, incoming.clone()).await?;
                readers.insert(subject, reader);
            }
            wire.round_trip().await?;
            let refused = wire.answers.take_refused_subscriptions();
            let Some(example) = refused.iter().next() else { return Ok(readers) };
            wire.unsubscribe(readers.into_values().collect()).await?;
            let text = format!("NATS does not let the user of bus.nats.url subscribe to {example}");
            Err(BusError::new(BusErrorKind::Rejected, text))
        };
        let readers = self.thread.run(subscribing).await??;
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).extend(readers);
        Ok(())
    }

    async fn unsubscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        let readers = {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            subjects.iter().filter_map(|subject| readers.remove(subject)).collect()
        };
        let wire = self.wire.clone();
        self.thread.run(async move { wire.unsubscribe(readers).await }).await?
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>> {
        self.publishing.publish(batch).await
    }

    async fn ping(&self) -> Result<(), BusError> {
        let wire = self.wire.clone();
        self.thread.run(async move { wire.round_trip().await }).await?
    }

    async fn close(&self) -> Result<(), BusError> {
        // Whatever was published has its answer, and a server needs no farewell.
        Ok(())
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(error: E) -> BusError {
    ended().caused_by(error)
}
