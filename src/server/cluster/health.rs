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
use crate::server::flow::{Address, LocalSession};
use crate::server::service;
use crate::telemetry;

/// Clients are told when the bus has been lost for this long.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// How often a node sends itself a canary, and for how long it does without one.
pub(super) const CANARY_EVERY: Duration = Duration::from_secs(1);
const DEAF_AFTER: Duration = Duration::from_secs(3);

/// A deaf node hears again after so many canaries in a row.
const CANARIES_IN_A_ROW: u32 = 3;

/// A deaf node leaves new clients to the others after this time, if one of them hears better by so many milliseconds at
/// two beats in a row.
const WITHDRAW_AFTER: Duration = Duration::from_secs(5);
const BETTER_BY: Millis = 4_000;
const BEATS_IN_A_ROW: u32 = 2;

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
    /// Since when none is heard.
    deaf_since: Option<Instant>,
    /// Beats in a row at which a peer heard better.
    outdone: u32,
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
            outdone: 0,
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
            (canaries.deaf_since, canaries.outdone) = (None, 0);
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

    /// Notes that none has come for so long.
    pub(super) fn miss_canary(&self) {
        let mut canaries = self.canaries();
        if canaries.heard + DEAF_AFTER > Instant::now() {
            return;
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
    }

    /// Tells whether a canary was heard since this was last asked, for the node's row.
    pub(super) fn take_fresh(&self) -> bool {
        std::mem::take(&mut self.canaries().fresh)
    }

    /// Compares with the best hearing of a peer that takes clients, by the database's clock, once a beat. `true`: this
    /// node should leave new clients to the others.
    pub(super) fn is_outdone(&self, best: Option<Millis>) -> bool {
        let mut canaries = self.canaries();
        let long = canaries.deaf_since.is_some_and(|since| since.elapsed() >= WITHDRAW_AFTER);
        let better = best.is_some_and(|best| best >= canaries.heard_at + BETTER_BY);
        canaries.outdone = if long && better { canaries.outdone + 1 } else { 0 };
        canaries.outdone >= BEATS_IN_A_ROW
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

    fn tell(&self, core: &Core, since: Millis) {
        let _telling = self.telling();
        if self.degraded_since.swap(since, Ordering::AcqRel) == since {
            return;
        }
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
                // A broker may have forgotten it.
                core.subscriptions.renew(Address::Inbox, core.lease.database_now());
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
mod tests {
    use tokio::time::advance;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What a second does to a node that hears its canaries, or does not.
    async fn second(health: &Health, hears: bool, database_now: Millis) {
        let number = health.next_canary();
        if hears {
            health.heard_canary(number, database_now);
        }
        advance(seconds(1)).await;
        if Instant::now() >= health.canary_due() {
            health.miss_canary();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_deaf_three_seconds_after_its_last_canary_and_hears_again_with_the_third() {
        let health = Health::new(true, 0);
        for second_number in 0..10 {
            second(&health, true, second_number * 1_000).await;
        }
        assert!(health.bus_ok());
        assert_eq!(health.canary_due().duration_since(Instant::now()), seconds(2));
        second(&health, false, 0).await;
        assert!(health.bus_ok());
        second(&health, false, 0).await;
        assert!(!health.bus_ok());
        assert_eq!(*health.heard.borrow(), Heard::Deaf { since: health.since() });
        second(&health, true, 20_000).await;
        second(&health, true, 21_000).await;
        assert!(!health.bus_ok(), "two may be luck");
        second(&health, true, 22_000).await;
        // What was missed came behind the last canary that was heard.
        assert_eq!(*health.heard.borrow(), Heard::Resumed { sweep_since: 9_000 });
    }

    #[tokio::test(start_paused = true)]
    async fn canaries_count_in_a_row_and_late_ones_not_at_all() {
        let health = Health::new(true, 0);
        advance(seconds(3)).await;
        health.miss_canary();
        assert!(!health.bus_ok());
        second(&health, true, 1).await;
        second(&health, true, 2).await;
        for _ in 0..4 {
            second(&health, false, 0).await;
        }
        second(&health, true, 3).await;
        assert!(!health.bus_ok(), "there was a silence between them");
        let late = health.next_canary();
        advance(Duration::from_millis(3_001)).await;
        for _ in 0..3 {
            health.heard_canary(late, 4);
        }
        assert!(!health.bus_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_does_not_cure_a_deaf_node() {
        let health = Health::new(true, 0);
        advance(seconds(3)).await;
        health.miss_canary();
        health.bus_lost();
        health.bus_resumed(5);
        assert!(!health.bus_ok());
        for _ in 0..3 {
            second(&health, true, 9).await;
        }
        assert!(health.bus_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_outdone_when_it_is_deaf_for_long_and_another_hears_better_twice() {
        let health = Health::new(true, 10_000);
        advance(seconds(3)).await;
        assert!(!health.is_outdone(Some(20_000)) && !health.is_outdone(Some(20_000)), "it is not known to be deaf");
        health.miss_canary();
        advance(Duration::from_millis(4_999)).await;
        assert!(!health.is_outdone(Some(20_000)) && !health.is_outdone(Some(20_000)), "it is not deaf for long");
        advance(Duration::from_millis(1)).await;
        assert!(!health.is_outdone(Some(14_000)), "once");
        assert!(health.is_outdone(Some(14_000)), "twice");
        assert!(!health.is_outdone(Some(13_999)), "nobody hears so much better");
        assert!(!health.is_outdone(Some(14_000)), "in a row");
        assert!(!health.is_outdone(None), "nobody else is there");
        for _ in 0..3 {
            second(&health, true, 30_000).await;
        }
        assert!(!health.is_outdone(Some(90_000)) && !health.is_outdone(Some(90_000)), "it hears again");
    }
}
