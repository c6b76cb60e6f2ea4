//! Health, metrics and the way to a WebSocket, over HTTP.

mod connection;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tungstenite::handshake::server::create_response_with_body;

use crate::model::store::NodeState;
use crate::server::core::Core;
use crate::server::front;
use crate::telemetry::Metrics;

/// What `/readyz` says.
#[derive(Debug, Serialize)]
struct Ready {
    node: String,
    state: &'static str,
    degraded: bool,
}

/// What the pages are made from.
#[derive(Debug, Clone)]
struct Behind {
    core: Arc<Core>,
    connections: TaskTracker,
}

/// Serves until the node stops. WebSockets run on in `connections`.
pub(crate) async fn run(core: Arc<Core>, listener: TcpListener, connections: TaskTracker, stop: CancellationToken) {
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
        .with_state(Behind { core, connections: connections.clone() });
    let serve = |stream| {
        connections.spawn(connection::run(stream, pages.clone(), stop.clone()));
    };
    front::accept(listener, stop.clone(), serve).await;
}

async fn readyz(State(Behind { core, .. }): State<Behind>) -> (StatusCode, Json<Ready>) {
    let (status, state) = match core.lease.state() {
        NodeState::Ready => (StatusCode::OK, "ready"),
        NodeState::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        NodeState::Draining | NodeState::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        NodeState::Expired => (StatusCode::SERVICE_UNAVAILABLE, "fenced"),
    };
    (status, Json(Ready { node: core.node.to_string(), state, degraded: !core.health.bus_ok() }))
}

/// Makes a WebSocket of the connection. Its origin is not asked: what a page of another origin may do is what it can log
/// in for, because no cookie and no other credential of the browser's comes with it.
async fn ws(State(Behind { core, connections }): State<Behind>, request: Request) -> Response {
    if core.lease.state() != NodeState::Ready {
        return (StatusCode::SERVICE_UNAVAILABLE, "this node takes no new sessions\n").into_response();
    }
    match create_response_with_body(&request, Body::empty) {
        Ok(response) => {
            connections.spawn(front::run_websocket(core, hyper::upgrade::on(request)));
            response
        }
        Err(error) => {
            let headers = [(header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_VERSION, "13")];
            (StatusCode::UPGRADE_REQUIRED, headers, format!("this is the way to a websocket: {error}\n"))
                .into_response()
        }
    }
}
