//! Sends the sessions of a node away.
//!
//! Whoever is sent away logs in elsewhere at once, which costs the other nodes more than any message. A node that others
//! take over from therefore lets its sessions go one after the other; each of them is away for a moment only. One that
//! cannot wait tells all of them at once, and lets them come back over the same time.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::protocol::{CloseReason, RequestId};
use crate::server::core::Core;
use crate::server::front::Outbox;

/// So many sessions a second come back to the other nodes ...
const PER_SECOND: u64 = 1_000;

/// ... and more when there are so many that it would take longer than this.
const AT_MOST: Duration = Duration::from_secs(20);

/// A session that is let go one after the other comes back within this time: before its friends are told that it has gone.
const MOMENT: Duration = Duration::from_secs(1);

/// Sessions that are told all at once come back within this time at least.
const AT_LEAST: Duration = Duration::from_secs(2);

/// What the sessions of a node are told when it lets go of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Farewell {
    reason: CloseReason,
    /// How long it takes until all are told.
    over: Duration,
    /// The longest that one is to wait before it comes back.
    away: Duration,
}

impl Farewell {
    /// Makes the farewell to so many sessions.
    pub(crate) fn new(reason: CloseReason, sessions: usize) -> Self {
        let spread = AT_MOST.min(Duration::from_millis(sessions as u64 * 1_000 / PER_SECOND));
        match reason {
            CloseReason::Drain => Self { reason, over: spread, away: MOMENT },
            _ => Self { reason, over: Duration::ZERO, away: spread.max(AT_LEAST) },
        }
    }

    /// Says it to one session.
    pub(crate) fn say(&self, outbox: &Outbox, id: Option<RequestId>) {
        outbox.close(self.reason, rand::random_range(0..=self.away.as_millis() as u64), id);
    }
}

/// Says farewell to every session that has logged in.
pub(crate) async fn send_away(core: &Core) {
    let (sessions, farewell, begun) = (core.locals.all(), core.farewell(), Instant::now());
    for (place, session) in sessions.iter().enumerate() {
        sleep_until(begun + farewell.over.mul_f64(place as f64 / sessions.len() as f64)).await;
        farewell.say(&session.outbox, None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::server::scene::{Client, Cluster, eventually};

    #[test]
    fn the_more_sessions_there_are_the_longer_it_takes_until_all_are_told_up_to_a_limit() {
        let over = |sessions| Farewell::new(CloseReason::Drain, sessions).over;
        assert_eq!([0, 1, 500, 19_000].map(over), [0, 1, 500, 19_000].map(Duration::from_millis));
        assert_eq!([20_000, 1_000_000].map(over), [Duration::from_secs(20); 2]);
    }

    #[test]
    fn who_is_told_at_once_with_all_the_others_comes_back_over_a_longer_time() {
        for reason in [CloseReason::Shutdown, CloseReason::Fenced] {
            let away = |sessions| Farewell::new(reason, sessions).away;
            assert_eq!([0, 500, 7_000, 1_000_000].map(away), [2, 2, 7, 20].map(Duration::from_secs));
            assert_eq!(Farewell::new(reason, 7_000).over, Duration::ZERO);
        }
        assert_eq!(Farewell::new(CloseReason::Drain, 1_000_000).away, Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_of_a_node_that_drains_are_told_one_after_the_other() {
        let cluster = Cluster::new().await;
        let a = cluster.node("node-a").await;
        let mut clients = Vec::new();
        for user in cluster.users(["alice", "bob", "carol"]).await {
            clients.push(Client::login(&a, user).await);
        }
        let (over, away) = (Duration::from_secs(3), MOMENT);
        a.core.farewell.set(Farewell { reason: CloseReason::Drain, over, away }).unwrap();
        let begun = Instant::now();
        let core = Arc::clone(&a.core);
        let sending = tokio::spawn(async move { send_away(&core).await });
        let told = || clients.iter().filter(|client| client.outbox.closing() == Some(CloseReason::Drain)).count();
        for (place, after) in [(1, 0), (2, 1_000), (3, 2_000)] {
            eventually("one more is told", || told() == place).await;
            let after = Duration::from_millis(after);
            assert!((after..after + Duration::from_millis(10)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        }
        sending.await.unwrap();
    }
}
