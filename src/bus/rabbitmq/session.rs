//! One connection that leaves nothing behind.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, StreamExt};
use lapin::runtime::default_runtime;
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties, Event};
use tokio_util::sync::CancellationToken;

use super::failure::{blocked, lost, not_opened};
use crate::bus::BusError;
use crate::bus::supervisor::Incoming;

/// Ends when a connection can no longer be used, with the reason.
pub(super) type Trouble = Pin<Box<dyn Future<Output = BusError> + Send>>;

/// A connection. Dropping it cuts it.
pub(super) struct Session {
    // Dropped first: the client library cannot take leave of a broker that does not answer, and must not try.
    _cord: Cord,
    connection: Connection,
}

impl Session {
    /// Connects. `role` is what the broker's operator sees. There is one [`Trouble`] for each connection, because
    /// several listeners to the client library's events would take them from each other.
    pub(super) async fn open(uri: &AMQPUri, role: &str) -> Result<(Self, Trouble), BusError> {
        let cord = Cord::default();
        let line = Arc::clone(&cord.0);
        let runtime = default_runtime().map_err(not_opened)?;
        let reactor = runtime.clone();
        let connect = async move |uri: AMQPUri, _| {
            let address = (uri.authority.host.as_str(), uri.authority.port);
            let connecting = async {
                let addresses: Vec<_> = tokio::net::lookup_host(address).await?.collect();
                AsyncTcpStream::connect(&reactor, addresses).await
            };
            let stream = tokio::select! {
                stream = connecting => stream?,
                () = line.cut.cancelled() => return Err(io::Error::from(io::ErrorKind::Interrupted).into()),
            };
            // The client library has set TCP_NODELAY.
            if let AsyncTcpStream::Plain(stream) = &stream {
                line.hold(TcpStream::from(stream.get_ref().as_fd().try_clone_to_owned()?))?;
            }
            Ok(stream)
        };
        let name = format!("switchboard {role}");
        // It does not recover by itself, and tries once.
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connection = Connection::connector(uri.clone(), runtime, connect, properties).await.map_err(not_opened)?;
        let trouble = Box::pin(trouble(connection.events_listener()));
        Ok((Self { _cord: cord, connection }, trouble))
    }

    /// Opens a channel.
    pub(super) async fn channel(&self) -> lapin::Result<Channel> {
        self.connection.create_channel().await
    }

    /// Takes leave of the broker.
    pub(super) async fn close(&self) -> Result<(), BusError> {
        self.connection.close(200, "OK".into()).await.map_err(lost)
    }
}

async fn trouble(events: impl Stream<Item = Event>) -> BusError {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Event::ConnectionBlocked(reason) => return blocked(reason),
            Event::Error(error) => return lost(error),
            _ => {}
        }
    }
    std::future::pending().await
}

/// A task that ends when this is dropped.
pub(super) struct Watch(tokio::task::AbortHandle);

impl Watch {
    /// Tells a link of its connection's trouble.
    pub(super) fn for_trouble(trouble: Trouble, incoming: Incoming) -> Self {
        Self::spawn(async move { incoming.broken(trouble.await) })
    }

    pub(super) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Cuts a connection when it is dropped, whatever state that is in. The client library keeps a thread for each of its
/// connections, which else would live on: while it connects, while it waits for a broker that does not answer, and
/// while the broker holds it back.
#[derive(Default)]
struct Cord(Arc<Line>);

#[derive(Default)]
struct Line {
    cut: CancellationToken,
    socket: Mutex<Option<TcpStream>>,
}

impl Line {
    /// Takes a second handle of the socket, unless the cord was dropped meanwhile.
    fn hold(&self, socket: TcpStream) -> io::Result<()> {
        let mut held = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if self.cut.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        *held = Some(socket);
        Ok(())
    }
}

impl Drop for Cord {
    fn drop(&mut self) {
        let mut held = self.0.socket.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.cut.cancel();
        if let Some(socket) = held.take() {
            // It fails when the broker has closed the connection already.
            socket.shutdown(Shutdown::Both).ok();
        }
    }
}
