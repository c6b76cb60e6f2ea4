//! Whether the node hears the bus, and what its clients are told of it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use metrics::gauge;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::model::Millis;
use crate::protocol::ServerFrame;
use crate::server::core::{Core, unix_now};
use crate::server::flow::LocalSession;
use crate::server::service;
use crate::telemetry;

/// Clients are told when the bus has been lost for this long.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// What the inbox has last heard of the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Lost { since: Millis },
    Resumed { sweep_since: Millis },
}

/// The node's hearing.
#[derive(Debug)]
pub(crate) struct Health {
    heard: watch::Sender<Heard>,
    /// Since when clients know of trouble, ms since 1970; 0: they know of none.
    degraded_since: AtomicI64,
    /// Held while everybody is told, so that a session that asks at the same time hears it once and in order.
    telling: Mutex<()>,
}

impl Health {
    /// Makes the hearing of a node that starts with or without its bus.
    pub(crate) fn new(connected: bool, now: Millis) -> Self {
        let heard = if connected { Heard::Resumed { sweep_since: now } } else { Heard::Lost { since: unix_now() } };
        Self { heard: watch::Sender::new(heard), degraded_since: AtomicI64::new(0), telling: Mutex::default() }
    }

    /// Notes that the inbox lost the bus.
    pub(crate) fn bus_lost(&self) {
        self.heard.send_if_modified(|heard| match heard {
            Heard::Lost { .. } => false,
            Heard::Resumed { .. } => {
                *heard = Heard::Lost { since: unix_now() };
                true
            }
        });
    }

    /// Notes that the inbox hears again; what was published since then may have been missed.
    pub(crate) fn bus_resumed(&self, sweep_since: Millis) {
        self.heard.send_replace(Heard::Resumed { sweep_since });
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
            Heard::Resumed { sweep_since } => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    // Lost again before the sweep was done: nothing is said.
                    changed = heard.changed() => if changed.is_err() { return } else { heard.mark_changed() },
                    () = core.repairs.swept(sweep_since) => {
                        tracing::info!("the bus is heard and the log is swept");
                        core.health.tell(&core, 0);
                        // What no log has may have been missed meanwhile.
                        tokio::spawn(service::pictures(Arc::clone(&core)));
                    }
                }
            }
        }
    }
}
