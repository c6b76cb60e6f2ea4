//! A bus on any broker that speaks STOMP 1.2, such as ActiveMQ, or RabbitMQ with its plugin.
//!
//! A backend is two things: a [`Backend`] knows where the broker is and connects once; a [`Link`] is one such
//! connection. Connecting again, subscribing again, deadlines, pings and queues for subscribers are the supervisor's.

pub(crate) mod frame;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::BytesMut;
use switchboard::bus::supervisor::{Backend, Incoming, Link};
use switchboard::bus::{BusError, BusErrorKind, Claim, Guarantees, Outgoing, Receipt, Subject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use frame::Frame;

/// How many requests may wait for the socket before whoever asks waits, too.
const WAITING_REQUESTS: usize = 64;

/// Where a broker is, and the frame that begins a connection to it.
pub(crate) struct StompBackend {
    address: String,
    hello: Frame,
}

/// One connection to a broker. Dropping it ends its task and closes its socket: nothing of a link may outlive it.
pub(crate) struct StompLink {
    requests: mpsc::Sender<Request>,
    receipts: AtomicU64,
    _task: AbortOnDropHandle<()>,
}

/// Frames that are written in one go, and who waits for the receipt of each.
struct Request {
    frames: BytesMut,
    waiting: Vec<(u64, Answer)>,
}

type Answer = oneshot::Sender<Result<(), BusError>>;

/// Who waits for which receipt on a connection.
type Waiting = Mutex<HashMap<u64, Answer>>;

impl StompBackend {
    /// Takes `[user:password@]host:port`. Nothing is connected yet: a broker that is away is no error.
    pub(crate) fn new(url: &str) -> Result<Self, BusError> {
        let (login, address) = url.rsplit_once('@').map_or((None, url), |(login, address)| (Some(login), address));
        let bad = || BusError::new(BusErrorKind::Config, format!("{address}: write [user:password@]host:port"));
        address.rsplit_once(':').ok_or_else(bad)?;
        // RabbitMQ takes `host` for the name of a virtual host; ActiveMQ has none.
        let mut hello = Frame::new("CONNECT").with("accept-version", "1.2").with("host", "/");
        if let Some(login) = login {
            let (user, password) = login.split_once(':').ok_or_else(bad)?;
            hello = hello.with("login", user).with("passcode", password);
        }
        Ok(Self { address: address.to_owned(), hello })
    }
}

impl Backend for StompBackend {
    type Link = StompLink;

    /// Claims no more than the contract suite proves.
    fn guarantees(&self) -> Guarantees {
        Guarantees {
            ordered: Claim::Yes,
            at_least_once: Claim::No,
            survives_broker_restart: Claim::No,
            confirmed: Claim::Yes,
            counts_receivers: Claim::No,
            tells_no_receivers: Claim::No,
            per_user_subjects: Claim::No,
            max_payload: 1024 * 1024,
        }
    }

    async fn connect(&self, incoming: Incoming) -> Result<StompLink, BusError> {
        let stream = TcpStream::connect(&self.address).await.map_err(lost)?;
        // Nagle's algorithm would hold small frames back for 40 ms.
        stream.set_nodelay(true).map_err(lost)?;
        let (socket, mut writer) = stream.into_split();
        let mut reader = Reader { socket, buffer: BytesMut::new() };
        let mut hello = BytesMut::new();
        self.hello.write(&mut hello);
        writer.write_all(&hello).await.map_err(lost)?;
        let answer = reader.next().await?;
        if answer.command != "CONNECTED" {
            return Err(refused(&answer));
        }
        let (requests, queue) = mpsc::channel(WAITING_REQUESTS);
        // One task owns the socket, and reads while it writes: two sides that only write would wait for each other.
        let task = tokio::spawn(async move {
            let waiting = Waiting::default();
            let reason = tokio::select! {
                Err(reason) = receive(reader, &waiting, &incoming) => reason,
                ended_by = send(writer, queue, &waiting) => ended_by.err().unwrap_or_else(ended),
            };
            incoming.broken(reason);
            // Whoever still waits for a receipt learns from the end of `waiting` that there is none.
        });
        Ok(StompLink { requests, receipts: AtomicU64::new(0), _task: AbortOnDropHandle::new(task) })
    }
}

impl Link for StompLink {
    async fn subscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        // Nothing in a subject means anything to STOMP, so it can be the id of its subscription.
        let subscribe = |subject| Frame::new("SUBSCRIBE").with("id", subject).with("destination", topic(subject));
        // The receipt is the barrier: once it is there, the broker has the subscription.
        let answers = self.ask(subjects.iter().map(subscribe)).await;
        let Some(refusal) = answers.iter().position(Result::is_err) else { return Ok(()) };
        // When the broker refuses one of them, it is to have none.
        let taken = subjects.iter().zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(subject, _)| subject);
        all(self.ask(taken.map(unsubscribe)).await)?;
        answers.into_iter().nth(refusal).unwrap_or(Ok(()))
    }

    async fn unsubscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        all(self.ask(subjects.iter().map(unsubscribe)).await)
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>> {
        let send =
            |Outgoing { subject, payload }| Frame::new("SEND").with("destination", topic(&subject)).body(payload);
        let answers = self.ask(batch.into_iter().map(send)).await;
        // A receipt says that the broker has taken a message, and not to how many it gave it.
        answers.into_iter().map(|answer| answer.map(|()| Receipt { receivers: None })).collect()
    }

    async fn ping(&self) -> Result<(), BusError> {
        // STOMP has no ping with an answer. A transaction that does nothing has one, and leaves nothing behind.
        all(self.ask(["BEGIN", "ABORT"].map(|command| Frame::new(command).with("transaction", "ping"))).await)
    }

    async fn close(&self) -> Result<(), BusError> {
        all(self.ask([Frame::new("DISCONNECT")]).await)
    }
}

impl StompLink {
    /// Sends frames in one go and waits for the broker's word for each. Whoever calls may stop waiting at any time: the
    /// task writes, so that cannot leave half a frame on the wire.
    async fn ask(&self, frames: impl IntoIterator<Item = Frame>) -> Vec<Result<(), BusError>> {
        let (mut request, mut answers) = (Request { frames: BytesMut::new(), waiting: Vec::new() }, Vec::new());
        for frame in frames {
            let receipt = self.receipts.fetch_add(1, Ordering::Relaxed);
            let (answer, answered) = oneshot::channel();
            frame.with("receipt", receipt).write(&mut request.frames);
            request.waiting.push((receipt, answer));
            answers.push(answered);
        }
        // When the task has ended this drops the request, and with it those who would have answered.
        drop(self.requests.send(request).await);
        let mut results = Vec::with_capacity(answers.len());
        for answered in answers {
            results.push(answered.await.unwrap_or_else(|_| Err(ended())));
        }
        results
    }
}

/// Hands on what the broker sends until the connection breaks. Nothing in it waits for anybody but the broker.
async fn receive(mut reader: Reader, waiting: &Waiting, incoming: &Incoming) -> Result<Infallible, BusError> {
    loop {
        let frame = reader.next().await?;
        let receipt = frame.header("receipt-id").and_then(|receipt| receipt.parse().ok());
        match (frame.command.as_str(), frame.header("subscription"), receipt) {
            ("MESSAGE", Some(subject), _) => {
                incoming.deliver(subject, frame.body.clone());
            }
            ("RECEIPT", _, Some(receipt)) => answer(waiting, receipt, Ok(())),
            // The broker may close the connection behind it; then reading ends this.
            ("ERROR", _, Some(receipt)) => answer(waiting, receipt, Err(refused(&frame))),
            _ => return Err(refused(&frame)),
        }
    }
}

/// Writes what is asked for until the connection breaks, or nobody is left who could ask.
async fn send(mut socket: OwnedWriteHalf, mut queue: mpsc::Receiver<Request>, to: &Waiting) -> Result<(), BusError> {
    while let Some(request) = queue.recv().await {
        to.lock().unwrap_or_else(PoisonError::into_inner).extend(request.waiting);
        socket.write_all(&request.frames).await.map_err(lost)?;
    }
    Ok(())
}

fn answer(waiting: &Waiting, receipt: u64, answer: Result<(), BusError>) {
    if let Some(waits) = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&receipt) {
        // Whoever has stopped waiting does not need it.
        drop(waits.send(answer));
    }
}

/// The half of a socket that frames are read from.
struct Reader {
    socket: OwnedReadHalf,
    buffer: BytesMut,
}

impl Reader {
    async fn next(&mut self) -> Result<Frame, BusError> {
        loop {
            let garbled = |error| BusError::new(BusErrorKind::Rejected, "this is no STOMP broker").caused_by(error);
            if let Some(frame) = Frame::read(&mut self.buffer).map_err(garbled)? {
                return Ok(frame);
            }
            if self.socket.read_buf(&mut self.buffer).await.map_err(lost)? == 0 {
                return Err(ended());
            }
        }
    }
}

/// Subjects are segments joined by dots, as ActiveMQ's and RabbitMQ's topics are.
fn topic(subject: &Subject) -> String {
    format!("/topic/{subject}")
}

fn unsubscribe(subject: &Subject) -> Frame {
    Frame::new("UNSUBSCRIBE").with("id", subject)
}

fn all(answers: Vec<Result<(), BusError>>) -> Result<(), BusError> {
    answers.into_iter().collect()
}

fn refused(frame: &Frame) -> BusError {
    let why = frame.header("message").unwrap_or_default();
    BusError::new(BusErrorKind::Rejected, format!("the broker answered {} {why}", frame.command))
}

fn lost(error: std::io::Error) -> BusError {
    BusError::new(BusErrorKind::Disconnected, "there is no connection to the broker").caused_by(error)
}

fn ended() -> BusError {
    BusError::new(BusErrorKind::Disconnected, "the connection to the broker ended")
}

/// It stands in logs, so the password stays out.
impl fmt::Debug for StompBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StompBackend").field("address", &self.address).finish_non_exhaustive()
    }
}
