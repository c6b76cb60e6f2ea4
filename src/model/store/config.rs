use serde::{Deserialize, Serialize};

use super::Location;

/// The longest time to keep entries that can be asked for, in days: a century.
const MAX_RETAIN_DAYS: u32 = 36_500;

/// `[store]`: where the log is, and how long it keeps what was said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// `sqlite://path`, or `memory:` for a log that is gone with the process.
    pub url: String,
    /// Entries older than this many days are deleted; 0 keeps them for ever.
    pub retain_days: u32,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { url: "sqlite://data/switchboard.db".to_owned(), retain_days: 0 }
    }
}

impl StoreConfig {
    /// Checks the section without opening anything. Returns (key, what is allowed).
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if let Err(error) = Location::parse(&self.url) {
            problems.push(("url", error.to_string()));
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
        StoreConfig { url: url.to_owned(), retain_days }.validate()
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
    fn entries_are_kept_for_a_century_at_most_or_for_ever() {
        assert_eq!(problems("memory:", MAX_RETAIN_DAYS), []);
        assert_eq!(problems("memory:", MAX_RETAIN_DAYS + 1)[0].0, "retain_days");
    }
}
