//! Health and metrics over HTTP.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::model::store::NodeState;
use crate::server::core::Core;
use crate::telemetry::Metrics;

/// What `/readyz` says.
#[derive(Debug, Serialize)]
struct Ready {
    node: String,
    state: &'static str,
    degraded: bool,
}

/// Serves until the node stops.
pub(crate) async fn run(core: Arc<Core>, listener: TcpListener, stop: CancellationToken) {
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
        .with_state(core);
    let served = axum::serve(listener, pages).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the HTTP front failed");
    }
}

async fn readyz(State(core): State<Arc<Core>>) -> (StatusCode, Json<Ready>) {
    let (status, state) = match core.lease.state() {
        NodeState::Ready => (StatusCode::OK, "ready"),
        NodeState::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        NodeState::Draining | NodeState::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        NodeState::Expired => (StatusCode::SERVICE_UNAVAILABLE, "fenced"),
    };
    (status, Json(Ready { node: core.node.to_string(), state, degraded: !core.health.bus_ok() }))
}
