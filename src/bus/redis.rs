//! The bus on Redis pub/sub: one connection listens, another publishes.

pub(super) mod inspect;
pub(super) mod raw;

use std::fmt;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo,
    PushKind, RedisError, Value,
};

use super::config::BrokerUrl;
use super::supervisor::{Backend, Incoming, Link};
use super::{BusError, BusErrorKind, Claim, Guarantees, Outgoing, Receipt, Subject};

/// The largest payload. Redis itself takes 512 MiB, but a subscriber for which more than 32 MiB wait is cut off.
const MAX_PAYLOAD: usize = 1024 * 1024;
/// How many batches may wait for the publishing connection before publishers wait too.
const WAITING_BATCHES: usize = 512;
/// How much is gathered before it is written to the socket.
const WRITE_BUFFER: usize = 64 * 1024;

/// A [`Backend`] on one Redis server, version 6 or newer.
pub struct RedisBackend {
    client: Client,
    url: BrokerUrl,
}

/// The two connections of one node to Redis.
pub struct RedisLink {
    listening: MultiplexedConnection,
    publishing: MultiplexedConnection,
}

impl RedisBackend {
    /// Checks the URL; nothing is connected yet.
    pub fn new(url: &BrokerUrl) -> Result<Self, BusError> {
        let broken = |reason: &str| BusError::new(BusErrorKind::Config, format!("bus.redis.url = \"{url}\": {reason}"));
        if url.expose().starts_with("rediss://") {
            return Err(broken("this version does not speak TLS to Redis; use redis://"));
        }
        let expected = "write redis://[user:password@]host[:port][/db]";
        if !url.expose().starts_with("redis://") {
            return Err(broken(expected));
        }
        let info = url.expose().into_connection_info().map_err(|error| broken(expected).caused_by(error))?;
        if !matches!(info.addr(), ConnectionAddr::Tcp(..)) {
            return Err(broken(expected));
        }
        // RESP3 delivers messages and answers on one connection; Nagle's algorithm would hold small batches back for 40
        // ms.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(info).map_err(|error| broken(expected).caused_by(error))?;
        Ok(Self { client, url: url.clone() })
    }

    /// Opens one connection. Neither has a deadline of its own in the client library: the supervisor has one for each
    /// call.
    async fn open(&self, incoming: Incoming) -> Result<MultiplexedConnection, BusError> {
        let receiver = Receiver { incoming };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(WAITING_BATCHES)
            .set_write_backpressure_boundary(WRITE_BUFFER)
            .set_push_sender(move |push| {
                receiver.take(push);
                Ok::<(), redis::aio::SendError>(())
            });
        self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(bus_error)
    }
}

impl Backend for RedisBackend {
    type Link = RedisLink;

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            ordered: Claim::Yes,
            at_least_once: Claim::No,
            survives_broker_restart: Claim::No,
            confirmed: Claim::Yes,
            counts_receivers: Claim::Yes,
            tells_no_receivers: Claim::Yes,
            per_user_subjects: Claim::Yes,
            max_payload: MAX_PAYLOAD,
        }
    }

    async fn connect(&self, incoming: Incoming) -> Result<RedisLink, BusError> {
        let (listening, publishing) = tokio::try_join!(self.open(incoming.clone()), self.open(incoming))?;
        Ok(RedisLink { listening, publishing })
    }
}

impl Link for RedisLink {
    async fn subscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        // The client returns when the server has confirmed each channel.
        self.listening.clone().subscribe(names(subjects)).await.map_err(bus_error)
    }

    async fn unsubscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        self.listening.clone().unsubscribe(names(subjects)).await.map_err(bus_error)
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>> {
        let mut connection = self.publishing.clone();
        if let [outgoing] = batch.as_slice() {
            let answer = connection.send_packed_command(&publish_command(outgoing)).await;
            return vec![answer.map_err(bus_error).and_then(receipt)];
        }
        let mut pipeline = redis::Pipeline::with_capacity(batch.len());
        for outgoing in &batch {
            pipeline.add_command(publish_command(outgoing));
        }
        match connection.send_packed_commands(&pipeline, 0, batch.len()).await {
            Ok(answers) => answers.into_iter().map(receipt).collect(),
            Err(error) => batch.iter().map(|_| Err(bus_error(error.clone()))).collect(),
        }
    }

    async fn ping(&self) -> Result<(), BusError> {
        let ping = redis::cmd("PING");
        let (mut listening, mut publishing) = (self.listening.clone(), self.publishing.clone());
        let (heard, published) =
            tokio::try_join!(listening.send_packed_command(&ping), publishing.send_packed_command(&ping))
                .map_err(bus_error)?;
        refusal(heard).and_then(|_| refusal(published)).map(|_| ())
    }

    async fn close(&self) -> Result<(), BusError> {
        // Whatever was published has its answer; dropping the connections is all the farewell that Redis needs.
        Ok(())
    }
}

/// Runs on the connection's own task, so nothing in it may wait. Its drop means that this task has ended.
struct Receiver {
    incoming: Incoming,
}

impl Receiver {
    fn take(&self, push: PushInfo) {
        match push.kind {
            PushKind::Message => {
                let mut data = push.data.into_iter();
                let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) = (data.next(), data.next())
                else {
                    return self.incoming.broken(unexpected("a message of a shape we do not know"));
                };
                // A channel that is no text is none of ours.
                if let Ok(subject) = str::from_utf8(&channel) {
                    self.incoming.deliver(subject, Bytes::from(payload));
                }
            }
            PushKind::Disconnection => self.incoming.broken(ended()),
            _ => {}
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.incoming.broken(ended());
    }
}

fn names(subjects: &[Subject]) -> Vec<&str> {
    subjects.iter().map(Subject::as_str).collect()
}

fn publish_command(outgoing: &Outgoing) -> Cmd {
    let (subject, payload) = (outgoing.subject.as_str(), outgoing.payload.as_ref());
    let mut command = Cmd::with_capacity(3, "PUBLISH".len() + subject.len() + payload.len());
    command.arg("PUBLISH").arg(subject).arg(payload);
    command
}

fn receipt(answer: Value) -> Result<Receipt, BusError> {
    match refusal(answer)? {
        Value::Int(receivers) => Ok(Receipt { receivers: u64::try_from(receivers).ok() }),
        _ => Err(unexpected("an answer to PUBLISH that is no number")),
    }
}

fn refusal(answer: Value) -> Result<Value, BusError> {
    answer.extract_error().map_err(bus_error)
}

fn unexpected(what: &str) -> BusError {
    BusError::new(BusErrorKind::Rejected, format!("Redis sent {what}"))
}

fn ended() -> BusError {
    BusError::new(BusErrorKind::Disconnected, "the connection to Redis ended")
}

fn bus_error(error: RedisError) -> BusError {
    let (kind, context) = match error.kind() {
        ErrorKind::RESP3NotSupported => {
            (BusErrorKind::Rejected, "this Redis is too old for the bus: use Redis 6 or newer")
        }
        _ if matches!(error.code(), Some("WRONGPASS" | "NOAUTH")) => {
            (BusErrorKind::Rejected, "Redis refused the user and password in bus.redis.url")
        }
        ErrorKind::Server(_) | ErrorKind::Extension => (BusErrorKind::Rejected, "Redis refused a command"),
        _ if error.is_timeout() => (BusErrorKind::Timeout, "Redis did not answer in time"),
        _ => (BusErrorKind::Disconnected, "there is no connection to Redis"),
    };
    BusError::new(kind, context).caused_by(error)
}

impl fmt::Debug for RedisBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBackend").field("url", &self.url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::bus::supervisor::Table;

    /// Connects to a server that answers everything with one error.
    async fn refused_with(answer: &'static str) -> BusError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = BrokerUrl::new(format!("redis://:secret@{}", listener.local_addr().unwrap()));
        let serve = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                        // The handshake is a pipeline of a few commands.
                        if stream.write_all(answer.repeat(8).as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        };
        let backend = RedisBackend::new(&url).unwrap();
        tokio::select! {
            connected = backend.connect(Incoming::new(Arc::new(Table::new()), 0)) => connected.err().unwrap(),
            () = serve => unreachable!("a server never ends"),
        }
    }

    #[tokio::test]
    async fn a_redis_that_is_too_old_is_told_so() {
        let error = refused_with("-ERR unknown command `HELLO`, with args beginning with: `3`\r\n").await;
        assert_eq!(error.kind(), BusErrorKind::Rejected);
        assert!(error.to_string().contains("use Redis 6"), "{error}");
    }

    #[tokio::test]
    async fn a_wrong_password_is_told_so_and_not_shown() {
        let error = refused_with("-WRONGPASS invalid username-password pair or user is disabled.\r\n").await;
        assert_eq!(error.kind(), BusErrorKind::Rejected);
        assert!(error.to_string().contains("bus.redis.url"), "{error:?}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}
