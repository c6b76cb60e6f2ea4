use serde::{Deserialize, Serialize};

use super::{Location, StoreError};

/// `[store]`: where the log is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// `sqlite://path`, or `memory:` for a log that is gone with the process.
    pub url: String,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { url: "sqlite://data/switchboard.db".to_owned() }
    }
}

impl StoreConfig {
    /// Checks the section without opening anything.
    pub fn validate(&self) -> Result<(), StoreError> {
        Location::parse(&self.url).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::store::StoreErrorKind;

    #[test]
    fn the_default_is_valid() {
        StoreConfig::default().validate().unwrap();
    }

    #[test]
    fn a_url_of_no_known_database_is_a_config_error_that_names_the_key() {
        for url in
            ["", "data/log.db", "redis://localhost", "sqlite://", "sqlite:log.db", "memory:x", "sqlite://a?mode=ro"]
        {
            let error = StoreConfig { url: url.to_owned() }.validate().unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Config, "{url}");
            assert!(error.to_string().contains(&format!("store.url = \"{url}\"")), "{error}");
        }
    }
}
