//! Fetches the holes of timelines from the log.

use metrics::counter;
use tokio::time::Instant;

use super::timeline::Entry;
use crate::model::Seq;
use crate::model::store::{Range, StoreError};
use crate::server::core::Core;
use crate::telemetry;

/// Rows per read.
const ROWS: usize = 512;

/// Stands for the head, whatever it is.
pub(super) const TO_THE_HEAD: Seq = Seq::MAX >> 1;

/// Fetches every hole that has waited long enough, all of them in one query, up to the heads. Returns when to look
/// again, and whether there was more than fits into one read.
pub(super) async fn mend(core: &Core) -> Result<(Option<Instant>, bool), StoreError> {
    let now = Instant::now();
    let (due, next) = core.timelines.take_due(now);
    if due.is_empty() {
        return Ok((next, false));
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
    let truncated = rows.len() == ROWS;
    core.commits.settled().await;
    for message in rows {
        let conversation = message.conversation;
        let joined = core.timelines.feed_from_log(conversation, Entry::encode(message));
        core.repairs.adopt_users(conversation, joined);
    }
    for (conversation, _) in due {
        if truncated {
            core.timelines.due(conversation);
        } else {
            core.timelines.fetched(conversation);
        }
    }
    Ok((Some(now), truncated))
}
