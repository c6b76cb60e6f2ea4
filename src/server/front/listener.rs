//! Accepts connections until the node stops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use crate::model::store::NodeState;
use crate::server::core::Core;

/// After accepting failed, which mostly means that the process is out of descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// A port that was given up and cannot be had again is tried for this often.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

/// Connections that wait to be accepted; the system lowers it to its own limit. Whoever finds no room comes again a
/// second later, and when a node has died everybody comes at once.
const BACKLOG: u32 = 16_384;

/// Begins to listen.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Runs the TCP front. While the node leaves new clients to the others nobody can connect, so that a balancer goes on to
/// the next. Connections run on when the front has stopped; `connections` has a token of each until all is written.
pub(crate) async fn run(core: Arc<Core>, listener: TcpListener, connections: TaskTracker, stop: CancellationToken) {
    let address = match listener.local_addr() {
        Ok(address) => address,
        Err(error) => return tracing::error!(%error, "the TCP front does not start"),
    };
    let serve = |stream| {
        tokio::spawn(connection::run(Arc::clone(&core), stream, stop.clone(), connections.token()));
    };
    let mut state = core.lease.watch_state();
    let mut open = Some(listener);
    loop {
        let deaf = open.is_some();
        tokio::select! {
            () = stop.cancelled() => {
                if let Some(listener) = open {
                    accept_waiting(listener, serve);
                }
                return;
            }
            () = async { match &open {
                Some(listener) => accept(listener, &serve).await,
                None => std::future::pending().await,
            } } => {}
            changed = state.wait_for(|state| (*state == NodeState::Deaf) == deaf) => if changed.is_err() { return },
        }
        open = if open.is_some() { None } else { reopen(address, &stop).await };
    }
}

/// Accepts who has connected already, so that they are told why they must go elsewhere; closing the port alone would
/// reset their connections.
fn accept_waiting(listener: TcpListener, serve: impl Fn(TcpStream)) {
    // It does not block, and says so when nobody waits any more.
    let waiting = listener.into_std().and_then(|listener| {
        loop {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(true)?;
            serve(TcpStream::from_std(stream)?);
        }
    });
    let Err::<std::convert::Infallible, io::Error>(error) = waiting;
    if error.kind() != io::ErrorKind::WouldBlock {
        tracing::debug!(%error, "not everybody could be told that the node stops");
    }
}

/// Listens again, as soon as nobody else has the port. `None`: the node stops.
async fn reopen(address: SocketAddr, stop: &CancellationToken) -> Option<TcpListener> {
    loop {
        match listen(address) {
            Ok(listener) => return Some(listener),
            Err(error) => tracing::error!(%error, %address, "the port cannot be listened on again, stop what uses it"),
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = sleep(REOPEN_EVERY) => {}
        }
    }
}

/// Accepts connections for ever, and hands each over.
pub(crate) async fn accept(listener: &TcpListener, serve: impl Fn(TcpStream)) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match stream.set_nodelay(true) {
                Ok(()) => serve(stream),
                Err(error) => tracing::debug!(%error, %peer, "a connection went before it began"),
            },
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted, raise the limit of open files if that is the reason");
                sleep(BREATH).await;
            }
        }
    }
}
