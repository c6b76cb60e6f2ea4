//! How a node gets its row.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::holder;
use super::lease::{LEASE_MS, LOOK_EVERY};
use crate::model::store::{Claim, Claimed, Store, StoreError};
use crate::model::{Millis, NodeId};

/// A holder that beats is seen to within this time.
const WATCH_HOLDER: Duration = Duration::from_millis(2_500);

/// Why a node cannot have its row.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another process lives under this id.
    #[error("node.id = \"{node}\" is in use by {holder}: stop that process, or give this one another node.id")]
    Held {
        /// The id.
        node: NodeId,
        /// The other process.
        holder: String,
    },
    /// The log cannot be used.
    #[error("the lease of node \"{node}\" cannot be written")]
    Store {
        /// The id.
        node: NodeId,
        /// Why.
        source: StoreError,
    },
}

/// Takes the node's row: at once when it is free, run out, or held by a process that is known to be dead; otherwise the
/// holder is watched, and a holder that beats keeps it. Returns the epoch and the database's clock.
pub(super) async fn take(
    store: &dyn Store,
    node: &NodeId,
    tcp: &str,
    http: &str,
    weight: u32,
) -> Result<(u64, Millis), ClaimError> {
    let mut claim = Claim {
        node: node.clone(),
        holder: holder::this_process(),
        tcp: tcp.to_owned(),
        http: http.to_owned(),
        weight,
        lease_ms: LEASE_MS,
        take_over: false,
    };
    let failed = |source| ClaimError::Store { node: node.clone(), source };
    let started = Instant::now();
    let mut seen = None;
    loop {
        match store.node_claim(&claim).await.map_err(failed)? {
            Claimed::Ours { epoch, now } => return Ok((epoch, now)),
            Claimed::Held { holder, .. } if holder::is_dead(&holder) => claim.take_over = true,
            Claimed::Held { holder, lease_until } => {
                let beats = *seen.get_or_insert(lease_until) != lease_until;
                if beats {
                    return Err(ClaimError::Held { node: node.clone(), holder });
                }
                // A lease that nobody has renewed for two beats belongs to a dead process, or to one that will be
                // fenced.
                claim.take_over = started.elapsed() > WATCH_HOLDER;
                sleep(LOOK_EVERY).await;
            }
        }
    }
}
