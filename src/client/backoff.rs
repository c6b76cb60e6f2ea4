use std::time::Duration;

use rand::RngExt;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// How long to wait between attempts to connect: full jitter under a bound that doubles from 100 ms to 5 s, so that
/// clients that lost the same server do not come back in one wave.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Forgets the failures, after a connection that lasted.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        rand::rng().random_range(Duration::ZERO..=bound)
    }

    fn bound(&self) -> Duration {
        FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_five_seconds_and_no_wait_exceeds_it() {
        let mut backoff = Backoff::default();
        let mut bounds = Vec::new();
        for _ in 0..40 {
            let bound = backoff.bound();
            bounds.push(bound.as_millis());
            assert!(backoff.next() <= bound);
        }
        assert_eq!(bounds[..8], [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(bounds[39], 5000);
        backoff.reset();
        assert_eq!(backoff.bound(), FIRST);
    }
}
