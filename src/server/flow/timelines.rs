//! The timelines of a node, and the locks around them.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::local::{LocalSession, SessionNumber};
use super::subscriptions::Hold;
use super::timeline::{Adoption, Entry, Passed, Release, Timeline};
use crate::model::{ConversationId, Seq, UserId};
use crate::protocol::{CloseReason, ConversationView};

const SHARDS: usize = 64;

/// A parked entry waits at least this long for its predecessor before the log is asked, and at most `MAX_PATIENCE`.
const MIN_PATIENCE: Duration = Duration::from_millis(20);
pub(super) const MAX_PATIENCE: Duration = Duration::from_millis(250);

/// Every conversation with sessions on this node.
///
/// Attaching, passing on, releasing and disposing of a timeline happen under one lock per shard, so that no session can
/// be left in a timeline that is not fed any more. No lock is held across an await.
#[derive(Debug)]
pub(crate) struct Timelines {
    shards: Box<[Mutex<HashMap<ConversationId, Timeline>>]>,
    hasher: RandomState,
    holes: Mutex<Holes>,
}

/// The timelines in which something waits for a predecessor.
#[derive(Debug, Default)]
struct Holes {
    waiting: HashSet<ConversationId>,
    due: HashSet<ConversationId>,
    /// A running estimate of the 99th percentile of how long predecessors take by themselves.
    skew: Duration,
}

/// What a timeline did with an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// Nobody here listens to the conversation.
    Unknown,
    /// The timeline took it. The users are those whose join was passed on.
    Taken {
        /// Users whose membership is to be looked up.
        joined: Vec<UserId>,
        /// The entry waits for a predecessor: somebody must look after the hole.
        parked: bool,
        /// The session that sent it is not in the timeline yet.
        stranger: bool,
    },
}

impl Timelines {
    /// Makes an empty set.
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            holes: Mutex::default(),
        }
    }

    /// Puts a session into a conversation's timeline, catching up; the timeline is made when there is none. `false`: it
    /// is in already, over, or to be adopted by a membership that it has seen the end of.
    pub(crate) fn attach(
        &self,
        conversation: ConversationId,
        session: &Arc<LocalSession>,
        adoption: Option<Adoption>,
    ) -> bool {
        let mut shard = self.shard(conversation);
        let timeline = shard.entry(conversation).or_default();
        let attached = timeline.attach(conversation, session, adoption);
        if timeline.is_empty() {
            shard.remove(&conversation);
        }
        attached
    }

    /// Takes a session out of a conversation's timeline.
    pub(crate) fn detach(&self, conversation: ConversationId, number: SessionNumber) {
        self.let_go(conversation, number, None);
    }

    /// Takes a session out of a conversation's timeline that has been given its user's leave, at a seq.
    pub(super) fn leave(&self, conversation: ConversationId, number: SessionNumber, seq: Seq) {
        self.let_go(conversation, number, Some(seq));
    }

    fn let_go(&self, conversation: ConversationId, number: SessionNumber, left: Option<Seq>) {
        let mut shard = self.shard(conversation);
        if let Some(timeline) = shard.get_mut(&conversation) {
            timeline.detach(conversation, number, left);
            if timeline.is_empty() {
                shard.remove(&conversation);
            }
        }
    }

    /// Takes every session of a user out of a conversation's timeline.
    pub(crate) fn detach_user(&self, conversation: ConversationId, user: UserId) {
        let mut shard = self.shard(conversation);
        if let Some(timeline) = shard.get_mut(&conversation) {
            timeline.detach_user(conversation, user);
            if timeline.is_empty() {
                shard.remove(&conversation);
            }
        }
    }

    /// Takes a session that is over out of every timeline.
    pub(crate) fn end(&self, session: &LocalSession) {
        for conversation in session.end() {
            self.detach(conversation, session.number);
        }
    }

    /// Gives a timeline the head that was read from the log after somebody attached. `true`: somebody must look after a
    /// hole.
    pub(crate) fn begin(&self, conversation: ConversationId, head: Seq) -> bool {
        let hole = self.shard(conversation).get_mut(&conversation).is_some_and(|timeline| timeline.begin(head));
        if hole {
            self.due(conversation);
        }
        hole
    }

    /// Gives an entry to its timeline. `own`: the session that sent it, which is not to get it.
    pub(crate) fn feed(&self, conversation: ConversationId, entry: Entry, own: Option<&Arc<LocalSession>>) -> Fed {
        let mut shard = self.shard(conversation);
        let mut stranger = false;
        if let Some(session) = own {
            let timeline = shard.get_mut(&conversation);
            stranger = !timeline.is_some_and(|timeline| timeline.mark_own(conversation, entry.seq, session.number));
            if stranger {
                // It will be adopted and read the log.
                session.outbox.own_while_reading(conversation, entry.seq);
            }
        }
        let Some(timeline) = shard.get_mut(&conversation) else { return Fed::Unknown };
        let passed = timeline.feed(conversation, entry);
        if timeline.is_empty() {
            shard.remove(&conversation);
        }
        drop(shard);
        self.note(conversation, &passed);
        Fed::Taken { joined: passed.joined, parked: passed.parked || passed.overflowed, stranger }
    }

    /// Gives an entry that was fetched from the log to its timeline. Returns the users whose membership is to be looked
    /// up.
    pub(crate) fn feed_from_log(&self, conversation: ConversationId, entry: Entry) -> Vec<UserId> {
        let mut shard = self.shard(conversation);
        let Some(timeline) = shard.get_mut(&conversation) else { return Vec::new() };
        let mut passed = timeline.feed(conversation, entry);
        if timeline.is_empty() {
            shard.remove(&conversation);
        }
        drop(shard);
        // Only predecessors that come by themselves say how long one should wait for them.
        passed.waited = None;
        self.note(conversation, &passed);
        passed.joined
    }

    /// Queues an event for every session that listens to a timeline.
    pub(crate) fn event(&self, conversation: ConversationId, except: Option<UserId>, frame: &Bytes) {
        if let Some(timeline) = self.shard(conversation).get_mut(&conversation) {
            timeline.event(except, frame);
        }
    }

    /// Opens a buffer for a session that is about to read the log. `false`: it is not in the timeline.
    pub(crate) fn open_buffer(&self, conversation: ConversationId, number: SessionNumber) -> bool {
        self.shard(conversation)
            .get_mut(&conversation)
            .is_some_and(|timeline| timeline.open_buffer(conversation, number))
    }

    /// Makes a session live that has been given everything up to `floor` from the log.
    pub(crate) fn release(&self, conversation: ConversationId, number: SessionNumber, floor: Seq) -> Release {
        let mut shard = self.shard(conversation);
        let Some(timeline) = shard.get_mut(&conversation) else { return Release::Gone };
        let hole = timeline.position().is_none() && timeline.begin(floor);
        let release = timeline.release(conversation, number, floor);
        drop(shard);
        if hole {
            self.due(conversation);
        }
        release
    }

    /// Keeps a group's subject subscribed for as long as its timeline lives; without one it is let go.
    pub(crate) fn keep(&self, conversation: ConversationId, hold: Hold) {
        hold.settle();
        if let Some(timeline) = self.shard(conversation).get_mut(&conversation) {
            timeline.keep(hold);
        }
    }

    /// Returns the users with sessions in a timeline.
    pub(super) fn users(&self, conversation: ConversationId) -> Vec<UserId> {
        let shard = self.shard(conversation);
        let sessions = shard.get(&conversation).into_iter().flat_map(Timeline::sessions);
        let mut users: Vec<UserId> = sessions.map(|session| session.user).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Takes what a session is to be told before its first message from the log.
    pub(crate) fn take_news(
        &self,
        conversation: ConversationId,
        number: SessionNumber,
    ) -> Option<Box<ConversationView>> {
        self.shard(conversation).get_mut(&conversation)?.take_news(number)
    }

    /// Returns the last seq that a timeline has passed on. `None`: there is no timeline, or it has read nothing yet.
    pub(crate) fn position(&self, conversation: ConversationId) -> Option<Seq> {
        self.shard(conversation).get(&conversation)?.position()
    }

    /// Tells whether a session is in a timeline.
    pub(crate) fn holds_user(&self, conversation: ConversationId, user: UserId) -> bool {
        let shard = self.shard(conversation);
        shard.get(&conversation).is_some_and(|timeline| timeline.sessions().any(|session| session.user == user))
    }

    /// Says that a conversation's log may go on behind its timeline's position: it is fetched with the next holes, or
    /// once the timeline has a position. A timeline that is not there yet will begin with the log.
    pub(crate) fn due(&self, conversation: ConversationId) {
        if self.shard(conversation).get_mut(&conversation).is_some_and(Timeline::doubt) {
            self.holes().due.insert(conversation);
        }
    }

    /// Notes that a conversation was just fetched up to its head.
    pub(crate) fn fetched(&self, conversation: ConversationId) {
        if let Some(timeline) = self.shard(conversation).get_mut(&conversation) {
            timeline.fetched();
        }
    }

    /// Closes the sessions of a timeline whose log went back, and forgets it.
    pub(crate) fn reset(&self, conversation: ConversationId) {
        let Some(timeline) = self.shard(conversation).remove(&conversation) else { return };
        for session in timeline.sessions() {
            session.outbox.close(CloseReason::LogReset, 0, None);
            // Nobody puts it back.
            self.end(session);
        }
    }

    /// Returns the holes that have waited long enough, as (conversation, last seq before the hole), and when the next
    /// one will have.
    pub(crate) fn take_due(&self, now: Instant) -> (Vec<(ConversationId, Seq)>, Option<Instant>) {
        let (mut due, mut waiting, patience) = {
            let mut holes = self.holes();
            let patience = (holes.skew * 2).clamp(MIN_PATIENCE, MAX_PATIENCE);
            (std::mem::take(&mut holes.due), std::mem::take(&mut holes.waiting), patience)
        };
        let mut next: Option<Instant> = None;
        // The list was taken before the timelines are asked: one that begins to wait meanwhile adds itself anew.
        waiting.retain(|&conversation| {
            let since = self.shard(conversation).get(&conversation).and_then(Timeline::parked_since);
            match since.map(|since| since + patience) {
                None => return false,
                Some(at) if at <= now => _ = due.insert(conversation),
                Some(at) => next = Some(next.map_or(at, |first| first.min(at))),
            }
            true
        });
        self.holes().waiting.extend(waiting);
        let due = due.into_iter().filter_map(|conversation| Some((conversation, self.position(conversation)?)));
        (due.collect(), next)
    }

    fn note(&self, conversation: ConversationId, passed: &Passed) {
        if !passed.parked && !passed.overflowed && passed.waited.is_none() {
            return;
        }
        let mut holes = self.holes();
        if passed.parked {
            holes.waiting.insert(conversation);
        }
        if passed.overflowed {
            holes.due.insert(conversation);
        }
        if let Some(waited) = passed.waited {
            // Stochastic quantile: 99 steps down on a shorter wait balance one step up on a longer one.
            let step = holes.skew / 20 + Duration::from_micros(100);
            holes.skew = if waited > holes.skew {
                (holes.skew + step).min(MAX_PATIENCE)
            } else {
                holes.skew.saturating_sub(step / 99)
            };
        }
    }

    fn shard(&self, conversation: ConversationId) -> MutexGuard<'_, HashMap<ConversationId, Timeline>> {
        let at = self.hasher.hash_one(conversation) as usize % SHARDS;
        self.shards[at].lock().expect("no code panics while it holds a shard of the timelines")
    }

    fn holes(&self) -> MutexGuard<'_, Holes> {
        self.holes.lock().expect("no code panics while it holds the list of holes")
    }
}
