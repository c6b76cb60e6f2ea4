//! Fetches the holes of timelines from the log.

use metrics::counter;
use tokio::time::Instant;

use super::timeline::Entry;
use super::timelines::Fed;
use crate::model::Seq;
use crate::model::store::{Range, StoreError};
use crate::server::core::Core;
use crate::telemetry;

/// Rows per read.
const ROWS: usize = 512;

/// Stands for the head, whatever it is.
pub(super) const TO_THE_HEAD: Seq = Seq::MAX >> 1;

/// Fetches every hole that has waited long enough, all of them in one query, up to the heads. Returns when to look
/// again.
pub(super) async fn mend(core: &Core) -> Result<Option<Instant>, StoreError> {
    loop {
        let (due, next) = core.timelines.take_due(Instant::now());
        if due.is_empty() {
            return Ok(next);
        }
        counter!(telemetry::TIMELINE_HOLES).increment(due.len() as u64);
        let ranges: Vec<Range> =
            due.iter().map(|&(conversation, after)| Range { conversation, after, until: TO_THE_HEAD }).collect();
        let rows = match core.store.messages(&ranges, ROWS).await {
            Ok(rows) => rows,
            Err(error) => {
                due.iter().for_each(|&(conversation, _)| core.timelines.due(conversation));
                return Err(error);
            }
        };
        if rows.len() == ROWS {
            due.iter().for_each(|&(conversation, _)| core.timelines.due(conversation));
        }
        core.commits.settled().await;
        for message in rows {
            let conversation = message.conversation;
            if let Fed::Taken { joined, .. } = core.timelines.feed(conversation, Entry::encode(message), None) {
                core.repairs.adopt_users(conversation, joined);
            }
        }
    }
}
