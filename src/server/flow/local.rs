//! The sessions of this node, as the message path sees them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use crate::model::{ConversationId, Name, Seq, UserId};
use crate::server::front::Outbox;

/// Tells the sessions of one node apart; never used twice in a node's epoch.
pub(crate) type SessionNumber = u64;

/// One logged-in socket, without the socket.
#[derive(Debug)]
pub(crate) struct LocalSession {
    /// Which session.
    pub(crate) number: SessionNumber,
    /// Whose session.
    pub(crate) user: UserId,
    /// That user's name.
    pub(crate) name: Name,
    /// What waits to be written to it.
    pub(crate) outbox: Arc<Outbox>,
    /// Where it is; `None` once the session is over.
    places: Mutex<Option<Places>>,
    /// Conversations that were born for its user while it was logging in, or making one; `None` otherwise.
    born: Mutex<Option<HashSet<ConversationId>>>,
    greeting: Mutex<Greeting>,
    /// The version of its user's account when it logged in.
    account: AtomicU64,
    /// When its user was last said to be typing.
    typed: Mutex<Option<Instant>>,
}

/// Where a session is.
#[derive(Debug, Default)]
struct Places {
    /// The conversations in whose timelines it is.
    attached: HashSet<ConversationId>,
    /// Those that it left, with the seq of the leave it was given last.
    left: HashMap<ConversationId, Seq>,
}

/// How far a session has been greeted. Until it has its `welcome` and everything it missed it gets no events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Greeting {
    Waiting { missed: bool },
    Welcomed,
}

impl LocalSession {
    /// Makes a session that is attached to nothing yet. `account` is the version of the user's account.
    pub(crate) fn new(number: SessionNumber, user: UserId, name: Name, account: u64, outbox: Arc<Outbox>) -> Self {
        Self {
            number,
            user,
            name,
            account: AtomicU64::new(account),
            typed: Mutex::default(),
            outbox,
            places: Mutex::new(Some(Places::default())),
            born: Mutex::new(Some(HashSet::new())),
            greeting: Mutex::new(Greeting::Waiting { missed: false }),
        }
    }

    /// Tells whether it has been welcomed.
    pub(crate) fn is_welcomed(&self) -> bool {
        *self.greeting() == Greeting::Welcomed
    }

    /// Begins to give it events. `true`: there were some before, so it needs a picture of how things stand.
    pub(crate) fn welcome(&self) -> bool {
        std::mem::replace(&mut *self.greeting(), Greeting::Welcomed) == Greeting::Waiting { missed: true }
    }

    /// Queues an event, or notes that there was one before it was welcomed.
    pub(crate) fn event(&self, frame: &Bytes) {
        let mut greeting = self.greeting();
        match *greeting {
            Greeting::Welcomed => self.outbox.event(frame.clone()),
            Greeting::Waiting { .. } => *greeting = Greeting::Waiting { missed: true },
        }
    }

    /// Returns the version of the account that it stands for.
    pub(crate) fn account(&self) -> u64 {
        self.account.load(Ordering::Acquire)
    }

    /// Notes that the session itself has changed its user's account.
    pub(crate) fn renew(&self, account: u64) {
        self.account.store(account, Ordering::Release);
    }

    /// Tells whether its user may be said to be typing, at most once in `every`.
    pub(crate) fn may_type(&self, every: Duration) -> bool {
        let mut typed = self.typed.lock().expect("no code panics while it holds it");
        let may = typed.is_none_or(|at| at.elapsed() >= every);
        if may {
            *typed = Some(Instant::now());
        }
        may
    }

    fn greeting(&self) -> MutexGuard<'_, Greeting> {
        self.greeting.lock().expect("no code panics while it holds it")
    }

    /// Ends the session for the timelines and returns those it was in: from here on no timeline takes it.
    pub(super) fn end(&self) -> HashSet<ConversationId> {
        self.places().take().unwrap_or_default().attached
    }

    /// Notes that the session enters a timeline, by a membership that began with `joined_seq`; `false` when it is over,
    /// or was given a leave behind that.
    pub(super) fn enter(&self, conversation: ConversationId, joined_seq: Seq) -> bool {
        let mut places = self.places();
        let Some(places) = places.as_mut() else { return false };
        let may = places.left.get(&conversation).is_none_or(|left| *left < joined_seq);
        if may {
            places.attached.insert(conversation);
        }
        may
    }

    /// Notes that the session is not in a timeline any more; `left` is the seq of its user's leave, if it was given
    /// that.
    pub(super) fn leave(&self, conversation: ConversationId, left: Option<Seq>) {
        if let Some(places) = self.places().as_mut() {
            places.attached.remove(&conversation);
            places.left.extend(left.map(|seq| (conversation, seq)));
        }
    }

    /// Tells whether the session is alive and not in a conversation's timeline.
    fn lacks(&self, conversation: ConversationId) -> bool {
        self.places().as_ref().is_some_and(|places| !places.attached.contains(&conversation))
    }

    /// Tells whether the session has not listed its conversations yet.
    fn is_listing(&self) -> bool {
        self.born.lock().expect("no code panics while it holds it").is_some()
    }

    /// Returns the conversations in whose timelines the session is.
    pub(super) fn conversations(&self) -> Vec<ConversationId> {
        self.places().iter().flat_map(|places| &places.attached).copied().collect()
    }

    /// Notes a conversation that is new to the user. `false`: the session has listed its conversations and is to be
    /// attached.
    pub(super) fn note_born(&self, conversation: ConversationId) -> bool {
        self.born
            .lock()
            .expect("no code panics while it holds it")
            .as_mut()
            .map(|born| born.insert(conversation))
            .is_some()
    }

    /// Begins to note what is born for its user, as at its login, until [`listed`](Self::listed).
    pub(crate) fn note_births(&self) {
        self.born.lock().expect("no code panics while it holds it").get_or_insert_default();
    }

    /// Ends the listing: returns what was born meanwhile; from here on new conversations attach the session.
    pub(crate) fn listed(&self) -> HashSet<ConversationId> {
        self.born.lock().expect("no code panics while it holds it").take().unwrap_or_default()
    }

    fn places(&self) -> MutexGuard<'_, Option<Places>> {
        self.places.lock().expect("no code panics while it holds a session's list of conversations")
    }
}

/// The sessions of this node by user.
#[derive(Debug, Default)]
pub(crate) struct Locals {
    users: Mutex<HashMap<UserId, Vec<Arc<LocalSession>>>>,
    emptied: Notify,
}

impl Locals {
    /// Adds a session unless its user has `most` already.
    pub(crate) fn insert(&self, session: &Arc<LocalSession>, most: usize) -> bool {
        let mut users = self.lock();
        let sessions = users.entry(session.user).or_default();
        let room = sessions.len() < most;
        if room {
            sessions.push(Arc::clone(session));
        }
        room
    }

    /// Removes a session, by its number: an old session cannot evict a new login.
    pub(crate) fn remove(&self, session: &LocalSession) {
        let mut users = self.lock();
        if let Some(sessions) = users.get_mut(&session.user) {
            sessions.retain(|other| other.number != session.number);
            if sessions.is_empty() {
                users.remove(&session.user);
            }
            if users.is_empty() {
                self.emptied.notify_waiters();
            }
        }
    }

    /// Waits until there is no session.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Returns the sessions of a user.
    pub(crate) fn of(&self, user: UserId) -> Vec<Arc<LocalSession>> {
        self.lock().get(&user).cloned().unwrap_or_default()
    }

    /// Tells whether a user has a session here.
    pub(crate) fn has(&self, user: UserId) -> bool {
        self.lock().contains_key(&user)
    }

    /// Returns how many sessions of a user are not in a conversation's timeline: those that still list their
    /// conversations, and those that should be in it.
    pub(super) fn lacking(&self, user: UserId, conversation: ConversationId) -> (usize, usize) {
        let users = self.lock();
        let lacking = users.get(&user).into_iter().flatten().filter(|session| session.lacks(conversation));
        let (listing, missing): (Vec<_>, Vec<_>) = lacking.partition(|session| session.is_listing());
        (listing.len(), missing.len())
    }

    /// Returns every user with a session here.
    pub(crate) fn users(&self) -> Vec<UserId> {
        self.lock().keys().copied().collect()
    }

    /// Returns how many sessions there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Returns every session.
    pub(crate) fn all(&self) -> Vec<Arc<LocalSession>> {
        self.lock().values().flatten().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Vec<Arc<LocalSession>>>> {
        self.users.lock().expect("no code panics while it holds the list of sessions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: SessionNumber) -> Arc<LocalSession> {
        let name = Name::new("alice").unwrap();
        Arc::new(LocalSession::new(number, UserId::new(1).unwrap(), name, 0, Arc::new(Outbox::new(1))))
    }

    #[test]
    fn an_old_session_cannot_evict_a_new_login() {
        let locals = Locals::default();
        let (old, new) = (session(1), session(2));
        assert!(locals.insert(&old, 1));
        locals.remove(&old);
        assert!(locals.insert(&new, 1));
        locals.remove(&old);
        assert_eq!(locals.of(new.user).len(), 1);
        assert!(!locals.insert(&session(3), 1), "one session is the most");
    }
}
