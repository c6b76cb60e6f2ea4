//! Accepts connections until the node stops.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use crate::server::core::Core;

/// After accepting failed, which mostly means that the process is out of descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Runs the TCP front. Connections run on when it has stopped; `connections` has a token of each until all is written.
pub(crate) async fn run(core: Arc<Core>, listener: TcpListener, connections: TaskTracker, stop: CancellationToken) {
    let serve = |stream| {
        tokio::spawn(connection::run(Arc::clone(&core), stream, stop.clone(), connections.token()));
    };
    accept(listener, stop.clone(), serve).await;
}

/// Runs a listener, and hands over each connection.
pub(crate) async fn accept(listener: TcpListener, stop: CancellationToken, serve: impl Fn(TcpStream)) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match stream.set_nodelay(true) {
                Ok(()) => serve(stream),
                Err(error) => tracing::debug!(%error, %peer, "a connection went before it began"),
            },
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted, raise the limit of open files if that is the reason");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}
