//! Deletes entries of the log that are older than it is to keep them.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::model::Millis;
use crate::server::core::Core;
use crate::telemetry;

/// How often old entries are looked for. Every node looks; what one has deleted the others do not find.
const EVERY: Duration = Duration::from_secs(3600);

/// The most entries in one transaction, and the pause behind it: senders must not wait for the deletion of years.
const SLICE: usize = 500;
const PAUSE: Duration = Duration::from_millis(100);

/// Deletes what is older than `keep` until the node stops.
pub(crate) async fn run(core: Arc<Core>, keep: Duration, stop: CancellationToken) {
    let keep = keep.as_millis() as Millis;
    loop {
        let deleted = match core.store.prune(core.lease.database_now() - keep, SLICE).await {
            Ok(deleted) => deleted,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "old entries cannot be deleted, trying again");
                0
            }
        };
        counter!(telemetry::ENTRIES_PRUNED).increment(deleted);
        let pause = if deleted < SLICE as u64 { EVERY.mul_f64(rand::random_range(0.9..1.1)) } else { PAUSE };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}
