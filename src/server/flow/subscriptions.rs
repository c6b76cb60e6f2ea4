//! The subjects that a node hears beside its inbox: one per user with sessions here, one per group with members here.
//!
//! Whoever needs a subject holds it. The first holder has it subscribed; when the last has let go it lingers for a
//! while, so that a reconnect costs nothing. One task subscribes and unsubscribes, in the order in which it is asked
//! to: else the end of an old session could come behind the beginning of the next one, whose user would be deaf.
//!
//! A barrier is waited for by those who can wait, for a bounded time. Whoever goes on without it has the log looked at
//! often until it has landed, and once more then. Without a connection there is no barrier: what was missed comes with
//! `Resumed`, which the inbox hears.

use std::cmp::Reverse;
use std::collections::hash_map::Entry as Slot;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use metrics::gauge;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::bus::{BusError, BusErrorKind, Subjects};
use crate::model::{ConversationId, Millis, UserId};
use crate::server::core::Core;
use crate::telemetry;

/// A subject that the broker refuses is asked for again after this time.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// What a session read from the log while it was not heard of was committed at most this much before, in milliseconds:
/// as far as an append transaction can last.
const COMMIT_SLACK: Millis = 5_000;

/// What a subject is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Address {
    /// This node.
    Inbox,
    /// A user, wherever their sessions are.
    User(UserId),
    /// A group, wherever its members are.
    Group(ConversationId),
}

/// The subjects that are wanted, and how far each has come.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    per_user: bool,
    linger: Duration,
    book: Mutex<Book>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Book {
    places: HashMap<Address, Place>,
    /// What the owner is to do, in order.
    steps: VecDeque<Step>,
    /// When to look whether a place is still wanted; each is here at most once.
    lingering: BinaryHeap<Reverse<(Instant, Address)>>,
    attempts: u64,
    /// Who waits until the bus has answered for the inbox.
    inbox_waiting: Vec<oneshot::Sender<()>>,
    /// Places on the way that somebody lives with already.
    uncovered: usize,
}

#[derive(Debug)]
struct Place {
    holders: u32,
    /// Whether it is among the lingering, and until when it lingers at least.
    lingers: bool,
    until: Instant,
    /// How it comes to be heard; `None` once it is, or will be with `Resumed`.
    joining: Option<Box<Joining>>,
}

#[derive(Debug)]
struct Joining {
    /// Tells its barrier from earlier ones.
    attempt: u64,
    /// Since when, by the database's clock.
    since: Millis,
    waiting: Vec<oneshot::Sender<()>>,
    /// Somebody has gone on without waiting.
    uncovered: bool,
    /// The broker does not want it, so there is nothing to wait for.
    refused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Join(Address, u64),
    Renew(Address, u64),
    Leave(Address),
}

/// Keeps a subject subscribed.
#[derive(Debug)]
pub(crate) struct Hold {
    subscriptions: Arc<Subscriptions>,
    address: Address,
}

impl Hold {
    /// Goes on, whether the subject is heard or not: what is missed until it is will be looked for.
    pub(crate) fn settle(&self) {
        let mut book = self.subscriptions.lock();
        let joining = book.places.get_mut(&self.address).and_then(|place| place.joining.as_mut());
        if joining.is_some_and(|joining| !std::mem::replace(&mut joining.uncovered, true)) {
            book.uncovered += 1;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.subscriptions.release(self.address);
    }
}

impl Subscriptions {
    /// Makes an empty set. Without `per_user` nothing but the inbox is ever subscribed.
    pub(crate) fn new(per_user: bool, linger: Duration) -> Arc<Self> {
        Arc::new(Self { per_user, linger, book: Mutex::default(), changed: Notify::new() })
    }

    /// Tells whether users and groups have subjects of their own.
    pub(crate) fn per_user(&self) -> bool {
        self.per_user
    }

    /// Holds a user's subject, if users have one.
    pub(crate) fn user(self: &Arc<Self>, user: UserId, now: Millis) -> Option<Hold> {
        self.hold(Address::User(user), now)
    }

    /// Holds a group's subject, if groups have one.
    pub(crate) fn group(self: &Arc<Self>, group: ConversationId, now: Millis) -> Option<Hold> {
        self.hold(Address::Group(group), now)
    }

    fn hold(self: &Arc<Self>, address: Address, now: Millis) -> Option<Hold> {
        if !self.per_user {
            return None;
        }
        let mut guard = self.lock();
        let book = &mut *guard;
        match book.places.entry(address) {
            Slot::Occupied(mut place) => place.get_mut().holders += 1,
            Slot::Vacant(slot) => {
                book.attempts += 1;
                let joining = Some(Box::new(Joining::begin(book.attempts, now)));
                slot.insert(Place { holders: 1, lingers: false, until: Instant::now(), joining });
                book.steps.push_back(Step::Join(address, book.attempts));
                self.changed.notify_one();
            }
        }
        Some(Hold { subscriptions: Arc::clone(self), address })
    }

    fn release(&self, address: Address) {
        let mut guard = self.lock();
        let book = &mut *guard;
        let Some(place) = book.places.get_mut(&address) else { return };
        place.holders -= 1;
        if place.holders > 0 {
            return;
        }
        place.until = Instant::now() + self.linger;
        if !std::mem::replace(&mut place.lingers, true) {
            book.lingering.push(Reverse((place.until, address)));
            if book.lingering.len() == 1 {
                self.changed.notify_one();
            }
        }
    }

    /// Waits until held subjects are heard, at most until then.
    pub(crate) async fn effective(&self, holds: impl IntoIterator<Item = &Hold>, until: Instant) {
        let waiting: Vec<oneshot::Receiver<()>> = {
            let mut book = self.lock();
            let joining = |hold: &Hold| {
                let joining =
                    book.places.get_mut(&hold.address)?.joining.as_mut().filter(|joining| !joining.refused)?;
                let (landed, waiting) = oneshot::channel();
                joining.waiting.push(landed);
                Some(waiting)
            };
            holds.into_iter().filter_map(joining).collect()
        };
        let landed = async {
            for waiting in waiting {
                // The other end goes only with the node.
                waiting.await.unwrap_or(());
            }
        };
        if timeout_at(until, landed).await.is_err() {
            tracing::debug!("the bus takes long to subscribe, going on without it");
        }
    }

    /// Has a subject subscribed anew, because something did not come that should have.
    pub(crate) fn renew(&self, address: Address, now: Millis) {
        let mut guard = self.lock();
        let book = &mut *guard;
        book.attempts += 1;
        let attempt = book.attempts;
        if address != Address::Inbox {
            match book.places.get_mut(&address) {
                Some(place) if place.joining.is_none() => {
                    let joining = Joining { uncovered: true, ..Joining::begin(attempt, now) };
                    place.joining = Some(Box::new(joining));
                    book.uncovered += 1;
                }
                // It comes by itself, or nobody wants it.
                _ => return,
            }
        }
        book.steps.push_back(Step::Renew(address, attempt));
        self.changed.notify_one();
    }

    /// Has everything subscribed anew, because the broker may have forgotten this node. The future waits until it has
    /// answered for all of it; while the bus is not connected there is nothing to wait for.
    pub(crate) fn renew_all(&self, now: Millis) -> impl Future<Output = ()> + use<> {
        let mut waiting = Vec::new();
        let mut wait = |waiters: &mut Vec<oneshot::Sender<()>>| {
            let (landed, wait) = oneshot::channel();
            waiters.push(landed);
            waiting.push(wait);
        };
        {
            let mut guard = self.lock();
            let book = &mut *guard;
            book.attempts += 1;
            book.steps.push_back(Step::Renew(Address::Inbox, book.attempts));
            wait(&mut book.inbox_waiting);
            for (&address, place) in &mut book.places {
                let joining = place.joining.get_or_insert_with(|| {
                    book.attempts += 1;
                    book.uncovered += 1;
                    book.steps.push_back(Step::Renew(address, book.attempts));
                    Box::new(Joining { uncovered: true, ..Joining::begin(book.attempts, now) })
                });
                if !joining.refused {
                    wait(&mut joining.waiting);
                }
            }
        }
        self.changed.notify_one();
        async move {
            for landed in waiting {
                // The other end goes only with the node.
                landed.await.unwrap_or(());
            }
        }
    }

    /// Tells whether the broker may count this node among those that hear a subject.
    pub(super) fn hears(&self, address: Address) -> bool {
        self.lock().places.contains_key(&address)
    }

    /// Tells whether sessions depend on subjects that may not be heard yet.
    pub(crate) fn uncovered(&self) -> bool {
        self.lock().uncovered > 0
    }

    /// Takes what is to be done now, and when to look again.
    fn steps(&self, now: Instant) -> (VecDeque<Step>, Option<Instant>) {
        let mut guard = self.lock();
        let book = &mut *guard;
        let mut steps = std::mem::take(&mut book.steps);
        while let Some(&Reverse((at, address))) = book.lingering.peek().filter(|Reverse((at, _))| *at <= now) {
            book.lingering.pop();
            let Some(place) = book.places.get_mut(&address) else { continue };
            debug_assert!(place.lingers && at <= place.until);
            place.lingers = false;
            if place.holders > 0 {
                continue;
            }
            if place.until > now {
                place.lingers = true;
                book.lingering.push(Reverse((place.until, address)));
                continue;
            }
            let gone = book.places.remove(&address).and_then(|place| place.joining);
            book.uncovered -= usize::from(gone.is_some_and(|joining| joining.uncovered));
            steps.push_back(Step::Leave(address));
        }
        gauge!(telemetry::BUS_SUBJECTS).set(book.places.len() as f64);
        (steps, book.lingering.peek().map(|Reverse((at, _))| *at))
    }

    /// Notes that a barrier has landed. Returns since when something may have been missed, if anybody went on without
    /// it.
    fn landed(&self, address: Address, attempt: u64) -> Option<Millis> {
        let mut book = self.lock();
        let joining = book.places.get_mut(&address)?.joining.take_if(|joining| joining.attempt == attempt)?;
        // Whoever waited may have given up.
        joining.waiting.into_iter().for_each(|landed| landed.send(()).unwrap_or(()));
        if !joining.uncovered {
            return None;
        }
        book.uncovered -= 1;
        Some(joining.since)
    }

    /// Answers whoever waits for the inbox.
    fn inbox_answered(&self) {
        self.lock().inbox_waiting.drain(..).for_each(|landed| landed.send(()).unwrap_or(()));
    }

    /// Notes that the broker refuses a subject: nobody is kept waiting for it.
    fn refused(&self, address: Address, attempt: u64) {
        if address == Address::Inbox {
            return self.inbox_answered();
        }
        let mut book = self.lock();
        let joining = book.places.get_mut(&address).and_then(|place| place.joining.as_mut());
        let Some(joining) = joining.filter(|joining| joining.attempt == attempt) else { return };
        joining.refused = true;
        joining.waiting.drain(..).for_each(|landed| landed.send(()).unwrap_or(()));
        if !std::mem::replace(&mut joining.uncovered, true) {
            book.uncovered += 1;
        }
    }

    /// Asks for a refused subject once more, if it is still wanted.
    fn try_again(&self, address: Address, attempt: u64) {
        let mut book = self.lock();
        let joining = book.places.get(&address).and_then(|place| place.joining.as_ref());
        if joining.is_some_and(|joining| joining.attempt == attempt) {
            book.steps.push_back(Step::Join(address, attempt));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no code panics while it holds the list of subjects")
    }
}

impl Joining {
    fn begin(attempt: u64, since: Millis) -> Self {
        Self { attempt, since, waiting: Vec::new(), uncovered: false, refused: false }
    }
}

/// How a step came out.
enum Outcome {
    Barrier(Result<(), BusError>),
    TryAgain,
}

type Running = BoxFuture<'static, (Address, u64, Outcome)>;

/// Subscribes and unsubscribes until the node stops. Only what is on its way costs more than its place in the book.
pub(crate) async fn run(core: Arc<Core>, subjects: Subjects, stop: CancellationToken) {
    let subscriptions = Arc::clone(&core.subscriptions);
    let mut running: FuturesUnordered<Running> = FuturesUnordered::new();
    loop {
        let (steps, next) = subscriptions.steps(Instant::now());
        for step in steps {
            match step {
                Step::Join(address, attempt) => {
                    let barrier = subjects.add(&core.subject_of(address));
                    running.push(Box::pin(async move { (address, attempt, Outcome::Barrier(barrier.await)) }));
                }
                Step::Renew(address, attempt) => {
                    let barrier = subjects.renew(&core.subject_of(address));
                    running.push(Box::pin(async move { (address, attempt, Outcome::Barrier(barrier.await)) }));
                }
                Step::Leave(address) => subjects.remove(&core.subject_of(address)),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = subscriptions.changed.notified() => {}
            Some((address, attempt, outcome)) = running.next(), if !running.is_empty() => match outcome {
                Outcome::Barrier(Err(error)) if error.kind() == BusErrorKind::Rejected => {
                    tracing::warn!(%error, "the broker refuses a subject, its messages come through the log");
                    subscriptions.refused(address, attempt);
                    running.push(Box::pin(async move {
                        sleep(REFUSED_FOR).await;
                        (address, attempt, Outcome::TryAgain)
                    }));
                }
                // What broke on the way is effective with `Resumed`.
                Outcome::Barrier(_) => landed(&core, address, attempt),
                Outcome::TryAgain => subscriptions.try_again(address, attempt),
            },
            () = async { match next { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
        }
    }
}

fn landed(core: &Core, address: Address, attempt: u64) {
    if address == Address::Inbox {
        core.subscriptions.inbox_answered();
        core.repairs.sweep(core.lease.database_now() - COMMIT_SLACK);
        return;
    }
    let Some(since) = core.subscriptions.landed(address, attempt) else { return };
    match address {
        // Everything that a group's subject brings stands in that group's log.
        Address::Group(group) => {
            core.timelines.due(group);
            core.repairs.holes();
        }
        Address::User(_) | Address::Inbox => core.repairs.sweep(since - COMMIT_SLACK),
    }
}
