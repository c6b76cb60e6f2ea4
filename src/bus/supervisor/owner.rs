//! The task that owns the link.

use std::convert::Infallible;
use std::error::Error;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backend::{Backend, Incoming, Link};
use super::backoff::Backoff;
use super::table::Work;
use super::{Live, Shared};
use crate::bus::{BusError, BusErrorKind, BusState, Subject};

/// How long one attempt to connect may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// How long the broker may take to confirm a chunk of subscriptions.
const BARRIER_DEADLINE: Duration = Duration::from_secs(5);
/// How often a link is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long a ping may take; with the interval, a half-open link is found within 3 s.
const PING_DEADLINE: Duration = Duration::from_secs(2);
/// How long `close` may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// How many subjects go to the broker in one command.
const CHUNK: usize = 1000;

/// The owner of the link: connects, reconciles, pings, gives up, connects again, until the bus is closed.
pub(super) struct Owner<B: Backend> {
    backend: Arc<B>,
    shared: Arc<Shared<B::Link>>,
    backoff: Backoff,
    attempts: u64,
    epoch: u64,
    last_failure: String,
}

impl<B: Backend> Owner<B> {
    pub(super) fn new(backend: Arc<B>, shared: Arc<Shared<B::Link>>) -> Self {
        Self { backend, shared, backoff: Backoff::new(), attempts: 0, epoch: 0, last_failure: String::new() }
    }

    pub(super) async fn run(mut self) {
        let _ended = Ended(Arc::clone(&self.shared));
        let closing = self.shared.closing.clone();
        while !closing.is_cancelled() {
            let incoming = Incoming::new(Arc::clone(&self.shared.table), self.attempts);
            self.attempts += 1;
            let attempt = timeout(CONNECT_DEADLINE, self.backend.connect(incoming.clone()));
            let connected = tokio::select! {
                () = closing.cancelled() => break,
                connected = attempt => connected.unwrap_or_else(|_| Err(slow("a connection"))),
            };
            match connected {
                Ok(link) => self.live(link, incoming).await,
                Err(error) => self.note_failure(&error),
            }
            let delay = self.backoff.next();
            tokio::select! {
                () = closing.cancelled() => {}
                () = sleep(delay) => {}
            }
        }
    }

    /// Lives with one link until it breaks or the bus is closed.
    async fn live(&mut self, link: B::Link, incoming: Incoming) {
        let live = Arc::new(Live { link, given_up: CancellationToken::new() });
        let shared = Arc::clone(&self.shared);
        shared.table.begin(incoming.link());
        let reason = tokio::select! {
            biased;
            () = shared.closing.cancelled() => None,
            reason = incoming.breakage() => Some(reason),
            Err(reason) = watch(&live.link) => Some(reason),
            Err(reason) = self.reconcile(&live) => Some(reason),
        };
        match reason {
            Some(reason) => self.give_up(&live, &reason),
            None => self.take_leave(&live).await,
        }
    }

    /// Brings the broker's subscriptions in line with the wanted ones, for as long as the link lives.
    async fn reconcile(&mut self, live: &Arc<Live<B::Link>>) -> Result<Infallible, BusError> {
        let shared = Arc::clone(&self.shared);
        let mut announced = false;
        loop {
            let announce = || {
                self.announce(live);
                announced = true;
            };
            match shared.table.work(CHUNK, announce) {
                Some(work) => self.carry_out(&live.link, work, announced).await?,
                None => shared.table.changed().await,
            }
        }
    }

    /// Does one piece of work; endings first, so that who has subscribed knows that what was dropped before is gone. A
    /// refusal concerns only those who ask for it now; of a subject that was effective before, it breaks the link.
    async fn carry_out(&self, link: &B::Link, work: Work, announced: bool) -> Result<(), BusError> {
        if !work.unsubscribe.is_empty() {
            within(BARRIER_DEADLINE, "the end of a subscription", link.unsubscribe(&work.unsubscribe)).await?;
            self.shared.table.left(&work.unsubscribe);
        }
        if !work.subscribe.is_empty() {
            match within(BARRIER_DEADLINE, "a subscription", link.subscribe(&work.subscribe)).await {
                Ok(()) => self.shared.table.joined(&work.subscribe),
                Err(error) if announced && error.kind() == BusErrorKind::Rejected => {
                    self.one_by_one(link, &work.subscribe, error).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Finds out which of several subjects the broker refuses, so that the others do not suffer for it.
    async fn one_by_one(&self, link: &B::Link, subjects: &[Subject], error: BusError) -> Result<(), BusError> {
        if let [_] = subjects {
            self.shared.table.refused(subjects, &error);
            return Ok(());
        }
        for subject in subjects {
            let subject = std::slice::from_ref(subject);
            match within(BARRIER_DEADLINE, "a subscription", link.subscribe(subject)).await {
                Ok(()) => self.shared.table.joined(subject),
                Err(error) if error.kind() == BusErrorKind::Rejected => self.shared.table.refused(subject, &error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lets publishes through, then says so: whoever hears of the connection can use it.
    fn announce(&mut self, live: &Arc<Live<B::Link>>) {
        self.epoch += 1;
        self.backoff.reset();
        self.last_failure.clear();
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(live));
        self.shared.state.send_replace(BusState::Connected { epoch: self.epoch });
        info!(backend = ?self.backend, epoch = self.epoch, "bus connected");
    }

    /// Gives the link up: publishes fail, subscribers hear `Lost`.
    fn give_up(&mut self, live: &Live<B::Link>, reason: &BusError) {
        let was_connected = self.shared.withdraw();
        live.given_up.cancel();
        let why = chain(reason);
        self.shared.table.end(&why);
        if was_connected {
            warn!(backend = ?self.backend, reason = why, "bus lost, reconnecting");
        } else {
            self.note_failure(reason);
        }
    }

    /// Waits for the publishes under way, then for the broker's farewell, in bounded time.
    async fn take_leave(&self, live: &Live<B::Link>) {
        self.shared.table.refuse();
        self.shared.publishing.close();
        let farewell = async {
            self.shared.publishing.wait().await;
            live.link.close().await
        };
        match timeout(CLOSE_DEADLINE, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(error = chain(&error), "bus closed without a farewell"),
            Err(_) => self.shared.cut.store(true, Ordering::Relaxed),
        }
        live.given_up.cancel();
    }

    /// Logs why there is no connection, once per reason.
    fn note_failure(&mut self, error: &BusError) {
        let failure = chain(error);
        if failure == self.last_failure {
            debug!(backend = ?self.backend, error = failure, "bus still not connected");
        } else {
            warn!(backend = ?self.backend, error = failure, "bus not connected, trying again");
            self.last_failure = failure;
        }
    }
}

impl<L> Shared<L> {
    /// Lets no publish through any more and says so. Tells whether there was a connection.
    fn withdraw(&self) -> bool {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.state.send_if_modified(|state| {
            let was_connected = state.is_connected();
            if was_connected {
                *state = BusState::Lost { since: Instant::now() };
            }
            was_connected
        })
    }
}

/// Ends everything that waits for the owner, also when its task panics.
struct Ended<L>(Arc<Shared<L>>);

impl<L> Drop for Ended<L> {
    fn drop(&mut self) {
        self.0.closing.cancel();
        self.0.withdraw();
        self.0.table.close();
        self.0.ended.cancel();
    }
}

/// Pings a link until it does not answer.
async fn watch<L: Link>(link: &L) -> Result<Infallible, BusError> {
    let mut ticks = interval_at(tokio::time::Instant::now() + PING_INTERVAL, PING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        within(PING_DEADLINE, "a ping", link.ping()).await?;
    }
}

async fn within<T>(
    deadline: Duration,
    what: &str,
    answer: impl Future<Output = Result<T, BusError>>,
) -> Result<T, BusError> {
    timeout(deadline, answer).await.unwrap_or_else(|_| Err(slow(what)))
}

fn slow(what: &str) -> BusError {
    BusError::new(BusErrorKind::Timeout, format!("the broker took too long for {what}"))
}

/// Writes an error with its causes in one line.
fn chain(error: &BusError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
