//! `[bus]`: which broker carries messages between nodes, and where it is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `[bus]`: the broker between the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// Which broker. Only its own section below is used.
    pub kind: BusKind,
    /// How subjects are laid out.
    pub routing: Routing,
    /// Redis pub/sub.
    pub redis: RedisConfig,
    /// RabbitMQ.
    pub rabbitmq: RabbitmqConfig,
    /// Kafka.
    pub kafka: KafkaConfig,
    /// ActiveMQ, through its MQTT listener.
    pub activemq: ActivemqConfig,
    /// Any other MQTT broker.
    pub mqtt: MqttConfig,
    /// NATS.
    pub nats: NatsConfig,
}

/// A kind of broker, as `bus.kind` names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BusKind {
    /// Redis pub/sub.
    #[default]
    Redis,
    /// No broker: for the nodes of one process.
    Memory,
    /// RabbitMQ.
    Rabbitmq,
    /// Kafka.
    Kafka,
    /// ActiveMQ, through its MQTT listener.
    Activemq,
    /// Any other MQTT broker.
    Mqtt,
    /// NATS.
    Nats,
}

/// How subjects are laid out, as `bus.routing` names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Routing {
    /// What suits the broker: one inbox per node.
    #[default]
    Auto,
    /// A subject per user.
    PerUser,
    /// One inbox per node.
    PerNode,
}

/// `[bus.redis]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://[user:password@]host[:port][/db]`
    pub url: BrokerUrl,
}

/// `[bus.rabbitmq]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RabbitmqConfig {
    /// `amqp://user:password@host[:port]/vhost`
    pub url: BrokerUrl,
}

/// `[bus.kafka]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port`, several joined by commas.
    pub brokers: String,
}

/// `[bus.activemq]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ActivemqConfig {
    /// `mqtt://[user:password@]host[:port]`
    pub url: BrokerUrl,
}

/// `[bus.mqtt]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// `mqtt://[user:password@]host[:port]`
    pub url: BrokerUrl,
}

/// `[bus.nats]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatsConfig {
    /// `nats://[user:password@]host[:port]`
    pub url: BrokerUrl,
}

impl BusConfig {
    /// Checks what can be checked without a broker. Returns (key, what is allowed).
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.routing == Routing::PerUser {
            let text = "\"per_user\" does not exist in this version; write \"per_node\" or \"auto\"";
            problems.push(("routing", text.to_owned()));
        }
        problems.extend(match self.kind {
            BusKind::Memory => None,
            BusKind::Redis => self.redis.url.expect_scheme("redis.url", &["redis", "rediss"]),
            BusKind::Rabbitmq => self.rabbitmq.url.expect_scheme("rabbitmq.url", &["amqp", "amqps"]),
            BusKind::Kafka if self.kafka.brokers.trim().is_empty() => {
                Some(("kafka.brokers", "must be host:port, several joined by commas".to_owned()))
            }
            BusKind::Kafka => None,
            BusKind::Activemq => self.activemq.url.expect_scheme("activemq.url", &["mqtt", "mqtts"]),
            BusKind::Mqtt => self.mqtt.url.expect_scheme("mqtt.url", &["mqtt", "mqtts"]),
            BusKind::Nats => self.nats.url.expect_scheme("nats.url", &["nats", "tls"]),
        });
        problems
    }
}

impl BusKind {
    /// Returns the name that `bus.kind` takes.
    pub fn name(self) -> &'static str {
        match self {
            BusKind::Memory => "memory",
            BusKind::Redis => "redis",
            BusKind::Rabbitmq => "rabbitmq",
            BusKind::Kafka => "kafka",
            BusKind::Activemq => "activemq",
            BusKind::Mqtt => "mqtt",
            BusKind::Nats => "nats",
        }
    }
}

impl fmt::Display for BusKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self { url: BrokerUrl::new("redis://127.0.0.1:6379") }
    }
}

impl Default for RabbitmqConfig {
    fn default() -> Self {
        Self { url: BrokerUrl::new("amqp://guest:guest@127.0.0.1:5672/%2f") }
    }
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self { brokers: "127.0.0.1:9092".to_owned() }
    }
}

impl Default for ActivemqConfig {
    fn default() -> Self {
        Self { url: BrokerUrl::new("mqtt://127.0.0.1:1883") }
    }
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self { url: BrokerUrl::new("mqtt://127.0.0.1:1883") }
    }
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self { url: BrokerUrl::new("nats://127.0.0.1:4222") }
    }
}

/// The URL of a broker, which may hold a password: it is shown with the password masked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BrokerUrl(String);

impl BrokerUrl {
    /// Takes a URL, unchecked.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// Returns the URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn expect_scheme(&self, key: &'static str, schemes: &[&str]) -> Option<(&'static str, String)> {
        let fits = |(scheme, rest): (&str, &str)| schemes.contains(&scheme) && !rest.is_empty();
        let fits = self.0.split_once("://").is_some_and(fits);
        (!fits).then(|| (key, format!("must be {}://host:port, not \"{self}\"", schemes[0])))
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A password may hold an unescaped `/` or `@`, so everything up to the last `@` may belong to it.
        let (scheme, rest) = self.0.split_once("://").map_or(("", self.0.as_str()), |(scheme, rest)| (scheme, rest));
        let separator = if scheme.is_empty() { "" } else { "://" };
        match rest.rsplit_once('@') {
            Some((credentials, host)) => {
                let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
                let mask = if password.is_empty() { "" } else { ":***" };
                write!(f, "{scheme}{separator}{user}{mask}@{host}")
            }
            None => write!(f, "{scheme}{separator}{rest}"),
        }
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(toml: &str) -> Result<BusConfig, toml::de::Error> {
        toml::from_str(toml)
    }

    #[test]
    fn sections_of_brokers_that_are_not_compiled_parse() {
        let sections = "kafka = { brokers = \"a:1,b:2\" }\nnats = { url = \"nats://n\" }";
        let config = parse(&format!("kind = \"memory\"\nrouting = \"per_node\"\n{sections}")).unwrap();
        assert_eq!((config.kind, config.routing), (BusKind::Memory, Routing::PerNode));
        assert_eq!(config.kafka.brokers, "a:1,b:2");
        assert_eq!(config.redis, RedisConfig::default());
    }

    #[test]
    fn unknown_keys_and_kinds_are_refused_by_name() {
        assert!(parse("rediss = {}").unwrap_err().to_string().contains("`rediss`"));
        assert!(parse("redis = { uri = \"x\" }").unwrap_err().to_string().contains("expected `url`"));
        assert!(parse("kind = \"zeromq\"").unwrap_err().to_string().contains("`redis`"));
    }

    #[test]
    fn every_kind_has_the_name_that_config_takes() {
        for name in ["memory", "redis", "rabbitmq", "kafka", "activemq", "mqtt", "nats"] {
            let config = parse(&format!("kind = \"{name}\"")).unwrap();
            assert_eq!(config.kind.name(), name);
            assert_eq!(config.validate(), []);
        }
    }

    #[test]
    fn per_user_routing_is_refused_with_what_to_write_instead() {
        let problems = parse("routing = \"per_user\"").unwrap().validate();
        assert_eq!(problems[0].0, "routing");
        assert!(problems[0].1.contains("per_node"), "{problems:?}");
    }

    #[test]
    fn only_the_section_in_use_is_checked() {
        assert_eq!(parse("nats = { url = \"\" }").unwrap().validate(), []);
        assert_eq!(parse("redis = { url = \"http://h\" }").unwrap().validate()[0].0, "redis.url");
    }

    #[test]
    fn passwords_are_masked() {
        for (url, shown) in [
            ("redis://:secret@host:1/2", "redis://:***@host:1/2"),
            ("redis://u:se/cr@et@host", "redis://u:***@host"),
            ("redis://u@host", "redis://u@host"),
            ("redis://host", "redis://host"),
            ("u:secret@host", "u:***@host"),
        ] {
            assert_eq!(BrokerUrl::new(url).to_string(), shown);
            assert_eq!(format!("{:?}", BrokerUrl::new(url)), format!("\"{shown}\""));
        }
    }
}
