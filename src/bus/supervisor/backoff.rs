//! How long to wait before the next attempt to connect.

use std::time::Duration;

use rand::RngExt;

/// The shortest delay.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest delay.
const LONGEST: Duration = Duration::from_secs(1);

/// Delays that grow from 100 ms to 1 s, each with jitter, so that the nodes of a cluster do not come back to a broker
/// in step.
#[derive(Debug)]
pub(super) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { ceiling: SHORTEST * 2 }
    }

    /// Starts again with the shortest delays.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    /// Returns the next delay.
    pub(super) fn next(&mut self) -> Duration {
        let delay = rand::rng().random_range(SHORTEST..=self.ceiling);
        self.ceiling = (self.ceiling * 2).min(LONGEST);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_second_and_stay_in_bounds() {
        let mut backoff = Backoff::new();
        assert!(backoff.next() <= SHORTEST * 2);
        let later: Vec<Duration> = (0..1000).map(|_| backoff.next()).collect();
        assert!(later.iter().all(|delay| (SHORTEST..=LONGEST).contains(delay)));
        assert!(later.iter().any(|delay| *delay > LONGEST / 2), "the delays do not grow");
        assert!(later.windows(2).any(|pair| pair[0] != pair[1]), "the delays have no jitter");
        backoff.reset();
        assert!(backoff.next() <= SHORTEST * 2);
    }
}
