use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::super::ledger::{Arrival, Ledger, Party};
use super::report::{Latency, Report};
use super::script::Script;
use crate::client::{Brief, ClientError, Event, Observer, Sent};
use crate::model::{ConversationId, Key, MessageKind, UserId};

/// How many complaints of servers are kept.
const SHOWN: usize = 20;

/// What all sessions of a run write into. One lock is held for a few dozen nanoseconds per delivery.
#[derive(Debug)]
pub(super) struct Watch {
    script: Arc<Script>,
    /// The part of the keys that no other run has.
    run: String,
    group: OnceLock<ConversationId>,
    start: OnceLock<Instant>,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    ledger: Ledger,
    counts: Counts,
    /// Per message, how many receivers still miss it.
    missing: Vec<usize>,
    to_each: Histogram<u64>,
    to_last: Histogram<u64>,
    /// Per user, the node that serves it.
    nodes: Vec<String>,
    parties: Vec<Option<Party>>,
    reconnects: u64,
    degraded: u64,
    complaints: Vec<String>,
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) attempted: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) delivered: u64,
}

impl Watch {
    pub(super) fn new(script: Arc<Script>) -> Self {
        let (users, messages) = (script.users(), script.messages());
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("valid bounds");
        let books = Books {
            ledger: Ledger::default(),
            counts: Counts::default(),
            missing: vec![users - 1; messages],
            to_each: histogram(),
            to_last: histogram(),
            nodes: vec![String::new(); users],
            parties: vec![None; users],
            reconnects: 0,
            degraded: 0,
            complaints: Vec::new(),
        };
        let run = format!("{:016x}", rand::random::<u64>());
        Self { script, run, group: OnceLock::new(), start: OnceLock::new(), books: Mutex::new(books) }
    }

    /// Makes the observer of a user's session.
    pub(super) fn ear(self: &Arc<Self>, user: usize) -> Box<dyn Observer> {
        Box::new(Ear { watch: self.clone(), user, party: None })
    }

    /// Returns the key of a message.
    pub(super) fn key(&self, place: usize) -> Key {
        Key::new(&format!("{}-{place}", self.run)).expect("37 bytes at most")
    }

    fn place(&self, key: &str) -> Option<usize> {
        key.strip_prefix(&self.run)?.strip_prefix('-')?.parse().ok().filter(|&place| place < self.script.messages())
    }

    /// Opens the books: from now on everybody expects everything said in the group.
    pub(super) fn entered(&self, group: ConversationId) {
        if self.group.set(group).is_ok() {
            let mut books = self.books();
            let Books { ledger, parties, .. } = &mut *books;
            for party in parties.iter().flatten() {
                ledger.joined(*party, group, 0);
            }
        }
    }

    /// Fixes the moment from which the script's times count.
    pub(super) fn start(&self, lead: Duration) -> Instant {
        *self.start.get_or_init(|| Instant::now() + lead)
    }

    pub(super) fn attempted(&self) {
        let mut books = self.books();
        books.ledger.attempted();
        books.counts.attempted += 1;
    }

    /// Notes that a user's client has ended.
    pub(super) fn lost_sender(&self) {
        let mut books = self.books();
        books.ledger.refused();
        books.counts.refused += 1;
    }

    pub(super) fn messages(&self) -> u64 {
        self.script.messages() as u64
    }

    pub(super) fn counts(&self) -> Counts {
        self.books().counts
    }

    fn receivers(&self) -> u64 {
        self.script.users() as u64 - 1
    }

    pub(super) fn is_complete(&self, counts: &Counts) -> bool {
        let answered = counts.acknowledged + counts.refused;
        answered >= self.messages() && counts.delivered >= counts.acknowledged * self.receivers()
    }

    /// Tells whether nothing is missing of what was due by now.
    pub(super) fn is_waiting_for_the_log(&self, counts: &Counts, elapsed: Duration) -> bool {
        let due = self.script.lines.partition_point(|line| line.at <= elapsed) as u64;
        due < self.messages()
            && counts.acknowledged + counts.refused >= due
            && counts.delivered >= counts.acknowledged * self.receivers()
    }

    pub(super) fn report(&self, elapsed: Duration) -> Report {
        let books = self.books();
        let mut nodes = BTreeMap::new();
        for node in &books.nodes {
            *nodes.entry(node.clone()).or_insert(0) += 1;
        }
        Report {
            users: self.script.users(),
            messages: self.script.messages(),
            elapsed,
            verdict: books.ledger.finish(),
            to_each: Latency::of(&books.to_each),
            to_last: Latency::of(&books.to_last),
            nodes,
            reconnects: books.reconnects,
            degraded: books.degraded,
            complaints: books.complaints.clone(),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // A panic elsewhere leaves the books as they were; the counts decide what they are worth.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn complain(&mut self, complaint: impl FnOnce() -> String) {
        if self.complaints.len() < SHOWN {
            self.complaints.push(complaint());
        }
    }
}

/// Hears one user's session.
struct Ear {
    watch: Arc<Watch>,
    user: usize,
    party: Option<Party>,
}

impl Ear {
    fn hear(&mut self, message: &Brief<'_>) {
        let Some(party) = self.party else { return };
        if message.kind != MessageKind::Text || self.watch.group.get() != Some(&message.conversation) {
            return;
        }
        let now = Instant::now();
        let place = self.watch.place(&message.key);
        let mut books = self.watch.books();
        let arrival = books.ledger.arrived(party, message.conversation, message.seq, message.from, &message.key);
        if let (Arrival::New, Some(place), Some(start)) = (arrival, place, self.watch.start.get()) {
            let late = now.saturating_duration_since(*start + self.watch.script.lines[place].at).as_micros();
            let late = u64::try_from(late).unwrap_or(u64::MAX);
            books.counts.delivered += 1;
            books.to_each.saturating_record(late);
            books.missing[place] = books.missing[place].saturating_sub(1);
            if books.missing[place] == 0 {
                books.to_last.saturating_record(late);
            }
        }
    }

    fn name(&self) -> &str {
        self.watch.script.names[self.user].as_str()
    }

    fn enter(&mut self, user: UserId, node: String) {
        let name = self.name().to_owned();
        let mut books = self.watch.books();
        books.nodes[self.user] = node;
        if self.party.is_none() {
            let party = books.ledger.party(user, name);
            books.parties[self.user] = Some(party);
            self.party = Some(party);
        }
    }
}

impl Observer for Ear {
    fn message(&mut self, message: &Brief<'_>) {
        self.hear(message);
    }

    fn duplicate(&mut self, message: &Brief<'_>) {
        self.hear(message);
    }

    fn sent(&mut self, key: &Key, outcome: Result<&Sent, &ClientError>) {
        let Some(party) = self.party else { return };
        let mut books = self.watch.books();
        match outcome {
            Ok(sent) => {
                books.ledger.acknowledged(party, key, sent.conversation, sent.seq);
                books.counts.acknowledged += 1;
            }
            Err(ClientError::Closed) => {}
            Err(error) => {
                books.ledger.refused();
                books.counts.refused += 1;
                books.complain(|| format!("{}: a message was refused: {error}", self.name()));
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Welcome(welcome) => self.enter(welcome.user, welcome.node),
            Event::Disconnected { .. } => self.watch.books().reconnects += 1,
            Event::Degraded { .. } => self.watch.books().degraded += 1,
            Event::Complaint { code, message } => {
                self.watch.books().complain(|| format!("{}: the server complains: {code}: {message}", self.name()));
            }
            Event::Closed(error) if !matches!(error, ClientError::Closed) => {
                self.watch.books().complain(|| format!("{}: {error}", self.name()));
            }
            _ => {}
        }
    }
}
