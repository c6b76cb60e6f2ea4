//! How far users have got: coalesced, written about once a second, and told to the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::model::store::{CursorMoved, CursorUpdate};
use crate::model::{ConversationId, Seq, UserId};
use crate::protocol::ServerFrame;
use crate::server::core::Core;
use crate::server::flow::{Notice, notify};

const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Larger conversations are not told of cursors.
const TOLD_UP_TO: u64 = 50;

/// Rows per statement.
const BATCH: usize = 1000;

/// Cursors that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    waiting: Mutex<HashMap<(ConversationId, UserId), (Seq, Seq)>>,
}

impl Cursors {
    /// Raises how far a user has received a conversation. Cumulative; an older one changes nothing.
    pub(crate) fn received(&self, conversation: ConversationId, user: UserId, seq: Seq) {
        let mut waiting = self.lock();
        let (delivered, _) = waiting.entry((conversation, user)).or_default();
        *delivered = seq.max(*delivered);
    }

    /// Raises how far a user has read a conversation; what was read has arrived.
    pub(crate) fn read(&self, conversation: ConversationId, user: UserId, seq: Seq) {
        let mut waiting = self.lock();
        let (delivered, read) = waiting.entry((conversation, user)).or_default();
        *delivered = seq.max(*delivered);
        *read = seq.max(*read);
    }

    fn take(&self) -> Vec<CursorUpdate> {
        let waiting = std::mem::take(&mut *self.lock());
        let update = |((conversation, user), (delivered, read))| CursorUpdate { conversation, user, delivered, read };
        waiting.into_iter().map(update).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(ConversationId, UserId), (Seq, Seq)>> {
        self.waiting.lock().expect("no code panics while it holds the waiting cursors")
    }
}

/// Writes cursors until the node stops, and once more then.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut ticks = interval(WRITE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            () = stop.cancelled() => true,
            _ = ticks.tick() => false,
        };
        for batch in core.cursors.take().chunks(BATCH) {
            write(&core, batch).await;
        }
        if last {
            return;
        }
    }
}

async fn write(core: &Core, batch: &[CursorUpdate]) {
    let moved = match core.store.cursors(batch).await {
        Ok(moved) => moved,
        Err(error) => {
            // A lost cursor only means that a login sends some messages again; the client's next `received` repairs it.
            tracing::warn!(%error, cursors = batch.len(), "cursors could not be written");
            return;
        }
    };
    let told = moved.iter().filter(|cursor| cursor.members <= TOLD_UP_TO).map(|cursor| {
        let CursorMoved { conversation, user, delivered, read, .. } = *cursor;
        Notice::conversation(conversation, None, &ServerFrame::Cursor { conversation, user, delivered, read })
    });
    notify(core, told.collect(), None);
}
