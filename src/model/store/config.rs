use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(any(feature = "postgres", feature = "mysql"))]
use super::remote::Limits;
use super::{Location, Store, StoreError, shown};

/// The longest time to keep entries that can be asked for, in days: a century.
const MAX_RETAIN_DAYS: u32 = 36_500;

/// How many connections one node can ask for, and how long a call can wait for one.
const CONNECTIONS: std::ops::RangeInclusive<u32> = 2..=1_000;
const WAIT: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// `[store]`: where the log is, and how long it keeps what was said.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// `sqlite://path`, `postgres://user:password@host/database`, `mysql://user:password@host/database`, or `memory:`
    /// for a log that is gone with the process.
    pub url: String,
    /// PostgreSQL and MySQL: how many connections this node opens at most.
    pub connections: u32,
    /// PostgreSQL and MySQL: how long a call waits for a free or a new connection before it is unavailable.
    #[serde(with = "crate::duration")]
    pub connection_wait: Duration,
    /// Entries older than this many days are deleted; 0 keeps them for ever.
    pub retain_days: u32,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: "sqlite://data/switchboard.db".to_owned(),
            connections: 8,
            connection_wait: Duration::from_secs(3),
            retain_days: 0,
        }
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("url", &shown(&self.url))
            .field("connections", &self.connections)
            .field("connection_wait", &self.connection_wait)
            .field("retain_days", &self.retain_days)
            .finish()
    }
}

impl StoreConfig {
    /// Opens the log, runs its migrations, and returns it.
    ///
    /// `sqlite://path` is created when missing, its folder too; `memory:` is SQLite in memory. The database of
    /// `postgres://` and `mysql://` has to exist, and may be empty. An error of the kind
    /// [`StoreErrorKind::Config`](super::StoreErrorKind::Config) names what cannot be used and what to do about it.
    pub async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Location::parse(&self.url)?.open(self).await
    }

    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) fn limits(&self) -> Limits {
        Limits { connections: self.connections, wait: self.connection_wait }
    }

    /// Checks the section without opening anything. Returns (key, what is allowed).
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if let Err(error) = Location::parse(&self.url) {
            problems.push(("url", error.to_string()));
        }
        if !CONNECTIONS.contains(&self.connections) {
            let (least, most) = (CONNECTIONS.start(), CONNECTIONS.end());
            problems.push(("connections", format!("must be between {least} and {most}, not {}", self.connections)));
        }
        if !WAIT.contains(&self.connection_wait) {
            let (least, most) = (WAIT.start(), WAIT.end());
            let text = format!("must be between {least:?} and {most:?}, not {:?}", self.connection_wait);
            problems.push(("connection_wait", text));
        }
        if self.retain_days > MAX_RETAIN_DAYS {
            let message = format!("must be between 0 (for ever) and {MAX_RETAIN_DAYS} days, not {}", self.retain_days);
            problems.push(("retain_days", message));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(url: &str, retain_days: u32) -> Vec<(&'static str, String)> {
        StoreConfig { url: url.to_owned(), retain_days, ..StoreConfig::default() }.validate()
    }

    #[test]
    fn the_default_is_valid() {
        assert_eq!(StoreConfig::default().validate(), []);
    }

    #[test]
    fn a_url_of_no_known_database_is_a_problem_that_names_the_key() {
        for url in
            ["", "data/log.db", "redis://localhost", "sqlite://", "sqlite:log.db", "memory:x", "sqlite://a?mode=ro"]
        {
            let problems = problems(url, 0);
            assert_eq!(problems.len(), 1, "{url}");
            assert_eq!(problems[0].0, "url");
            assert!(problems[0].1.contains(&format!("store.url = \"{url}\"")), "{problems:?}");
        }
    }

    #[test]
    fn the_pool_is_bounded_on_both_sides() {
        let pool = |connections, wait_ms| {
            let connection_wait = Duration::from_millis(wait_ms);
            let config = StoreConfig { connections, connection_wait, ..StoreConfig::default() };
            config.validate().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert!(pool(2, 100).is_empty() && pool(1_000, 60_000).is_empty());
        assert_eq!(pool(1, 99), ["connections", "connection_wait"]);
        assert_eq!(pool(1_001, 60_001), ["connections", "connection_wait"]);
    }

    #[test]
    fn a_password_in_the_url_is_not_shown() {
        let config = StoreConfig { url: "postgres://ann:secret@host/log".to_owned(), ..StoreConfig::default() };
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn entries_are_kept_for_a_century_at_most_or_for_ever() {
        assert_eq!(problems("memory:", MAX_RETAIN_DAYS), []);
        assert_eq!(problems("memory:", MAX_RETAIN_DAYS + 1)[0].0, "retain_days");
    }
}
