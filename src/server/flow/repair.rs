//! What is wanted of the one task that reads the log to mend what the bus did not bring.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{adopt, audit, mend, sweep};
use crate::model::{ConversationId, Millis, UserId};
use crate::server::core::Core;

/// The audit compares every conversation of every local user with the log, clock or no clock.
const AUDIT_EVERY: Duration = Duration::from_secs(30);

/// After the log could not be read.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// Requests to the repair task. They coalesce, so that any number of them costs one pass.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    wanted: Mutex<Wanted>,
    changed: Notify,
    /// Somebody has no bus, so one sweep follows the other.
    carried_by_log: AtomicBool,
}

#[derive(Debug, Default)]
struct Wanted {
    adopt: HashMap<ConversationId, Newcomers>,
    sweep: Option<Millis>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Wanted {
    fn sweep_since(&mut self, since: Millis) {
        self.sweep = Some(self.sweep.map_or(since, |earlier| earlier.min(since)));
    }
}

/// Whose sessions are to be put into a conversation's timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Newcomers {
    /// These users'.
    Users(HashSet<UserId>),
    /// Whoever is a member and here.
    Anybody,
}

impl Repairs {
    /// Asks that the sessions of these new members be put into a conversation's timeline.
    pub(crate) fn adopt_users(&self, conversation: ConversationId, users: impl IntoIterator<Item = UserId>) {
        let mut users = users.into_iter().peekable();
        if users.peek().is_some() {
            let mut wanted = self.lock();
            let newcomers = wanted.adopt.entry(conversation).or_insert_with(|| Newcomers::Users(HashSet::new()));
            if let Newcomers::Users(known) = newcomers {
                known.extend(users);
            }
            self.changed.notify_one();
        }
    }

    /// Asks that the sessions of whoever is a member and here be put into a conversation's timeline.
    pub(crate) fn adopt_anybody(&self, conversation: ConversationId) {
        self.lock().adopt.insert(conversation, Newcomers::Anybody);
        self.changed.notify_one();
    }

    /// Asks for a look at the holes.
    pub(crate) fn holes(&self) {
        self.changed.notify_one();
    }

    /// Asks for a sweep of what has changed since then, by the database's clock; since the last sweep in any case.
    pub(crate) fn sweep(&self, since: Millis) {
        self.lock().sweep_since(since);
        self.changed.notify_one();
    }

    /// Notes whether the log carries messages, because this node or a peer has no bus.
    pub(crate) fn carry_by_log(&self, carried: bool) {
        self.carried_by_log.store(carried, Ordering::Relaxed);
    }

    /// Tells whether the log carries messages.
    pub(super) fn carried_by_log(&self) -> bool {
        self.carried_by_log.load(Ordering::Relaxed)
    }

    /// Asks for a sweep and waits until one that began afterwards has succeeded.
    pub(crate) async fn swept(&self, since: Millis) {
        let (done, waiting) = oneshot::channel();
        {
            // Together, lest a pass that takes no sweep takes the one who waits for it.
            let mut wanted = self.lock();
            wanted.waiting.push(done);
            wanted.sweep_since(since);
        }
        self.changed.notify_one();
        // The other end goes only with the node.
        waiting.await.unwrap_or(());
    }

    /// Takes the sweep that is wanted, unless the last one was a moment ago.
    fn take_sweep(&self, ready: bool) -> (Option<Millis>, Vec<oneshot::Sender<()>>) {
        let mut wanted = self.lock();
        if ready { (wanted.sweep.take(), std::mem::take(&mut wanted.waiting)) } else { (None, Vec::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().expect("no code panics while it holds the list of repairs")
    }
}

/// Runs the repair task until the node stops. One read of the log is in flight at a time.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut sweeper = sweep::Sweeper::new(core.lease.started_at());
    let mut audits = interval_at(Instant::now() + AUDIT_EVERY, AUDIT_EVERY);
    audits.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut next, mut audit_due) = (None, false);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = core.repairs.changed.notified() => {}
            () = async { match next { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
            _ = audits.tick() => audit_due = true,
        }
        match pass(&core, &mut sweeper, audit_due).await {
            Ok(at) => (next, audit_due) = (at, false),
            Err(error) => {
                tracing::warn!(
                    error = %error,
                    source = ?std::error::Error::source(&error),
                    "the log cannot be read for repairs, trying again"
                );
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(RETRY_AFTER) => next = Some(Instant::now()),
                }
            }
        }
    }
}

/// Does what is wanted. What fails is wanted again.
async fn pass(
    core: &Core,
    sweeper: &mut sweep::Sweeper,
    audit_due: bool,
) -> Result<Option<Instant>, crate::model::store::StoreError> {
    let newcomers = std::mem::take(&mut core.repairs.lock().adopt);
    if let Err(error) = adopt::adopt(core, &newcomers).await {
        for (conversation, users) in newcomers {
            match users {
                Newcomers::Users(users) => core.repairs.adopt_users(conversation, users),
                Newcomers::Anybody => core.repairs.adopt_anybody(conversation),
            }
        }
        return Err(error);
    }
    let (sweep, waiting) = core.repairs.take_sweep(sweeper.ready());
    let swept = async {
        if let Some(since) = sweep {
            sweeper.sweep(core, since).await?;
        }
        if audit_due {
            audit::audit(core, sweeper).await?;
        }
        sweeper.judge_suspects(core);
        mend::mend(core).await
    };
    match swept.await {
        Ok((next, more)) => {
            if more {
                // What the sweep found is not all fetched yet.
                core.repairs.lock().waiting.extend(waiting);
            } else {
                waiting.into_iter().for_each(|done| done.send(()).unwrap_or(()));
            }
            let wanted = core.repairs.lock();
            let later = (wanted.sweep.is_some() || !wanted.waiting.is_empty()).then(|| sweeper.next());
            Ok([next, later, sweeper.suspects_due()].into_iter().flatten().min())
        }
        Err(error) => {
            let mut wanted = core.repairs.lock();
            if let Some(since) = sweep {
                wanted.sweep_since(since);
            }
            wanted.waiting.extend(waiting);
            Err(error)
        }
    }
}
