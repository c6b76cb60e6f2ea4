//! A node's view of one conversation: what has been passed on, what waits for a predecessor, and who listens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use metrics::counter;
use tokio::time::{Duration, Instant};

use super::local::{LocalSession, SessionNumber};
use super::news::{keep_up, wrote};
use super::subscriptions::Hold;
use crate::model::{ConversationId, Message, MessageKind, Seq, UserId};
use crate::protocol::{ConversationView, ServerFrame};
use crate::telemetry;

/// At most this many entries, or this many bytes of them, wait for a predecessor; then they are dropped and fetched
/// from the log.
const MAX_PARKED: usize = 1024;
const MAX_PARKED_BYTES: usize = 1024 * 1024;

/// At most this many live entries wait while a session reads the log; then it reads again.
const MAX_BUFFERED: usize = 256;
const MAX_BUFFERED_BYTES: usize = 128 * 1024;

/// One entry of a conversation on its way to the sockets.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its position.
    pub(crate) seq: Seq,
    /// Who wrote it, joined or left.
    pub(crate) from: UserId,
    /// What it is.
    pub(crate) kind: MessageKind,
    /// The `message` frame with its newline, encoded once in the whole cluster.
    pub(crate) frame: Bytes,
}

impl Entry {
    /// Encodes a message.
    pub(crate) fn encode(message: Message) -> Self {
        let (seq, from, kind) = (message.seq, message.from, message.kind);
        Self { seq, from, kind, frame: ServerFrame::Message(message).to_line() }
    }
}

/// What became of an entry that was given to a timeline.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// The entry waits for a predecessor since just now: somebody must look after the hole.
    pub(crate) parked: bool,
    /// The timeline dropped what was parked: its hole must be fetched at once.
    pub(crate) overflowed: bool,
    /// How long the oldest parked entry had waited when its predecessor came.
    pub(crate) waited: Option<Duration>,
    /// Users whose membership is to be looked up, because their sessions may belong into the timeline or out of it:
    /// whose join was passed on, and whose join or leave is not passed on since the log was read behind it.
    pub(crate) joined: Vec<UserId>,
}

/// By what a session comes into a conversation that is new to its user.
#[derive(Debug)]
pub(crate) struct Adoption {
    /// Where the membership began that was read from the log.
    pub(crate) joined_seq: Seq,
    /// What the session is to be told before its first message.
    pub(crate) news: Option<Box<ConversationView>>,
}

/// What a session finds when it has read the log and wants to be live.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// It is live.
    Live,
    /// More came in between than was kept: read again.
    Again,
    /// It is not in the timeline any more.
    Gone,
}

/// One conversation with sessions on this node. All methods are called under its shard's lock.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// The seq to pass on next; `None` until the log was read. It never comes from an envelope.
    next: Option<Seq>,
    attached: Vec<Attachment>,
    parked: BTreeMap<Seq, Entry>,
    parked_bytes: usize,
    parked_since: Option<Instant>,
    /// Something may have been missed before there was a position.
    doubted: bool,
    /// Keeps a group's subject subscribed.
    hold: Option<Hold>,
}

#[derive(Debug)]
struct Attachment {
    session: Arc<LocalSession>,
    /// The last seq the session was given from the log; it takes only what is above, for as long as it lives.
    floor: Seq,
    /// Seqs above `next` that the session sent itself and is not to get.
    own: Vec<Seq>,
    /// Where live entries wait while the session reads the log; `None` once it is live.
    buffer: Option<Buffer>,
    /// What the session is to be told of the conversation before its first message.
    news: Option<Box<ConversationView>>,
    /// Its user has left with this seq: the session goes as soon as it has been given that, and gets nothing behind it.
    left: Option<Seq>,
}

#[derive(Debug)]
struct Buffer {
    /// Everything from this seq on that was passed on is here; `None` until the timeline has a position.
    from: Option<Seq>,
    entries: VecDeque<(Seq, Option<Bytes>)>,
    bytes: usize,
    overflowed: bool,
}

impl Timeline {
    /// Takes a session in, catching up: until it is released its live entries wait. `false`: it is here already, over,
    /// or to be adopted by a membership that it has seen the end of.
    pub(super) fn attach(
        &mut self,
        conversation: ConversationId,
        session: &Arc<LocalSession>,
        adoption: Option<Adoption>,
    ) -> bool {
        let here = self.attached.iter().any(|other| other.session.number == session.number);
        let joined_seq = adoption.as_ref().map_or(Seq::MAX, |adoption| adoption.joined_seq);
        if here || !session.enter(conversation, joined_seq) {
            return false;
        }
        let session = Arc::clone(session);
        let news = adoption.and_then(|adoption| adoption.news);
        let buffer = Some(Buffer::from(self.next));
        self.attached.push(Attachment { session, floor: 0, own: Vec::new(), buffer, news, left: None });
        true
    }

    /// Lets a session go; `left` is the seq of its user's leave, if that is why.
    pub(super) fn detach(&mut self, conversation: ConversationId, number: SessionNumber, left: Option<Seq>) {
        if let Some(at) = self.attached.iter().position(|other| other.session.number == number) {
            self.attached.swap_remove(at).session.leave(conversation, left);
        }
    }

    /// Lets every session of a user go.
    pub(super) fn detach_user(&mut self, conversation: ConversationId, user: UserId) {
        self.attached.retain(|other| {
            let stays = other.session.user != user;
            if !stays {
                other.session.leave(conversation, None);
            }
            stays
        });
    }

    /// Tells whether nobody listens.
    pub(super) fn is_empty(&self) -> bool {
        self.attached.is_empty()
    }

    /// Returns everybody who listens.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &Arc<LocalSession>> {
        self.attached.iter().map(|other| &other.session)
    }

    /// Queues an event that is not in the log, for everybody but one user: not for whoever still has to be let in.
    pub(super) fn event(&mut self, except: Option<UserId>, frame: &Bytes) {
        for attachment in &mut self.attached {
            if let Some(news) = &mut attachment.news {
                keep_up(news, attachment.session.user, frame);
            }
            let is_let_in = attachment.left.is_none() && (attachment.buffer.is_none() || attachment.floor > 0);
            if is_let_in && Some(attachment.session.user) != except {
                attachment.session.event(frame);
            }
        }
    }

    /// Returns the last seq that was passed on, once the log was read.
    pub(super) fn position(&self) -> Option<Seq> {
        self.next.map(|next| next - 1)
    }

    /// Returns since when an entry waits for its predecessor.
    pub(super) fn parked_since(&self) -> Option<Instant> {
        self.parked_since
    }

    /// Takes a head that was read from the log after somebody attached: the position of a new timeline. `true`: the log
    /// has more than was passed on, somebody must look after the hole.
    pub(super) fn begin(&mut self, head: Seq) -> bool {
        if let Some(next) = self.next {
            return next <= head;
        }
        let next = head + 1;
        self.next = Some(next);
        self.parked = self.parked.split_off(&next);
        self.parked_bytes = self.parked.values().map(|entry| entry.frame.len()).sum();
        for buffer in self.attached.iter_mut().filter_map(|attachment| attachment.buffer.as_mut()) {
            buffer.from.get_or_insert(next);
        }
        // Whatever has waited may be above the head, or was dropped since there was too much of it.
        self.parked_since.is_some() || self.doubted
    }

    /// Says that the log may go on behind the position. `false`: there is none yet, and it is remembered until there
    /// is.
    pub(super) fn doubt(&mut self) -> bool {
        self.doubted = self.next.is_none();
        !self.doubted
    }

    /// Keeps a group's subject subscribed for as long as the timeline lives.
    pub(super) fn keep(&mut self, hold: Hold) {
        self.hold.get_or_insert(hold);
    }

    /// Notes that everything up to the head was fetched just now. What waits still waits for what is on its way, for as
    /// long as anything else that waits: without that, the log would be asked again at once, and again.
    pub(super) fn fetched(&mut self) {
        self.parked_since = (!self.parked.is_empty()).then(Instant::now);
    }

    /// Marks a seq as a session's own, so that it is not sent to it. `false`: the session is not here.
    pub(super) fn mark_own(&mut self, conversation: ConversationId, seq: Seq, number: SessionNumber) -> bool {
        let ahead = self.next.is_none_or(|next| seq >= next);
        let Some(attachment) = self.attached.iter_mut().find(|other| other.session.number == number) else {
            return false;
        };
        let outbox = &attachment.session.outbox;
        if ahead && seq > attachment.floor {
            attachment.own.push(seq);
        }
        match attachment.buffer {
            // The log may give it to the session before the timeline has got so far.
            Some(_) => outbox.own_while_reading(conversation, seq),
            None if ahead => {}
            None => outbox.own(conversation, seq),
        }
        true
    }

    /// Takes an entry, wherever it comes from: passes it on, parks it, or drops it as known.
    pub(super) fn feed(&mut self, conversation: ConversationId, entry: Entry) -> Passed {
        let mut passed = Passed::default();
        match self.next {
            Some(next) if entry.seq < next => passed.look_up(&entry),
            Some(next) if entry.seq == next => {
                self.pass(conversation, entry, &mut passed);
                self.pass_parked(conversation, &mut passed);
            }
            Some(_) => self.park(entry, &mut passed),
            None => {
                passed.look_up(&entry);
                self.park(entry, &mut passed);
            }
        }
        passed
    }

    /// Opens a buffer for a session that is about to read the log. `false`: it is not here.
    pub(super) fn open_buffer(&mut self, conversation: ConversationId, number: SessionNumber) -> bool {
        let next = self.next;
        let Some(attachment) = self.attached.iter_mut().find(|other| other.session.number == number) else {
            return false;
        };
        attachment.buffer = Some(Buffer::from(next));
        for &seq in &attachment.own {
            attachment.session.outbox.own_while_reading(conversation, seq);
        }
        true
    }

    /// Takes what a session is to be told before its first message from the log.
    pub(super) fn take_news(&mut self, number: SessionNumber) -> Option<Box<ConversationView>> {
        self.attached.iter_mut().find(|other| other.session.number == number)?.news.take()
    }

    /// Makes a session live that has been given everything up to `floor` from the log. That read is the position of a
    /// timeline that has none.
    pub(super) fn release(&mut self, conversation: ConversationId, number: SessionNumber, floor: Seq) -> Release {
        self.begin(floor);
        let Some(attachment) = self.attached.iter_mut().find(|other| other.session.number == number) else {
            return Release::Gone;
        };
        attachment.floor = floor;
        attachment.own.retain(|&seq| seq > floor);
        let Some(buffer) = attachment.buffer.take_if(|buffer| buffer.follows(floor)) else { return Release::Again };
        attachment.session.outbox.forget_own(conversation);
        for (seq, frame) in buffer.entries.into_iter().filter(|(seq, _)| *seq > floor) {
            match frame {
                Some(frame) => attachment.send(conversation, seq, frame),
                None => attachment.session.outbox.own(conversation, seq),
            }
        }
        let left = attachment.left;
        if left.is_none() {
            return Release::Live;
        }
        self.detach(conversation, number, left);
        Release::Gone
    }

    fn park(&mut self, entry: Entry, passed: &mut Passed) {
        let bytes = entry.frame.len();
        if self.parked.len() >= MAX_PARKED || self.parked_bytes + bytes > MAX_PARKED_BYTES {
            self.parked.clear();
            self.parked_bytes = 0;
            passed.overflowed = true;
        } else if self.parked.insert(entry.seq, entry).is_none() {
            self.parked_bytes += bytes;
        }
        if self.parked_since.is_none() {
            self.parked_since = Some(Instant::now());
            passed.parked = true;
        }
    }

    fn pass_parked(&mut self, conversation: ConversationId, passed: &mut Passed) {
        let waited = self.parked_since;
        while let Some(first) = self.parked.first_entry() {
            match self.next {
                Some(next) if *first.key() < next => {
                    self.parked_bytes -= first.remove().frame.len();
                }
                Some(next) if *first.key() == next => {
                    let entry = first.remove();
                    self.parked_bytes -= entry.frame.len();
                    self.pass(conversation, entry, passed);
                    passed.waited = waited.map(|since| since.elapsed());
                }
                _ => break,
            }
        }
        if self.parked.is_empty() {
            self.parked_since = None;
        }
    }

    fn pass(&mut self, conversation: ConversationId, entry: Entry, passed: &mut Passed) {
        let Entry { seq, from, kind, frame } = entry;
        self.next = Some(seq + 1);
        counter!(telemetry::DELIVERIES).increment(self.attached.len() as u64);
        for attachment in &mut self.attached {
            attachment.take(conversation, seq, &frame);
        }
        match kind {
            MessageKind::Text => {}
            MessageKind::Join => passed.joined.push(from),
            MessageKind::Leave => self.part(conversation, from, seq),
        }
    }

    /// Lets the sessions of somebody who has left go. Those that still read the log, or will since they are behind,
    /// stay until they have read up to the leave.
    fn part(&mut self, conversation: ConversationId, user: UserId, seq: Seq) {
        self.attached.retain_mut(|other| {
            if other.session.user != user {
                return true;
            }
            let reads = other.buffer.is_some() || other.session.outbox.is_behind_in(conversation);
            if reads {
                other.left.get_or_insert(seq);
            } else {
                other.session.leave(conversation, Some(seq));
            }
            reads
        });
    }
}

impl Passed {
    /// Notes an entry that changes a membership and will not be passed on.
    fn look_up(&mut self, entry: &Entry) {
        if entry.kind != MessageKind::Text {
            self.joined.push(entry.from);
        }
    }
}

impl Attachment {
    /// Takes an entry that is next in the timeline.
    fn take(&mut self, conversation: ConversationId, seq: Seq, frame: &Bytes) {
        if seq <= self.floor || self.left.is_some() {
            return;
        }
        let own = self.own.iter().position(|&own| own == seq).map(|at| self.own.swap_remove(at)).is_some();
        if own && let Some(news) = &mut self.news {
            wrote(news, self.session.user, self.session.user, seq);
        }
        match &mut self.buffer {
            Some(buffer) if own => {
                self.session.outbox.own_while_reading(conversation, seq);
                buffer.push(seq, None);
            }
            Some(buffer) => buffer.push(seq, Some(frame)),
            None if own => self.session.outbox.own(conversation, seq),
            None => self.send(conversation, seq, frame.clone()),
        }
    }

    fn send(&mut self, conversation: ConversationId, seq: Seq, frame: Bytes) {
        if let Some(mut news) = self.news.take() {
            keep_up(&mut news, self.session.user, &frame);
            self.session.outbox.reply(&ServerFrame::Conversation(*news));
        }
        self.session.outbox.message(conversation, seq, frame);
    }
}

impl Buffer {
    fn from(next: Option<Seq>) -> Self {
        Self { from: next, entries: VecDeque::new(), bytes: 0, overflowed: false }
    }

    /// Tells whether nothing is missing between what was read up to `floor` and what is here.
    fn follows(&self, floor: Seq) -> bool {
        !self.overflowed && self.from.is_some_and(|from| from <= floor + 1)
    }

    fn push(&mut self, seq: Seq, frame: Option<&Bytes>) {
        let bytes = frame.map_or(0, Bytes::len);
        if self.entries.len() >= MAX_BUFFERED || self.bytes + bytes > MAX_BUFFERED_BYTES {
            self.overflowed = true;
            self.entries = VecDeque::new();
            self.bytes = 0;
        } else if !self.overflowed {
            self.bytes += bytes;
            self.entries.push_back((seq, frame.cloned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Key, Name};
    use crate::server::front::Outbox;

    const NUMBER: SessionNumber = 1;

    fn conversation() -> ConversationId {
        ConversationId::new(1).unwrap()
    }

    fn session() -> Arc<LocalSession> {
        let outbox = Arc::new(Outbox::new(64 * 1024));
        Arc::new(LocalSession::new(NUMBER, UserId::new(1).unwrap(), Name::new("alice").unwrap(), 0, outbox))
    }

    fn entry(seq: Seq) -> Entry {
        Entry::encode(Message {
            conversation: conversation(),
            seq,
            from: UserId::new(1).unwrap(),
            name: Name::new("alice").unwrap(),
            key: Key::new("k").unwrap(),
            kind: MessageKind::Text,
            body: String::new(),
            at: 0,
        })
    }

    /// The appender's part: marks, then feeds.
    fn commit_own(timeline: &mut Timeline, seq: Seq) {
        assert!(timeline.mark_own(conversation(), seq, NUMBER));
        timeline.feed(conversation(), entry(seq));
    }

    fn read_from_log(session: &LocalSession, seqs: std::ops::RangeInclusive<Seq>) {
        for seq in seqs {
            assert!(session.outbox.message_from_log(conversation(), seq, entry(seq).frame));
        }
    }

    fn given(session: &LocalSession) -> Vec<Seq> {
        let mut frames = VecDeque::new();
        session.outbox.take(&mut frames, usize::MAX, usize::MAX);
        session.outbox.written(frames.iter().map(Bytes::len).sum());
        let seq = |frame: &Bytes| match ServerFrame::parse(frame) {
            Ok(ServerFrame::Message(message)) => message.seq,
            other => panic!("{other:?}"),
        };
        frames.iter().map(seq).collect()
    }

    #[test]
    fn a_session_that_reads_the_log_leaves_out_what_it_sends_meanwhile() {
        let (mut timeline, session) = (Timeline::default(), session());
        assert!(timeline.attach(conversation(), &session, None));
        // The timeline does not know yet where it stands.
        commit_own(&mut timeline, 2);
        read_from_log(&session, 1..=2);
        assert_eq!(timeline.release(conversation(), NUMBER, 2), Release::Live);
        commit_own(&mut timeline, 3);
        timeline.feed(conversation(), entry(4));
        assert_eq!(given(&session), [1, 4]);
    }

    #[test]
    fn a_session_that_reads_the_log_leaves_out_what_waits_for_a_predecessor() {
        let (mut timeline, session) = (Timeline::default(), session());
        assert!(timeline.attach(conversation(), &session, None));
        assert_eq!(timeline.release(conversation(), NUMBER, 5), Release::Live);
        commit_own(&mut timeline, 7);
        assert!(timeline.open_buffer(conversation(), NUMBER));
        read_from_log(&session, 6..=7);
        timeline.feed(conversation(), entry(6));
        assert_eq!(timeline.release(conversation(), NUMBER, 7), Release::Live);
        timeline.feed(conversation(), entry(8));
        assert_eq!(given(&session), [6, 8]);
    }
}
