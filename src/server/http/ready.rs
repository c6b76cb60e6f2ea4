use axum::http::StatusCode;
use serde::Serialize;

use crate::model::store::NodeState;
use crate::server::core::Core;

/// What `/readyz` says: whether the node takes new clients, and if not, why.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Readiness {
    node: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    degraded: bool,
}

impl Readiness {
    /// Looks at a node.
    pub(super) fn of(core: &Core) -> (StatusCode, Self) {
        let (state, reason) = judge(core.lease.state(), core.lease.is_overdue());
        let status = if reason.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        (status, Self { node: core.node.to_string(), state, reason, degraded: !core.health.bus_ok() })
    }
}

/// Returns a word for what a node does and, unless it takes new clients, the reason why it does not. `overdue`: its row
/// was not renewed for as long as a lease holds.
fn judge(state: NodeState, overdue: bool) -> (&'static str, Option<&'static str>) {
    match state {
        NodeState::Ready if overdue => {
            ("log_away", Some("the log does not answer: nothing can be sent, and nobody can log in"))
        }
        NodeState::Ready => ("ready", None),
        NodeState::Starting => ("starting", Some("the node is not ready yet")),
        NodeState::Deaf => ("deaf", Some("the node hears nothing through its bus, and other nodes do")),
        NodeState::Draining | NodeState::Stopped => {
            ("draining", Some("the node stops, and sends its sessions to other nodes"))
        }
        NodeState::Expired => {
            ("fenced", Some("the node lost its lease, and makes good what its sessions have missed meanwhile"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_is_ready_and_has_its_log_takes_new_clients() {
        let states = [
            (NodeState::Starting, "starting"),
            (NodeState::Deaf, "deaf"),
            (NodeState::Draining, "draining"),
            (NodeState::Stopped, "draining"),
            (NodeState::Expired, "fenced"),
        ];
        for (state, word) in states {
            for overdue in [false, true] {
                let (said, reason) = judge(state, overdue);
                assert_eq!((said, reason.is_some()), (word, true), "{state:?}");
            }
        }
        assert_eq!(judge(NodeState::Ready, false), ("ready", None));
        assert!(matches!(judge(NodeState::Ready, true), ("log_away", Some(_))));
    }
}
