//! The config of the program: one section per module, checked as a whole before a port is bound.
//!
//! Values come from four layers, each above the one before it: the defaults, a TOML file, environment variables
//! `SWITCHBOARD_<SECTION>__<KEY>` (only names with two underscores in a row are read, so that variables which an
//! orchestrator sets for a service called "switchboard" do no harm), and flags of the command line.

mod check;
mod error;
mod layer;

use std::ffi::OsString;
use std::path::Path;

use figment::Figment;
use figment::providers::Serialized;
use serde::{Deserialize, Serialize};

pub use error::{ConfigError, ConfigErrorKind, Problem};

use crate::bus::BusConfig;
use crate::edge::EdgeConfig;
use crate::model::store::StoreConfig;
use crate::server::{AuthConfig, ChatConfig, ClusterConfig, LimitsConfig, ListenConfig, NodeConfig};
use layer::Layer;

/// Everything that can be configured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: NodeConfig,
    /// Where it accepts connections.
    pub listen: ListenConfig,
    /// Which cluster it belongs to.
    pub cluster: ClusterConfig,
    /// How nodes reach each other.
    pub bus: BusConfig,
    /// Where the log is.
    pub store: StoreConfig,
    /// Passwords and tokens.
    pub auth: AuthConfig,
    /// Who may do what.
    pub chat: ChatConfig,
    /// What one client may cost.
    pub limits: LimitsConfig,
    /// The balancer in front of the nodes.
    pub edge: EdgeConfig,
}

/// Values given by flags of the command line, which win over every other layer.
#[derive(Debug, Clone, Default)]
pub struct Overrides(Vec<Override>);

#[derive(Debug, Clone)]
struct Override {
    flag: &'static str,
    key: &'static str,
    value: String,
}

impl Overrides {
    /// Adds the value that `flag` gives to `key` (`bus.kind`). Nothing happens when the flag was not used.
    pub fn set(mut self, flag: &'static str, key: &'static str, value: Option<String>) -> Self {
        self.0.extend(value.map(|value| Override { flag, key, value }));
        self
    }
}

impl Config {
    /// Reads the config: the file (which must exist when it is named), this process's environment and the flags, over
    /// the defaults.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        Self::load_from(path, std::env::vars_os(), overrides)
    }

    /// Reads the config as [`load`](Self::load) does, with an environment given by the caller.
    pub fn load_from(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        overrides: &Overrides,
    ) -> Result<Self, ConfigError> {
        let defaults = layer::defaults();
        let mut layers = Vec::new();
        if let Some(path) = path {
            layers.push(Layer::file(path)?);
        }
        layers.extend(layer::environment(environment, &defaults)?);
        layers.extend(overrides.0.iter().map(|o| Layer::single(o.flag, o.key, &o.value, &defaults)));

        let problems: Vec<Problem> = layers.iter().flat_map(|layer| check::layer(layer, &defaults)).collect();
        if !problems.is_empty() {
            return Err(ConfigError::invalid(problems));
        }
        let merged = layers.into_iter().fold(Figment::from(Serialized::defaults(Config::default())), Figment::merge);
        let config: Config = merged.extract().map_err(|e| ConfigError::invalid(vec![check::problem("", "", &e)]))?;
        let problems: Vec<Problem> = config
            .validate()
            .into_iter()
            .map(|(key, message)| Problem { source: layer::source_of(&merged, &key), key, message })
            .collect();
        if problems.is_empty() { Ok(config) } else { Err(ConfigError::invalid(problems)) }
    }

    /// Checks what the types cannot: ranges, and keys that depend on each other. Returns (key, what is allowed);
    /// empty: all is well.
    pub fn validate(&self) -> Vec<(String, String)> {
        let sections = [
            ("node", self.node.validate()),
            ("listen", self.listen.validate()),
            ("cluster", self.cluster.validate()),
            ("bus", self.bus.validate()),
            ("store", self.store.validate()),
            ("auth", self.auth.validate()),
            ("limits", self.limits.validate()),
            ("edge", self.edge.validate()),
        ];
        let mut problems: Vec<(String, String)> = sections
            .into_iter()
            .flat_map(|(section, problems)| {
                problems.into_iter().map(move |(key, message)| (format!("{section}.{key}"), message))
            })
            .collect();
        problems.extend(self.contradiction());
        problems
    }

    /// A balancer that is less patient than the nodes cuts clients which they still keep.
    fn contradiction(&self) -> Option<(String, String)> {
        if self.edge.proxy_timeout > self.limits.idle {
            return None;
        }
        let idle = humantime::format_duration(self.limits.idle);
        let timeout = humantime::format_duration(self.edge.proxy_timeout);
        // The key that was changed is the one to point at.
        Some(if self.edge.proxy_timeout == EdgeConfig::default().proxy_timeout {
            ("limits.idle".to_owned(), format!("must be shorter than edge.proxy_timeout ({timeout}), not {idle}"))
        } else {
            ("edge.proxy_timeout".to_owned(), format!("must be longer than limits.idle ({idle}), not {timeout}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn load(environment: &[(&str, &str)], overrides: &Overrides) -> Result<Config, ConfigError> {
        Config::load_from(None, environment.iter().map(|(k, v)| (k.into(), v.into())), overrides)
    }

    fn error(environment: &[(&str, &str)]) -> String {
        load(environment, &Overrides::default()).expect_err("an invalid config").to_string()
    }

    #[test]
    fn defaults_are_valid_and_survive_the_layers() {
        assert_eq!(load(&[], &Overrides::default()).unwrap(), Config::default());
    }

    #[test]
    fn environment_reaches_nested_keys_of_every_type() {
        let config = load(
            &[
                ("SWITCHBOARD_BUS__REDIS__URL", "redis://other:6379"),
                ("SWITCHBOARD_LIMITS__IDLE", "45s"),
                ("SWITCHBOARD_NODE__WEIGHT", "7"),
                ("SWITCHBOARD_NODE__ID", "12"),
                ("SWITCHBOARD_EDGE__NODES", r#"[{address="a:1",weight=2}]"#),
            ],
            &Overrides::default(),
        )
        .unwrap();
        assert_eq!(config.bus.redis.url.expose(), "redis://other:6379");
        assert_eq!(config.limits.idle, Duration::from_secs(45));
        assert_eq!(config.node.weight, 7);
        assert_eq!(config.node.id.as_str(), "12");
        assert_eq!(config.edge.nodes.len(), 1);
        assert_eq!(config.edge.nodes[0].weight, 2);
    }

    #[test]
    fn names_without_two_underscores_are_not_read() {
        let environment = [("SWITCHBOARD_PORT_6000_TCP", "tcp://10.0.0.1:6000"), ("SWITCHBOARD_LOG", "debug")];
        assert_eq!(load(&environment, &Overrides::default()).unwrap(), Config::default());
    }

    #[test]
    fn flags_win_over_the_environment() {
        let overrides = Overrides::default().set("--bus", "bus.kind", Some("memory".to_owned()));
        let config = load(&[("SWITCHBOARD_BUS__KIND", "nats")], &overrides).unwrap();
        assert_eq!(serde_json::to_value(config.bus.kind).unwrap(), "memory");
    }

    #[test]
    fn problem_names_the_variable_or_the_flag_it_came_from() {
        assert!(error(&[("SWITCHBOARD_LIMITS__IDEL", "45s")]).starts_with("SWITCHBOARD_LIMITS__IDEL: limits.idel: "));
        let overrides = Overrides::default().set("--bus", "bus.kind", Some("redos".to_owned()));
        let error = load(&[], &overrides).unwrap_err().to_string();
        assert_eq!(
            error,
            "--bus: bus.kind: `redos` is not allowed; use one of redis, memory, rabbitmq, kafka, activemq, mqtt, nats"
        );
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let error = load(
            &[
                ("SWITCHBOARD_NODE__WEIGHT", "x"),
                ("SWITCHBOARD_NODE__WEIHGT", "1"),
                ("SWITCHBOARD_LISTEN__TCP", "6000"),
            ],
            &Overrides::default(),
        )
        .unwrap_err();
        assert_eq!(error.kind(), ConfigErrorKind::Invalid);
        assert_eq!(error.problems().len(), 3, "{error}");
    }

    #[test]
    fn value_out_of_range_names_its_source() {
        assert_eq!(
            error(&[("SWITCHBOARD_NODE__WEIGHT", "0")]),
            "SWITCHBOARD_NODE__WEIGHT: node.weight: must be between 1 and 100, not 0"
        );
    }

    #[test]
    fn timeouts_that_contradict_each_other_are_refused() {
        assert_eq!(
            error(&[("SWITCHBOARD_LIMITS__IDLE", "1h")]),
            "SWITCHBOARD_LIMITS__IDLE: limits.idle: must be shorter than edge.proxy_timeout (10m), not 1h"
        );
        assert_eq!(
            error(&[("SWITCHBOARD_EDGE__PROXY_TIMEOUT", "90s")]),
            "SWITCHBOARD_EDGE__PROXY_TIMEOUT: edge.proxy_timeout: must be longer than limits.idle (1m 30s), not 1m 30s"
        );
    }

    #[test]
    fn missing_file_is_an_error_that_names_it() {
        let error = Config::load_from(Some(Path::new("no/such.toml")), [], &Overrides::default()).unwrap_err();
        assert_eq!(error.kind(), ConfigErrorKind::Unreadable);
        assert!(error.to_string().contains("no/such.toml"), "{error}");
    }
}
