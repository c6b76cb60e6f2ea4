use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;

use crate::model::Millis;

/// Follows the database's clock without asking it.
#[derive(Debug)]
pub(super) struct Clock {
    zero: Instant,
    offset: AtomicI64,
}

impl Clock {
    /// Begins when the database's clock shows `now`.
    pub(super) fn new(now: Millis) -> Self {
        Self { zero: Instant::now(), offset: AtomicI64::new(now) }
    }

    /// Notes what it shows.
    pub(super) fn set(&self, now: Millis) {
        self.offset.store(now - self.elapsed() as Millis, Ordering::Release);
    }

    /// Returns what it shows, as far as it is known here.
    pub(super) fn now(&self) -> Millis {
        self.offset.load(Ordering::Acquire) + self.elapsed() as Millis
    }

    /// Returns the milliseconds since it began, by this process.
    pub(super) fn elapsed(&self) -> u64 {
        self.zero.elapsed().as_millis() as u64
    }
}
