//! How many requests a session makes.

use tokio::time::{Duration, Instant};

/// Counts requests in windows of a second.
#[derive(Debug)]
pub(super) struct Rate {
    window: Instant,
    count: u32,
    refused: u32,
}

/// A session that goes on after this many refusals in a row is closed.
const MAX_REFUSED: u32 = 1_000;

/// What became of a request's wish to be handled.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is handled.
    Admitted,
    /// It is refused; ask again after this many milliseconds.
    Refused(u64),
    /// The session does not listen: close it.
    Hopeless,
}

impl Rate {
    /// Begins to count.
    pub(super) fn new() -> Self {
        Self { window: Instant::now(), count: 0, refused: 0 }
    }

    /// Counts a request against a limit per second.
    pub(super) fn admit(&mut self, limit: u32) -> Admission {
        const WINDOW: Duration = Duration::from_secs(1);
        if self.count >= limit && self.window.elapsed() >= WINDOW || self.count == 0 {
            self.window = Instant::now();
            self.count = 0;
        }
        if self.count < limit {
            self.count += 1;
            self.refused = 0;
            return Admission::Admitted;
        }
        self.refused += 1;
        if self.refused > MAX_REFUSED {
            return Admission::Hopeless;
        }
        let left = WINDOW.saturating_sub(self.window.elapsed());
        Admission::Refused(left.as_millis() as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_has_so_many_requests_and_the_next_as_many_again() {
        let mut rate = Rate::new();
        assert_eq!([rate.admit(2), rate.admit(2)], [Admission::Admitted, Admission::Admitted]);
        assert_eq!(rate.admit(2), Admission::Refused(1001));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(rate.admit(2), Admission::Admitted);
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_listens_is_hopeless() {
        let mut rate = Rate::new();
        rate.admit(1);
        assert!((0..MAX_REFUSED).all(|_| rate.admit(1) == Admission::Refused(1001)));
        assert_eq!(rate.admit(1), Admission::Hopeless);
    }
}
