use std::time::Duration;

use tokio::time::Instant;

/// After this much silence, of either side, the client sends `ping`.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a `pong`, or any other frame, may take.
const PONG_WITHIN: Duration = Duration::from_secs(15);

/// How many pings in a row may go unanswered before the link counts as dead.
const MISSES: u32 = 2;

/// After this long without a byte the link is dead, whatever could be written meanwhile.
const DEAD_AFTER: Duration = Duration::from_secs(75);

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    Wait,
    Ping,
    Dead,
}

/// Finds out whether the other side still lives.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    heard: Instant,
    said: Instant,
    pinged: Option<Instant>,
    missed: u32,
}

impl Heartbeat {
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard: now, said: now, pinged: None, missed: 0 }
    }

    /// Notes that bytes came, or that nothing can be said about them because the client itself is not reading.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.pinged = None;
        self.missed = 0;
    }

    /// Notes that something was written.
    pub(crate) fn said(&mut self, now: Instant) {
        self.said = now;
    }

    /// Returns the moment of the next check.
    pub(crate) fn deadline(&self) -> Instant {
        let next = match self.pinged {
            Some(at) => at + PONG_WITHIN,
            None => self.heard.min(self.said) + SILENCE,
        };
        next.min(self.heard + DEAD_AFTER)
    }

    /// Says what is to be done; `Ping` counts as sent.
    pub(crate) fn check(&mut self, now: Instant) -> Beat {
        if now < self.deadline() {
            return Beat::Wait;
        }
        self.missed += u32::from(self.pinged.is_some());
        if self.missed >= MISSES || now >= self.heard + DEAD_AFTER {
            return Beat::Dead;
        }
        self.pinged = Some(now);
        self.said = now;
        Beat::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn two_missed_pongs_are_a_dead_link() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start);
        assert_eq!(heartbeat.check(start + seconds(29)), Beat::Wait);
        assert_eq!(heartbeat.check(start + seconds(30)), Beat::Ping);
        assert_eq!(heartbeat.check(start + seconds(44)), Beat::Wait);
        assert_eq!(heartbeat.check(start + seconds(45)), Beat::Ping);
        assert_eq!(heartbeat.check(start + seconds(60)), Beat::Dead);
    }

    #[test]
    fn a_client_that_only_listens_pings_and_lives() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start);
        for second in 1..300 {
            heartbeat.heard(start + seconds(second));
            let expected = if second % 30 == 0 { Beat::Ping } else { Beat::Wait };
            assert_eq!(heartbeat.check(start + seconds(second)), expected, "second {second}");
        }
    }

    #[test]
    fn a_link_without_a_byte_dies_whatever_was_written() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start);
        heartbeat.said(start + seconds(70));
        assert_eq!(heartbeat.check(start + seconds(75)), Beat::Dead);
    }
}
