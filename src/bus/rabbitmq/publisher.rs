//! The connection that publishes.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::maybe_done;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::failure::{lost, refused};
use super::session::{Session, Trouble, Watch};
use super::{EXCHANGE, declare_exchange};
use crate::bus::supervisor::Incoming;
use crate::bus::{BusError, BusErrorKind, Outgoing, Receipt};

/// How many messages may wait for their confirms.
const WINDOW: usize = 512;
/// How much of the window a call takes at least, so that there are never more than 16 channels.
const LEAST: usize = 32;

/// How long an attempt to connect waits for the end of an alarm: less than the supervisor lets it take.
const ALARM_PATIENCE: Duration = Duration::from_secs(2);

/// Publishes, each call on a channel that it has for itself.
///
/// A channel must not be shared by calls that run at once. The broker returns a message that it has nobody for, and
/// then confirms it; the client library hands the returned message to whichever confirm of the channel it sees next,
/// which may be another's. When all confirms of the channel are there, all that was returned has been handed out, so a
/// call can sort it by the number that each message carries.
pub(super) struct Publisher {
    // Dropped before the connection.
    _watch: Watch,
    idle: Arc<Mutex<Vec<Channel>>>,
    pings: Channel,
    window: Arc<Semaphore>,
    session: Session,
}

impl Publisher {
    /// Connects, and makes sure that the broker takes messages.
    pub(super) async fn open(uri: &AMQPUri, incoming: Incoming) -> Result<Self, BusError> {
        let (session, mut trouble) = Session::open(uri, "publishing").await?;
        let pings = session.channel().await.map_err(refused)?;
        let confirming = pings.confirm_select(ConfirmSelectOptions::default());
        tokio::try_join!(confirming, declare_exchange(&pings)).map_err(refused)?;
        takes_messages(&pings, &mut trouble).await?;
        let watch = Watch::for_trouble(trouble, incoming);
        Ok(Self { _watch: watch, idle: Arc::default(), pings, window: Arc::new(Semaphore::new(WINDOW)), session })
    }

    /// Publishes in order, and returns when all confirms are there.
    pub(super) async fn publish(&self, mut batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>> {
        let mut results = Vec::with_capacity(batch.len());
        while !batch.is_empty() {
            let later = batch.split_off(batch.len().min(WINDOW));
            let count = batch.len();
            match self.publish_at_once(batch).await {
                Ok(receipts) => results.extend(receipts),
                Err(error) => results.extend((0..count).map(|_| Err(lost(error.clone())))),
            }
            batch = later;
        }
        results
    }

    /// Has the broker take a message for nobody. It is a publish, so that a node that has nothing to say hears of an
    /// alarm too.
    pub(super) async fn ping(&self) -> Result<(), BusError> {
        ping(&self.pings).await.map_err(lost)
    }

    /// Takes leave of the broker.
    pub(super) async fn close(&self) -> Result<(), BusError> {
        self.session.close().await
    }

    async fn publish_at_once(&self, messages: Vec<Outgoing>) -> lapin::Result<Vec<Result<Receipt, BusError>>> {
        let share = messages.len().max(LEAST) as u32;
        let share = Arc::clone(&self.window).acquire_many_owned(share).await.expect("nobody closes the window");
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let channel = match idle {
            Some(channel) => channel,
            None => confirming(&self.session).await?,
        };
        let idle = Arc::clone(&self.idle);
        // It goes on when the caller goes away, else the channel would have to be closed; and the client library lets
        // that overtake messages, for which the broker would close the connection. It ends with the connection.
        let transmission = tokio::spawn(async move {
            let receipts = transmit(&channel, &messages).await?;
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
            drop(share);
            Ok(receipts)
        });
        transmission.await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
    }
}

/// Finds out whether the broker takes messages. While a resource alarm is on, it takes one of each connection, and then
/// reads no more from it and says so.
async fn takes_messages(pings: &Channel, trouble: &mut Trouble) -> Result<(), BusError> {
    let taking = async { tokio::try_join!(ping(pings), ping(pings)) };
    let mut taking = std::pin::pin!(taking);
    tokio::select! {
        taken = &mut taking => taken.map(drop).map_err(refused),
        trouble = trouble => {
            // The broker does not see the end of a connection from which it does not read. So as not to load it with
            // many of them just then, each is kept for a while.
            timeout(ALARM_PATIENCE, taking).await.ok();
            Err(trouble)
        }
    }
}

/// Opens a channel in confirm mode.
async fn confirming(session: &Session) -> lapin::Result<Channel> {
    let channel = session.channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Publishes a byte to the key of which no link has a binding. It is not mandatory, so that nothing comes back.
async fn ping(channel: &Channel) -> lapin::Result<()> {
    let (nobody, options) = (ShortString::default(), BasicPublishOptions::default());
    let sent = channel.basic_publish(EXCHANGE.into(), nobody, options, b"?", BasicProperties::default()).await?;
    sent.await.map(drop)
}

/// Publishes messages on a channel that nobody else uses.
async fn transmit(channel: &Channel, messages: &[Outgoing]) -> lapin::Result<Vec<Result<Receipt, BusError>>> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut publishes: Vec<_> = (0..)
        .zip(messages)
        .map(|(number, outgoing): (usize, _)| {
            let properties = BasicProperties::default().with_message_id(number.to_string().into());
            let (exchange, subject) = (EXCHANGE.into(), outgoing.subject.as_str().into());
            Box::pin(maybe_done(channel.basic_publish(exchange, subject, options, &outgoing.payload, properties)))
        })
        .collect();
    // Hands all frames over, in order, before anything is waited for. Who polls next will be woken.
    for publish in &mut publishes {
        let _first: Poll<()> = publish.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    // When the last one is on its way, all are.
    for publish in publishes.iter_mut().rev() {
        publish.as_mut().await;
    }
    let mut receipts = Vec::with_capacity(messages.len());
    let mut returned = Vec::new();
    for mut publish in publishes {
        let sent = publish.as_mut().take_output().expect("it was awaited, and is taken once")?;
        let confirmation = sent.await?;
        receipts.push(if confirmation.is_ack() { Ok(Receipt { receivers: None }) } else { Err(not_taken()) });
        returned.extend(confirmation.take_message());
    }
    for message in returned {
        if let Some(receipt) = number(&message).and_then(|number| receipts.get_mut(number)) {
            *receipt = Ok(Receipt { receivers: Some(0) });
        }
    }
    Ok(receipts)
}

/// Returns which message of its call a returned one is.
fn number(message: &BasicReturnMessage) -> Option<usize> {
    message.properties.message_id().as_ref()?.as_str().parse().ok()
}

fn not_taken() -> BusError {
    BusError::new(BusErrorKind::Rejected, "RabbitMQ could not take a message")
}
