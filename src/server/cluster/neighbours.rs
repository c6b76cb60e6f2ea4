//! What a node sees of the others in the node table, and what it does about them.

use std::collections::HashMap;

use super::lease::LEASE_MS;
use crate::model::store::{NodeState, StoreError};
use crate::model::{Millis, NodeId};
use crate::server::core::Core;

/// What was already done about the other nodes.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// Since when a peer's publishes may have been lost, as far as it was swept for.
    dirty: HashMap<NodeId, Millis>,
    /// The last beat of peers that held a lease.
    alive: HashMap<NodeId, (u64, Millis)>,
}

/// Reads the node table: hears what an operator wants of this node, expires the dead, and sweeps for those whose publishes
/// may not arrive.
pub(super) async fn look(core: &Core, neighbours: &mut Neighbours) -> Result<(), StoreError> {
    let (now, rows) = core.store.nodes().await?;
    core.lease.set_clock(now);
    let mut live = Vec::new();
    let mut degraded = !core.health.bus_ok() || core.subscriptions.uncovered();
    for row in rows {
        if row.node == core.node {
            if row.epoch == core.lease.epoch() && row.drain_asked_at.is_some() {
                core.lease.ask_to_drain();
            }
            continue;
        }
        let held = !matches!(row.state, NodeState::Stopped | NodeState::Expired);
        if held && row.lease_until < now {
            if let Some(gone) = core.store.node_expire(&row.node, row.epoch).await? {
                core.announcer.left(gone);
                tracing::warn!(peer = %row.node, "a peer's lease ran out, its sessions are gone");
            }
        } else if held {
            degraded |= !row.bus_ok || row.dirty_since.is_some();
            if let Some(since) = row.dirty_since
                && neighbours.dirty.insert(row.node.clone(), since) != Some(since)
            {
                core.repairs.sweep(since);
            }
            // A process that took the row over without anybody expiring it: its predecessor died between two looks.
            if let Some((epoch, beat_at)) = neighbours.alive.insert(row.node.clone(), (row.epoch, row.beat_at))
                && epoch != row.epoch
            {
                core.repairs.sweep(beat_at - Millis::from(LEASE_MS));
            }
            live.push(row);
            continue;
        }
        // It is gone. What it committed last may not have been published, unless it gave its lease back.
        if let Some((_, beat_at)) = neighbours.alive.remove(&row.node) {
            match row.dirty_since {
                _ if row.state != NodeState::Stopped => core.repairs.sweep(beat_at - Millis::from(LEASE_MS)),
                Some(since) => core.repairs.sweep(since),
                None => {}
            }
        }
        neighbours.dirty.remove(&row.node);
    }
    core.lease.set_peers(live);
    core.repairs.carry_by_log(degraded);
    if degraded {
        core.repairs.sweep(now);
    }
    Ok(())
}
