//! Health, metrics and the way to a WebSocket, over HTTP.

mod connection;
mod ready;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tungstenite::handshake::server::create_response_with_body;

use ready::Readiness;

use crate::model::store::NodeState;
use crate::server::core::Core;
use crate::server::front;
use crate::telemetry::Metrics;

/// What the pages are made from.
#[derive(Debug, Clone)]
struct Behind {
    core: Arc<Core>,
    websockets: WebSockets,
}

/// What WebSockets are served with.
#[derive(Debug, Clone)]
pub(crate) struct WebSockets {
    /// Has a token of each until all is written.
    pub(crate) connections: TaskTracker,
    /// Sends those away on which nobody has logged in.
    pub(crate) stop: CancellationToken,
}

/// Serves until `stop`. WebSockets end earlier, so that the pages can say meanwhile that the node stops.
pub(crate) async fn run(core: Arc<Core>, listener: TcpListener, websockets: WebSockets, stop: CancellationToken) {
    let metrics = match Metrics::install() {
        Ok(metrics) => metrics,
        Err(error) => {
            tracing::error!(%error, "the HTTP front cannot show metrics and does not start");
            return;
        }
    };
    let pages = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(|| async move { metrics.render() }))
        .route("/ws", get(ws))
        .with_state(Behind { core, websockets });
    let serve = |stream| {
        tokio::spawn(connection::run(stream, pages.clone(), stop.clone()));
    };
    stop.run_until_cancelled(front::accept(&listener, serve)).await;
}

async fn readyz(State(Behind { core, .. }): State<Behind>) -> (StatusCode, Json<Readiness>) {
    let (status, readiness) = Readiness::of(&core);
    (status, Json(readiness))
}

/// Makes a WebSocket of the connection. Its origin is not asked: what a page of another origin may do is what it can
/// log in for, because no cookie and no other credential of the browser's comes with it.
async fn ws(State(Behind { core, websockets }): State<Behind>, request: Request) -> Response {
    if core.lease.state() != NodeState::Ready {
        return (StatusCode::SERVICE_UNAVAILABLE, "this node takes no new sessions\n").into_response();
    }
    match create_response_with_body(&request, Body::empty) {
        Ok(response) => {
            let WebSockets { connections, stop } = websockets;
            tokio::spawn(front::run_websocket(core, hyper::upgrade::on(request), stop, connections.token()));
            response
        }
        Err(error) => {
            let headers = [(header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_VERSION, "13")];
            (StatusCode::UPGRADE_REQUIRED, headers, format!("this is the way to a websocket: {error}\n"))
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::server::scene::Cluster;

    const UPGRADE: &str =
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c29tZSBzaXh0ZWVuIGJ5\r\n";

    #[tokio::test]
    async fn a_node_that_stops_says_so_and_takes_no_websocket() {
        let cluster = Cluster::new().await;
        let a = cluster.node("node-a").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, stop) = (TaskTracker::new(), CancellationToken::new());
        let websockets = WebSockets { connections: connections.clone(), stop: stop.clone() };
        let served = tokio::spawn(run(Arc::clone(&a.core), listener, websockets, stop.clone()));
        let ask = async |path: &str, headers: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close, upgrade\r\n{headers}\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            String::from_utf8_lossy(&status[9..]).parse::<u16>().unwrap()
        };
        a.core.lease.set_state(NodeState::Ready);
        assert_eq!([ask("/readyz", "").await, ask("/ws", UPGRADE).await, ask("/ws", "").await], [200, 101, 426]);
        a.core.lease.set_state(NodeState::Draining);
        assert_eq!([ask("/readyz", "").await, ask("/ws", UPGRADE).await, ask("/livez", "").await], [503, 503, 200]);
        stop.cancel();
        served.await.unwrap();
        connections.close();
        connections.wait().await;
    }
}
