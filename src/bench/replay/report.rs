use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::super::ledger::{Tally, Verdict};

/// What a run came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// How many users took part.
    pub users: usize,
    /// How many messages the script has.
    pub messages: usize,
    /// From the first message's time to the last arrival.
    pub elapsed: Duration,
    /// What became of each message.
    pub verdict: Verdict,
    /// From the moment at which a message should have been sent to each of its arrivals.
    pub to_each: Latency,
    /// From the moment at which a message should have been sent to its last arrival.
    pub to_last: Latency,
    /// How many sessions each node had at the end.
    pub nodes: BTreeMap<String, usize>,
    /// How often a session had to connect again.
    pub reconnects: u64,
    /// How often a session was told that its node has no bus.
    pub degraded: u64,
    /// The first of what servers refused or complained about.
    pub complaints: Vec<String>,
}

/// A distribution of times, in a few numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// Half came sooner.
    pub p50: Duration,
    /// 99 of 100 came sooner.
    pub p99: Duration,
    /// The latest.
    pub max: Duration,
}

impl Latency {
    pub(super) fn of(micros: &Histogram<u64>) -> Self {
        let at = |quantile| Duration::from_micros(micros.value_at_quantile(quantile));
        if micros.is_empty() {
            return Self::default();
        }
        Self { p50: at(0.5), p99: at(0.99), max: Duration::from_micros(micros.max()) }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(f, "p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", millis(self.p50), millis(self.p99), millis(self.max))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { acknowledged, refused, expected, delivered, lost, duplicated, reordered, .. } = &self.verdict;
        let seconds = self.elapsed.as_secs_f64().max(1e-6);
        writeln!(f, "users        {}", self.users)?;
        for (node, sessions) in &self.nodes {
            writeln!(f, "  on {node}  {sessions}")?;
        }
        writeln!(f, "messages     {} sent, {acknowledged} acknowledged, {refused} refused", self.verdict.attempted)?;
        writeln!(f, "deliveries   {delivered} of {expected}")?;
        let rate = |count: u64| count as f64 / seconds;
        writeln!(
            f,
            "rate         {:.0} messages/s, {:.0} deliveries/s over {seconds:.1} s",
            rate(*acknowledged),
            rate(*delivered)
        )?;
        writeln!(f, "to each      {}", self.to_each)?;
        writeln!(f, "to the last  {}", self.to_last)?;
        if self.reconnects > 0 || self.degraded > 0 {
            writeln!(f, "reconnects   {}, sessions told of a lost bus {}", self.reconnects, self.degraded)?;
        }
        let Tally { count: lost_count, .. } = lost;
        writeln!(f, "lost {lost_count}, duplicated {}, reordered {}", duplicated.count, reordered.count)?;
        if self.verdict.unanswered() > 0 {
            writeln!(f, "never acknowledged {}", self.verdict.unanswered())?;
        }
        for (what, tally) in [("lost", lost), ("duplicated", duplicated), ("reordered", reordered)] {
            for finding in &tally.first {
                writeln!(f, "{what}: {finding}")?;
            }
            if tally.count > tally.first.len() as u64 {
                writeln!(f, "{what}: and {} more", tally.count - tally.first.len() as u64)?;
            }
        }
        for complaint in &self.complaints {
            writeln!(f, "{complaint}")?;
        }
        Ok(())
    }
}
