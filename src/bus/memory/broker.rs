//! The broker of the in-process bus, with the faults that tests ask of it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::bus::supervisor::Incoming;
use crate::bus::{BusError, BusErrorKind, MessageBus, Outgoing, Receipt, Subject, Supervised};

use super::MemoryBackend;

/// How many delayed deliveries may be under way; a link that needs more is cut, as brokers do with slow consumers.
const DELAYED_DELIVERIES: usize = 65_536;

/// What a stalled broker does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Attempts to connect.
    Connect,
    /// Subscribing and unsubscribing.
    Subscribe,
    /// Publishing.
    Publish,
    /// Pings.
    Ping,
}

/// A broker inside this process. Clones are handles of the same broker; each [`connect`](Self::connect) makes a bus of
/// its own on it, as each node has its own connection to a broker.
#[derive(Clone)]
pub struct MemoryBroker {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    stalled: watch::Sender<HashSet<Operation>>,
}

#[derive(Default)]
struct State {
    links: HashMap<u64, Incoming>,
    subjects: HashMap<Subject, Vec<u64>>,
    attempts: u64,
    refusing: bool,
    drop_next: u64,
    drop_if: Option<Filter>,
    delay: Duration,
    /// Deliveries under way, in order. Once there was a delay, all deliveries go through it, so that none overtakes
    /// another.
    line: Option<mpsc::Sender<Delivery>>,
}

type Filter = Box<dyn Fn(&Outgoing) -> bool + Send>;

struct Delivery {
    due: Instant,
    to: Incoming,
    subject: Subject,
    payload: Bytes,
}

impl MemoryBroker {
    /// Makes a broker that nobody else knows.
    pub fn new() -> Self {
        Self { inner: Arc::new(Inner { state: Mutex::default(), stalled: watch::Sender::default() }) }
    }

    /// Returns the broker that all nodes of this process share.
    pub fn process_wide() -> Self {
        static BROKER: LazyLock<MemoryBroker> = LazyLock::new(MemoryBroker::new);
        BROKER.clone()
    }

    /// Makes a bus on this broker.
    pub fn connect(&self) -> Arc<dyn MessageBus> {
        Arc::new(Supervised::start(MemoryBackend::new(self.clone())))
    }

    /// Accepts the next `count` messages and delivers them to nobody.
    pub fn drop_next(&self, count: u64) {
        self.lock().drop_next = count;
    }

    /// Accepts messages that fit and delivers them to nobody, until called again.
    pub fn drop_if(&self, fits: impl Fn(&Outgoing) -> bool + Send + 'static) {
        self.lock().drop_if = Some(Box::new(fits));
    }

    /// Delivers later by this much from now on, in order.
    pub fn delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Breaks every connection; they may connect again at once.
    pub fn disconnect(&self) {
        let mut state = self.lock();
        state.subjects.clear();
        let links = std::mem::take(&mut state.links);
        drop(state);
        for link in links.into_values() {
            link.broken(gone());
        }
    }

    /// Refuses connections from now on, or accepts them again. Those that are there are left alone.
    pub fn refuse(&self, refusing: bool) {
        self.lock().refusing = refusing;
    }

    /// Answers nothing any more, though connections stay open, as a stopped process does.
    pub fn pause(&self) {
        for operation in [Operation::Connect, Operation::Subscribe, Operation::Publish, Operation::Ping] {
            self.stall(operation);
        }
    }

    /// Leaves one kind of request without an answer.
    pub fn stall(&self, operation: Operation) {
        self.inner.stalled.send_modify(|stalled| {
            stalled.insert(operation);
        });
    }

    /// Answers everything again, also what was asked meanwhile.
    pub fn resume(&self) {
        self.inner.stalled.send_replace(HashSet::new());
    }

    /// Counts the attempts to connect so far.
    pub fn attempts(&self) -> u64 {
        self.lock().attempts
    }

    /// Counts the subjects that somebody is subscribed to.
    pub fn subjects(&self) -> usize {
        self.lock().subjects.len()
    }

    /// Counts the connections that are subscribed to a subject.
    pub fn listeners(&self, subject: &Subject) -> usize {
        self.lock().subjects.get(subject).map_or(0, Vec::len)
    }

    /// Forgets who is subscribed to a subject, without a word to anybody.
    pub fn forget(&self, subject: &Subject) {
        self.lock().subjects.remove(subject);
    }

    /// Waits for as long as an operation is stalled.
    pub(super) async fn ready(&self, operation: Operation) {
        if !self.inner.stalled.borrow().contains(&operation) {
            return;
        }
        let waited = self.inner.stalled.subscribe().wait_for(|stalled| !stalled.contains(&operation)).await.is_ok();
        debug_assert!(waited, "the sender lives as long as this broker");
    }

    pub(super) fn attach(&self, link: Incoming) -> Result<u64, BusError> {
        let mut state = self.lock();
        let id = state.attempts;
        state.attempts += 1;
        if state.refusing {
            return Err(BusError::new(BusErrorKind::Disconnected, "the memory broker refuses connections"));
        }
        state.links.insert(id, link);
        Ok(id)
    }

    pub(super) fn detach(&self, link: u64) {
        let mut state = self.lock();
        if state.links.remove(&link).is_some() {
            state.subjects.retain(|_, links| {
                links.retain(|id| *id != link);
                !links.is_empty()
            });
        }
    }

    pub(super) fn check(&self, link: u64) -> Result<(), BusError> {
        if self.lock().links.contains_key(&link) { Ok(()) } else { Err(gone()) }
    }

    pub(super) fn subscribe(&self, link: u64, subjects: &[Subject]) -> Result<(), BusError> {
        let mut state = self.lock();
        if !state.links.contains_key(&link) {
            return Err(gone());
        }
        for subject in subjects {
            let links = state.subjects.entry(subject.clone()).or_default();
            if !links.contains(&link) {
                links.push(link);
            }
        }
        Ok(())
    }

    pub(super) fn unsubscribe(&self, link: u64, subjects: &[Subject]) {
        let mut state = self.lock();
        for subject in subjects {
            if let Some(links) = state.subjects.get_mut(subject) {
                links.retain(|id| *id != link);
                if links.is_empty() {
                    state.subjects.remove(subject);
                }
            }
        }
    }

    pub(super) fn publish(&self, link: u64, batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>> {
        let mut state = self.lock();
        if !state.links.contains_key(&link) {
            return batch.iter().map(|_| Err(gone())).collect();
        }
        batch.into_iter().map(|outgoing| Ok(state.publish(outgoing))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn publish(&mut self, outgoing: Outgoing) -> Receipt {
        let links = self.subjects.get(&outgoing.subject).map(Vec::as_slice).unwrap_or_default();
        let receipt = Receipt { receivers: Some(links.len() as u64) };
        if self.drop_next > 0 {
            self.drop_next -= 1;
            return receipt;
        }
        if self.drop_if.as_ref().is_some_and(|fits| fits(&outgoing)) {
            return receipt;
        }
        if !self.delay.is_zero() && self.line.is_none() {
            self.line = Some(start_line());
        }
        for to in links.iter().filter_map(|link| self.links.get(link)) {
            let Some(line) = &self.line else {
                to.deliver(outgoing.subject.as_str(), outgoing.payload.clone());
                continue;
            };
            let delivery = Delivery {
                due: Instant::now() + self.delay,
                to: to.clone(),
                subject: outgoing.subject.clone(),
                payload: outgoing.payload.clone(),
            };
            if line.try_send(delivery).is_err() {
                to.broken(BusError::new(BusErrorKind::Disconnected, "too many deliveries are delayed"));
            }
        }
        receipt
    }
}

fn start_line() -> mpsc::Sender<Delivery> {
    let (sender, mut line) = mpsc::channel::<Delivery>(DELAYED_DELIVERIES);
    tokio::spawn(async move {
        while let Some(delivery) = line.recv().await {
            tokio::time::sleep_until(delivery.due).await;
            delivery.to.deliver(delivery.subject.as_str(), delivery.payload);
        }
    });
    sender
}

fn gone() -> BusError {
    BusError::new(BusErrorKind::Disconnected, "the memory broker broke the connection")
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").finish_non_exhaustive()
    }
}
