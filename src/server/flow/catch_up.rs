//! Brings a session's conversations that are behind up to the present, from the log, as fast as its client reads.

use std::sync::Arc;
use std::time::Duration;

use super::local::LocalSession;
use super::mend::TO_THE_HEAD;
use super::news::wrote;
use super::timeline::{Entry, Release};
use crate::model::store::{Range, StoreError};
use crate::model::{ConversationId, Message, MessageKind, Seq, UserId};
use crate::protocol::ServerFrame;
use crate::server::core::Core;

/// What a page should come to in bytes; how many rows that is follows from the rows before.
const PAGE_BYTES: usize = 128 * 1024;
const FIRST_PAGE: usize = 64;
const MAX_PAGE: usize = 1000;

/// After the log could not be read, a session waits this long before it tries again.
pub(crate) const CATCH_UP_RETRY: Duration = Duration::from_millis(500);

/// How many rows the next page is to have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageSize(usize);

impl Default for PageSize {
    fn default() -> Self {
        Self(FIRST_PAGE)
    }
}

impl PageSize {
    /// Returns the rows to ask for.
    pub(crate) fn rows(self) -> usize {
        self.0
    }

    /// Learns from the rows that came.
    pub(crate) fn learn(&mut self, rows: &[Message]) {
        if !rows.is_empty() {
            let bytes: usize = rows.iter().map(|message| message.body.len() + 150).sum();
            self.0 = (PAGE_BYTES * rows.len() / bytes).clamp(2, MAX_PAGE);
        }
    }
}

/// Catches up every conversation that is behind. On an error the conversation it was at stays behind.
pub(crate) async fn catch_up(core: &Core, session: &Arc<LocalSession>) -> Result<(), StoreError> {
    let mut page = PageSize::default();
    loop {
        // What is queued was given before what is missing.
        session.outbox.room().await;
        let Some((conversation, _)) = session.outbox.next_behind() else { return Ok(()) };
        // From here on the timeline keeps what passes; what was noted as missing until now is read.
        let here = core.timelines.open_buffer(conversation, session.number);
        let Some(from) = session.outbox.take_behind(conversation) else { continue };
        let result = if here {
            catch_up_one(core, session, conversation, from, &mut page).await
        } else {
            read_to_the_leave(core, session, conversation, from).await
        };
        if let Err((missing, error)) = result {
            session.outbox.fall_behind(conversation, missing);
            return Err(error);
        }
    }
}

async fn catch_up_one(
    core: &Core,
    session: &Arc<LocalSession>,
    conversation: ConversationId,
    mut from: Seq,
    page: &mut PageSize,
) -> Result<(), (Seq, StoreError)> {
    loop {
        let range = Range { conversation, after: from - 1, until: TO_THE_HEAD };
        let asked = page.rows();
        let mut rows = core.store.messages(&[range], asked).await.map_err(|error| (from, error))?;
        page.learn(&rows);
        core.commits.settled().await;
        let count = rows.len();
        // What was said behind that is not for the session.
        let leave = cut_at_the_leave(&mut rows, session.user);
        let others = rows.iter().any(|message| !session.outbox.is_own(conversation, message.seq));
        if others && let Some(mut news) = core.timelines.take_news(conversation, session.number) {
            rows.iter().for_each(|message| wrote(&mut news, session.user, message.from, message.seq));
            session.outbox.reply(&ServerFrame::Conversation(*news));
        }
        for message in rows {
            session.outbox.room().await;
            let seq = message.seq;
            if !session.outbox.message_from_log(conversation, seq, Entry::encode(message).frame) {
                return Ok(());
            }
            from = seq + 1;
        }
        if let Some(leave) = leave {
            core.timelines.leave(conversation, session.number, leave);
            come_back(core, session, conversation);
            return Ok(());
        }
        if count == asked {
            // There is more before the present: what passed meanwhile comes with it.
            core.timelines.open_buffer(conversation, session.number);
            continue;
        }
        match core.timelines.release(conversation, session.number, from - 1) {
            Release::Live => {
                // This read may have given a new timeline its position, with entries parked behind it.
                core.repairs.holes();
                return Ok(());
            }
            Release::Gone => {
                come_back(core, session, conversation);
                return Ok(());
            }
            Release::Again => core.timelines.open_buffer(conversation, session.number),
        };
    }
}

/// Gives a session that went with its user's leave what was dropped of what it had been given up to that, the leave
/// included. Without a leave in the log it has no business there any more.
async fn read_to_the_leave(
    core: &Core,
    session: &Arc<LocalSession>,
    conversation: ConversationId,
    mut from: Seq,
) -> Result<(), (Seq, StoreError)> {
    loop {
        let range = Range { conversation, after: from - 1, until: TO_THE_HEAD };
        let mut rows = core.store.messages(&[range], MAX_PAGE).await.map_err(|error| (from, error))?;
        let count = rows.len();
        let leave = cut_at_the_leave(&mut rows, session.user);
        if leave.is_none() && count < MAX_PAGE {
            return Ok(());
        }
        for message in rows {
            session.outbox.room().await;
            let seq = message.seq;
            if !session.outbox.message_from_log(conversation, seq, Entry::encode(message).frame) {
                return Ok(());
            }
            from = seq + 1;
        }
        if leave.is_some() {
            return Ok(());
        }
    }
}

/// Takes away what was said behind a user's leave, and returns the seq of the leave.
fn cut_at_the_leave(rows: &mut Vec<Message>, user: UserId) -> Option<Seq> {
    let at = rows.iter().position(|row| row.kind == MessageKind::Leave && row.from == user)?;
    rows.truncate(at + 1);
    Some(rows[at].seq)
}

/// Looks once more at the membership of a session that was let go: its user may have joined again meanwhile, when it
/// was still there.
pub(crate) fn come_back(core: &Core, session: &LocalSession, conversation: ConversationId) {
    core.repairs.adopt_users(conversation, [session.user]);
}
