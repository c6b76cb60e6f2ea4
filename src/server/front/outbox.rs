//! What waits to be written to one client: bounded, and never a queue that hides a loss.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use metrics::counter;
use tokio::sync::Notify;

use crate::model::{ConversationId, Seq};
use crate::protocol::{Close, CloseReason, MAX_SERVER_FRAME, RequestId, ServerFrame};
use crate::telemetry;

/// A client for which this much waits is closed, whatever it is that waits.
const MAX_REPLIES: usize = 4 * MAX_SERVER_FRAME;

/// The frames for one connection.
///
/// Replies are never dropped; a connection whose outbox is half full stops taking requests instead. Events are dropped
/// all together when they do not fit: for `message` events the smallest dropped seq per conversation is kept, and the
/// session fetches from there once the client has read what is left. Until then the conversation is *behind*: its later
/// messages are not queued either, so that it stays in order.
#[derive(Debug)]
pub(crate) struct Outbox {
    limit: usize,
    state: Mutex<State>,
    changed: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Item>,
    /// Bytes in the queue and bytes taken by the writer but not yet written.
    bytes: usize,
    behind: HashMap<ConversationId, Seq>,
    /// Seqs that this session sent itself, in conversations that are behind: catching up leaves them out.
    own: HashSet<(ConversationId, Seq)>,
    /// Events other than messages were dropped: the client is owed a fresh picture.
    stale: bool,
    closing: Option<CloseReason>,
    /// The `closing` frame, until everything that was promised has been answered.
    farewell: Option<Bytes>,
    /// Nothing is queued any more.
    sealed: bool,
    /// Answers that are promised: what they answer is on its way to the log.
    promised: usize,
    /// The writer has been told of the queue and has not taken from it since.
    told: bool,
}

#[derive(Debug)]
enum Item {
    Reply(Bytes),
    Event(Bytes),
    Message {
        conversation: ConversationId,
        seq: Seq,
        frame: Bytes,
    },
    /// Stands where the session's own message would be, so that an overflow remembers it. Never written.
    Own {
        conversation: ConversationId,
        seq: Seq,
    },
}

impl Item {
    fn frame(&self) -> Option<&Bytes> {
        match self {
            Self::Reply(frame) | Self::Event(frame) | Self::Message { frame, .. } => Some(frame),
            Self::Own { .. } => None,
        }
    }
}

impl Outbox {
    /// Makes an empty outbox that holds `limit` bytes of events.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), changed: Notify::new(), room: Notify::new() }
    }

    /// Waits until there is something to write or a reason to close. One waiter at a time. Cancel-safe.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Promises an answer from the message path: closing waits for it.
    pub(crate) fn promise(&self) {
        self.lock().promised += 1;
    }

    /// Queues a promised answer.
    pub(crate) fn keep_promise(&self, frame: &ServerFrame) {
        let frame = frame.to_line();
        let mut state = self.lock();
        if !state.sealed {
            self.push(&mut state, Item::Reply(frame));
        }
        state.promised -= 1;
        if state.promised == 0 {
            self.part(&mut state);
            // A client that has closed its side waits for nothing else.
            self.changed.notify_one();
        }
    }

    /// Tells whether answers are promised.
    pub(crate) fn is_promising(&self) -> bool {
        self.lock().promised > 0
    }

    /// Queues a reply. Never dropped.
    pub(crate) fn reply(&self, frame: &ServerFrame) {
        self.reply_line(frame.to_line());
    }

    /// Queues an encoded reply. Never dropped.
    pub(crate) fn reply_line(&self, frame: Bytes) {
        let mut state = self.lock();
        if !state.sealed {
            self.push(&mut state, Item::Reply(frame));
        }
    }

    /// Queues an event that a fresh picture can replace.
    pub(crate) fn event(&self, frame: Bytes) {
        let mut state = self.lock();
        if state.sealed {
            return;
        }
        if self.fits(&state, frame.len()) {
            self.push(&mut state, Item::Event(frame));
        } else {
            Self::drop_events(&mut state);
            state.stale = true;
            self.changed.notify_one();
        }
    }

    /// Queues a live message, or notes where the conversation fell behind.
    pub(crate) fn message(&self, conversation: ConversationId, seq: Seq, frame: Bytes) {
        let mut state = self.lock();
        if state.sealed || state.behind.contains_key(&conversation) {
            return;
        }
        if self.fits(&state, frame.len()) {
            self.push(&mut state, Item::Message { conversation, seq, frame });
        } else {
            Self::drop_events(&mut state);
            // The dropped events may have held lower seqs of this conversation.
            state.behind.entry(conversation).or_insert(seq);
            self.changed.notify_one();
        }
    }

    /// Queues a message that was read from the log, whatever it takes, and returns `true`; `false` when the
    /// conversation has fallen behind again meanwhile, so that what was read is not to be sent. The session's own
    /// messages are left out.
    pub(crate) fn message_from_log(&self, conversation: ConversationId, seq: Seq, frame: Bytes) -> bool {
        let mut state = self.lock();
        if state.behind.contains_key(&conversation) {
            return false;
        }
        if state.own.remove(&(conversation, seq)) {
            state.queue.push_back(Item::Own { conversation, seq });
        } else if !state.sealed {
            self.push(&mut state, Item::Message { conversation, seq, frame });
        }
        true
    }

    /// Notes that a seq is this session's own and is not to be sent to it.
    pub(crate) fn own(&self, conversation: ConversationId, seq: Seq) {
        let mut state = self.lock();
        if state.behind.contains_key(&conversation) {
            state.own.insert((conversation, seq));
            return;
        }
        state.own.remove(&(conversation, seq));
        if !state.queue.is_empty() {
            state.queue.push_back(Item::Own { conversation, seq });
        }
    }

    /// Notes the same of a seq that the session may be about to read from the log.
    pub(crate) fn own_while_reading(&self, conversation: ConversationId, seq: Seq) {
        self.lock().own.insert((conversation, seq));
    }

    /// Tells whether reading a seq from the log would leave it out as the session's own.
    pub(crate) fn is_own(&self, conversation: ConversationId, seq: Seq) -> bool {
        self.lock().own.contains(&(conversation, seq))
    }

    /// Notes that nothing of a conversation is read from the log any more.
    pub(crate) fn forget_own(&self, conversation: ConversationId) {
        let mut state = self.lock();
        if !state.own.is_empty() && !state.behind.contains_key(&conversation) {
            state.own.retain(|(of, _)| *of != conversation);
        }
    }

    /// Puts a conversation behind from `seq` on.
    pub(crate) fn fall_behind(&self, conversation: ConversationId, seq: Seq) {
        self.lock().behind.entry(conversation).and_modify(|from| *from = seq.min(*from)).or_insert(seq);
        self.changed.notify_one();
    }

    /// Returns a conversation that is behind and its first missing seq.
    pub(crate) fn next_behind(&self) -> Option<(ConversationId, Seq)> {
        self.lock().behind.iter().next().map(|(&conversation, &seq)| (conversation, seq))
    }

    /// Starts to catch a conversation up: what is dropped from now on is noted anew.
    pub(crate) fn take_behind(&self, conversation: ConversationId) -> Option<Seq> {
        self.lock().behind.remove(&conversation)
    }

    /// Tells whether anything was dropped that has to be made good.
    pub(crate) fn is_behind(&self) -> bool {
        let state = self.lock();
        state.stale || !state.behind.is_empty()
    }

    /// Tells whether messages of a conversation were dropped that have to be made good.
    pub(crate) fn is_behind_in(&self, conversation: ConversationId) -> bool {
        self.lock().behind.contains_key(&conversation)
    }

    /// Tells whether the writer has taken everything.
    pub(crate) fn is_drained(&self) -> bool {
        self.lock().queue.iter().all(|item| item.frame().is_none())
    }

    /// Tells once that events other than messages were dropped.
    pub(crate) fn take_stale(&self) -> bool {
        std::mem::take(&mut self.lock().stale)
    }

    /// Tells whether requests should wait.
    pub(crate) fn is_half_full(&self) -> bool {
        self.lock().bytes * 2 > self.limit
    }

    /// Waits until so much of the queue is written that reading the log for this client may go on. One waiter at a
    /// time.
    pub(crate) async fn room(&self) {
        while self.lock().bytes * 4 > self.limit {
            self.room.notified().await;
        }
    }

    /// Queues the `closing` frame behind everything else, promised answers too; the connection closes when it is
    /// written. The first reason wins.
    pub(crate) fn close(&self, reason: CloseReason, after_ms: u64, id: Option<RequestId>) {
        let mut state = self.lock();
        if state.closing.is_none() {
            state.closing = Some(reason);
            let frame = ServerFrame::Closing { id, close: Close::new(reason, after_ms) };
            state.farewell = Some(frame.to_line());
            if state.promised == 0 {
                self.part(&mut state);
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Returns the reason to close, once there is one.
    pub(crate) fn closing(&self) -> Option<CloseReason> {
        self.lock().closing
    }

    /// Tells whether the `closing` frame was queued, behind which nothing comes.
    pub(crate) fn is_sealed(&self) -> bool {
        self.lock().sealed
    }

    /// Hands frames to the writer, at least one if there is any, at most `bytes` or `frames` of them. The writer calls
    /// it until nothing comes.
    pub(super) fn take_each(&self, frames: usize, bytes: usize, mut give: impl FnMut(Bytes)) {
        let mut state = self.lock();
        state.told = false;
        let (mut taken, mut count) = (0, 0);
        while count < frames && (taken == 0 || taken < bytes) {
            match state.queue.pop_front() {
                Some(Item::Reply(frame) | Item::Event(frame) | Item::Message { frame, .. }) => {
                    taken += frame.len();
                    count += 1;
                    give(frame);
                }
                Some(Item::Own { .. }) => {}
                None => break,
            }
        }
        if state.queue.is_empty() && state.queue.capacity() > 64 {
            state.queue = VecDeque::new();
        }
    }

    /// Moves frames into a queue that holds at most `frames` of them.
    #[cfg(test)]
    pub(crate) fn take(&self, into: &mut VecDeque<Bytes>, frames: usize, bytes: usize) {
        self.take_each(frames.saturating_sub(into.len()), bytes, |frame| into.push_back(frame));
    }

    /// Notes that bytes taken earlier have been written.
    pub(crate) fn written(&self, bytes: usize) {
        let mut state = self.lock();
        state.bytes -= bytes;
        if state.bytes * 4 <= self.limit {
            self.room.notify_one();
        }
    }

    /// Returns how many seqs are marked as the session's own.
    #[cfg(test)]
    pub(crate) fn own_marks(&self) -> usize {
        self.lock().own.len()
    }

    /// Queues the `closing` frame, if it waits.
    fn part(&self, state: &mut State) {
        if let Some(frame) = state.farewell.take() {
            self.push(state, Item::Reply(frame));
            state.sealed = true;
        }
    }

    fn push(&self, state: &mut State, item: Item) {
        state.bytes += item.frame().map_or(0, Bytes::len);
        state.queue.push_back(item);
        if state.bytes > self.limit.saturating_mul(8).max(MAX_REPLIES) && state.closing.is_none() {
            // Requests wait while the outbox is half full: only a client that never reads comes here.
            state.queue.clear();
            state.closing = Some(CloseReason::Slow);
            state.sealed = true;
        }
        // The writer takes until nothing is left, so it need be told only once in between.
        if !std::mem::replace(&mut state.told, true) {
            self.changed.notify_one();
        }
    }

    /// A single frame larger than the limit passes when nothing else waits.
    fn fits(&self, state: &State, bytes: usize) -> bool {
        state.bytes == 0 || state.bytes + bytes <= self.limit
    }

    fn drop_events(state: &mut State) {
        counter!(telemetry::OUTBOX_OVERFLOWS).increment(1);
        let State { queue, bytes, behind, own, stale, .. } = state;
        queue.retain(|item| match item {
            Item::Reply(_) => true,
            Item::Event(frame) => {
                *bytes -= frame.len();
                *stale = true;
                false
            }
            Item::Message { conversation, seq, frame } => {
                *bytes -= frame.len();
                // It may be behind already, from where the log was read to, with what was read still in the queue.
                behind.entry(*conversation).and_modify(|from| *from = (*from).min(*seq)).or_insert(*seq);
                false
            }
            Item::Own { conversation, seq } => {
                let dropped = behind.contains_key(conversation);
                if dropped {
                    own.insert((*conversation, *seq));
                }
                !dropped
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds an outbox")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(number: u64) -> ConversationId {
        ConversationId::new(number).unwrap()
    }

    fn frame(bytes: usize) -> Bytes {
        vec![b'x'; bytes].into()
    }

    fn drain(outbox: &Outbox) -> usize {
        let mut frames = VecDeque::new();
        outbox.take(&mut frames, usize::MAX, usize::MAX);
        outbox.written(frames.iter().map(Bytes::len).sum());
        frames.len()
    }

    #[test]
    fn overflow_drops_messages_and_remembers_the_first_of_each_conversation() {
        let outbox = Outbox::new(100);
        outbox.message(conversation(1), 5, frame(40));
        outbox.message(conversation(2), 8, frame(40));
        outbox.reply_line(frame(10));
        outbox.message(conversation(1), 6, frame(40));
        assert_eq!((outbox.take_behind(conversation(1)), outbox.take_behind(conversation(2))), (Some(5), Some(8)));
        assert_eq!(drain(&outbox), 1, "the reply stays");
    }

    #[test]
    fn a_conversation_that_is_behind_stays_in_order() {
        let outbox = Outbox::new(100);
        outbox.message(conversation(1), 5, frame(80));
        outbox.message(conversation(1), 6, frame(80));
        assert_eq!(drain(&outbox), 0);
        outbox.message(conversation(1), 7, frame(10));
        assert_eq!(drain(&outbox), 0, "seq 7 waits for 5 and 6");
        outbox.message(conversation(2), 1, frame(10));
        assert_eq!(drain(&outbox), 1, "other conversations go on");
        assert_eq!(outbox.next_behind(), Some((conversation(1), 5)));
    }

    #[test]
    fn catching_up_leaves_out_what_the_session_sent_itself() {
        let outbox = Outbox::new(100);
        outbox.message(conversation(1), 5, frame(80));
        outbox.own(conversation(1), 6);
        outbox.message(conversation(1), 7, frame(80));
        outbox.own(conversation(1), 8);
        assert_eq!(outbox.take_behind(conversation(1)), Some(5));
        for seq in 5..=8 {
            assert!(outbox.message_from_log(conversation(1), seq, frame(10)));
        }
        assert_eq!(drain(&outbox), 2, "5 and 7");
    }

    #[test]
    fn rows_read_before_a_new_overflow_are_not_sent_after_it() {
        let outbox = Outbox::new(100);
        assert!(outbox.message_from_log(conversation(1), 5, frame(90)));
        outbox.message(conversation(2), 1, frame(90));
        assert!(!outbox.message_from_log(conversation(1), 6, frame(10)), "5 was dropped");
        assert_eq!(outbox.take_behind(conversation(1)), Some(5));
        assert_eq!(outbox.take_behind(conversation(2)), Some(1));
    }

    #[test]
    fn an_overflow_lowers_where_a_conversation_is_behind_from() {
        let outbox = Outbox::new(100);
        assert!(outbox.message_from_log(conversation(1), 5, frame(60)));
        // The log was read up to 5, and more than could be kept has passed since.
        outbox.fall_behind(conversation(1), 6);
        outbox.message(conversation(2), 1, frame(60));
        assert_eq!(outbox.take_behind(conversation(1)), Some(5));
        assert_eq!(drain(&outbox), 0);
    }

    #[test]
    fn a_dropped_event_asks_for_a_fresh_picture() {
        let outbox = Outbox::new(100);
        outbox.event(frame(90));
        outbox.event(frame(20));
        assert!(outbox.take_stale());
        assert!(!outbox.take_stale());
    }

    #[test]
    fn a_frame_larger_than_the_limit_passes_alone() {
        let outbox = Outbox::new(100);
        outbox.message(conversation(1), 1, frame(500));
        assert_eq!(drain(&outbox), 1);
    }

    #[test]
    fn the_closing_frame_waits_for_promised_answers() {
        let outbox = Outbox::new(100);
        outbox.promise();
        outbox.promise();
        outbox.close(CloseReason::Shutdown, 0, None);
        outbox.keep_promise(&ServerFrame::Pong { id: None });
        assert_eq!((drain(&outbox), outbox.is_sealed()), (1, false));
        outbox.keep_promise(&ServerFrame::Pong { id: None });
        assert_eq!((drain(&outbox), outbox.is_sealed()), (2, true), "the answer and the closing frame");
    }

    #[test]
    fn nothing_follows_the_closing_frame() {
        let outbox = Outbox::new(100);
        outbox.close(CloseReason::Drain, 0, None);
        outbox.close(CloseReason::Idle, 0, None);
        outbox.message(conversation(1), 1, frame(1));
        outbox.reply_line(frame(1));
        assert_eq!(outbox.closing(), Some(CloseReason::Drain));
        assert_eq!(drain(&outbox), 1);
    }
}
