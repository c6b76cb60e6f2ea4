//! Whether the node hears the bus, and what its clients are told of it.
//!
//! The bus says when it has lost its connection. That it has one does not mean that anything arrives, so every second the
//! node sends itself a canary through the broker; a node that has not heard one for three seconds is deaf.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use metrics::gauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::model::Millis;
use crate::protocol::ServerFrame;
use crate::server::core::{Core, unix_now};
use crate::server::flow::LocalSession;
use crate::server::service;
use crate::telemetry;

/// Clients are told when the bus has been lost for this long.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// How often a node sends itself a canary, and for how long it does without one.
pub(super) const CANARY_EVERY: Duration = Duration::from_secs(1);
const DEAF_AFTER: Duration = Duration::from_secs(3);

/// A deaf node hears again after so many canaries in a row.
const CANARIES_IN_A_ROW: u32 = 3;

/// A node that has been deaf, or without its bus, for this time leaves new clients to the others, if one of them hears
/// better by so many milliseconds at two beats in a row or more, and has done so for long enough that it is not only the
/// first to be back after the broker was away for all.
const WITHDRAW_AFTER: Duration = Duration::from_secs(5);
const BETTER_BY: Millis = 4_000;
const BEATS_IN_A_ROW: u32 = 2;
const BETTER_FOR: Duration = Duration::from_secs(3);

/// What the node last heard of the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// There is no connection.
    Lost { since: Millis },
    /// There is one, and nothing comes through it.
    Deaf { since: Millis },
    /// All is well, or was missed since then.
    Resumed { sweep_since: Millis },
}

/// What the canaries have told.
#[derive(Debug)]
struct Canaries {
    /// Canaries are numbered by the milliseconds since.
    zero: Instant,
    /// When the last one was heard, or could first have been.
    heard: Instant,
    /// When the last one was heard, by the database's clock.
    heard_at: Millis,
    /// One was heard that the node's row does not tell of.
    fresh: bool,
    in_a_row: u32,
    /// When the last one before the silence was heard, by the database's clock.
    missed_since: Millis,
    /// Since when none is heard though there is a connection; only canaries end it.
    deaf_since: Option<Instant>,
    /// Since when there is no connection.
    lost_since: Option<Instant>,
    /// Since when, and at how many beats in a row, a peer heard better.
    outdone: Option<(Instant, u32)>,
}

/// The node's hearing.
#[derive(Debug)]
pub(crate) struct Health {
    heard: watch::Sender<Heard>,
    /// Since when clients know of trouble, ms since 1970; 0: they know of none.
    degraded_since: AtomicI64,
    canaries: Mutex<Canaries>,
    /// Held while everybody is told, so that a session that asks at the same time hears it once and in order.
    telling: Mutex<()>,
}

impl Health {
    /// Makes the hearing of a node that starts with or without its bus.
    pub(crate) fn new(connected: bool, now: Millis) -> Self {
        let heard = if connected { Heard::Resumed { sweep_since: now } } else { Heard::Lost { since: unix_now() } };
        let zero = Instant::now();
        let canaries = Canaries {
            zero,
            heard: zero,
            heard_at: now,
            fresh: false,
            in_a_row: 0,
            missed_since: now,
            deaf_since: None,
            lost_since: (!connected).then_some(zero),
            outdone: None,
        };
        Self {
            heard: watch::Sender::new(heard),
            degraded_since: AtomicI64::new(0),
            canaries: Mutex::new(canaries),
            telling: Mutex::default(),
        }
    }

    /// Notes that the inbox lost the bus.
    pub(crate) fn bus_lost(&self) {
        self.canaries().lost_since.get_or_insert_with(Instant::now);
        self.heard.send_if_modified(|heard| match heard {
            Heard::Lost { .. } => false,
            Heard::Deaf { .. } | Heard::Resumed { .. } => {
                *heard = Heard::Lost { since: unix_now() };
                true
            }
        });
    }

    /// Notes that the inbox hears again; what was published since then may have been missed.
    pub(crate) fn bus_resumed(&self, sweep_since: Millis) {
        let mut canaries = self.canaries();
        canaries.lost_since = None;
        // A node that was deaf before the connection broke is not well because there is a new one.
        if canaries.deaf_since.is_none() {
            canaries.heard = Instant::now();
            self.heard.send_replace(Heard::Resumed { sweep_since });
        } else {
            self.heard.send_replace(Heard::Deaf { since: unix_now() });
        }
    }

    /// Returns the number of a canary that is sent now.
    pub(super) fn next_canary(&self) -> u64 {
        self.canaries().zero.elapsed().as_millis() as u64
    }

    /// Notes a canary of this node's own. One that was long on its way tells nothing.
    pub(crate) fn heard_canary(&self, number: u64, database_now: Millis) {
        let mut canaries = self.canaries();
        if canaries.zero + Duration::from_millis(number) + DEAF_AFTER < Instant::now() {
            return;
        }
        (canaries.heard, canaries.fresh) = (Instant::now(), true);
        let missed_since = std::mem::replace(&mut canaries.heard_at, database_now);
        if canaries.deaf_since.is_none() {
            return;
        }
        canaries.in_a_row += 1;
        if canaries.in_a_row == 1 {
            // What was missed begins before the first that came through again.
            canaries.missed_since = missed_since;
        }
        if canaries.in_a_row >= CANARIES_IN_A_ROW {
            (canaries.deaf_since, canaries.outdone) = (None, None);
            let sweep_since = canaries.missed_since;
            self.heard.send_if_modified(|heard| match heard {
                Heard::Deaf { .. } => {
                    *heard = Heard::Resumed { sweep_since };
                    true
                }
                Heard::Lost { .. } | Heard::Resumed { .. } => false,
            });
        }
    }

    #[cfg(test)]
    fn since(&self) -> Millis {
        match *self.heard.borrow() {
            Heard::Lost { since } | Heard::Deaf { since } | Heard::Resumed { sweep_since: since } => since,
        }
    }

    /// Returns when to look whether a canary is missing.
    pub(super) fn canary_due(&self) -> Instant {
        self.canaries().heard + DEAF_AFTER
    }

    /// Notes that none has come for so long, though there is a connection. `false`: one has come, or there is none.
    pub(super) fn miss_canary(&self) -> bool {
        let mut canaries = self.canaries();
        if canaries.heard + DEAF_AFTER > Instant::now() {
            return false;
        }
        canaries.in_a_row = 0;
        canaries.heard = Instant::now();
        let deaf = self.heard.send_if_modified(|heard| match heard {
            Heard::Resumed { .. } => {
                *heard = Heard::Deaf { since: unix_now() };
                true
            }
            // Without a connection nothing can come, and that is known.
            Heard::Lost { .. } | Heard::Deaf { .. } => false,
        });
        if deaf {
            canaries.deaf_since.get_or_insert_with(Instant::now);
        }
        matches!(*self.heard.borrow(), Heard::Deaf { .. })
    }

    /// Tells whether a canary was heard since this was last asked, for the node's row.
    pub(super) fn take_fresh(&self) -> bool {
        std::mem::take(&mut self.canaries().fresh)
    }

    /// Compares with the best hearing of a peer that takes clients, by the database's clock, once a beat. `true`: this
    /// node should leave new clients to the others.
    pub(super) fn is_outdone(&self, best: Option<Millis>) -> bool {
        let mut canaries = self.canaries();
        if best.is_none_or(|best| best < canaries.heard_at + BETTER_BY) {
            canaries.outdone = None;
            return false;
        }
        let (since, beats) = canaries.outdone.map_or((Instant::now(), 1), |(since, beats)| (since, beats + 1));
        canaries.outdone = Some((since, beats));
        let ill = [canaries.deaf_since, canaries.lost_since].into_iter().flatten();
        let long = ill.min().is_some_and(|since| since.elapsed() >= WITHDRAW_AFTER);
        let outdone = long && beats >= BEATS_IN_A_ROW && since.elapsed() >= BETTER_FOR;
        if outdone {
            // A new connection alone does not bring new clients back.
            canaries.deaf_since.get_or_insert_with(Instant::now);
        }
        outdone
    }

    /// Tells whether the inbox hears the bus.
    pub(crate) fn bus_ok(&self) -> bool {
        matches!(*self.heard.borrow(), Heard::Resumed { .. })
    }

    /// Begins to tell a session that has been welcomed, with how things stand when they do not stand well. `true`: it has
    /// missed other events while it logged in.
    pub(crate) fn welcome(&self, session: &LocalSession) -> bool {
        let _telling = self.telling();
        let missed = session.welcome();
        if self.degraded_since.load(Ordering::Acquire) != 0 {
            session.event(&self.picture());
        }
        missed
    }

    /// Returns the frame that says how things stand.
    pub(crate) fn picture(&self) -> Bytes {
        match self.degraded_since.load(Ordering::Acquire) {
            0 => ServerFrame::Restored {},
            since => ServerFrame::Degraded { since },
        }
        .to_line()
    }

    /// Tells everybody since when things do not stand well, or with 0 that they do. One trouble after another is the
    /// same trouble to them.
    fn tell(&self, core: &Core, since: Millis) {
        let _telling = self.telling();
        if (self.degraded_since.load(Ordering::Acquire) == 0) == (since == 0) {
            return;
        }
        self.degraded_since.store(since, Ordering::Release);
        let frame = self.picture();
        for session in core.locals.all().iter().filter(|session| session.is_welcomed()) {
            session.event(&frame);
        }
    }

    fn canaries(&self) -> MutexGuard<'_, Canaries> {
        self.canaries.lock().expect("no code panics while it holds the canaries")
    }

    fn telling(&self) -> MutexGuard<'_, ()> {
        self.telling.lock().expect("no code panics while it tells")
    }
}

/// Watches the hearing until the node stops: tells clients, writes the node's row, and sweeps before it says that all
/// is well.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut heard = core.health.heard.subscribe();
    heard.mark_changed();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = heard.changed() => if changed.is_err() { return },
        }
        let now = *heard.borrow_and_update();
        gauge!(telemetry::BUS_CONNECTED).set(if matches!(now, Heard::Resumed { .. }) { 1.0 } else { 0.0 });
        core.lease.beat_now();
        match now {
            Heard::Lost { since } => {
                tracing::warn!("the bus is lost, messages of other nodes come through the log");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(TELL_AFTER) => core.health.tell(&core, since),
                    // It is back before anybody was told.
                    changed = heard.changed() => if changed.is_err() { return } else { heard.mark_changed() },
                }
            }
            Heard::Deaf { since } => {
                tracing::warn!("the node hears nothing through its bus, messages of other nodes come through the log");
                core.health.tell(&core, since);
            }
            Heard::Resumed { sweep_since } => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    // Lost again before the sweep was done: nothing is said.
                    changed = heard.changed() => if changed.is_err() { return } else { heard.mark_changed() },
                    () = core.repairs.swept(sweep_since) => {
                        tracing::info!("the bus is heard and the log is swept");
                        core.health.tell(&core, 0);
                        core.lease.return_to_service();
                        // What no log has may have been missed meanwhile.
                        tokio::spawn(service::pictures(Arc::clone(&core)));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
