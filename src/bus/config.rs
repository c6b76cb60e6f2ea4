//! `[bus]`: which broker carries messages between nodes, and where it is.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Claim, Guarantees};

/// Subjects that nobody needs cost the broker memory.
const LONGEST_LINGER: Duration = Duration::from_secs(3600);

/// `[bus]`: the broker between the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// Which broker. Only its own section below is used.
    pub kind: BusKind,
    /// How subjects are laid out.
    pub routing: Routing,
    /// How long the subject of a user or a group stays subscribed on a node when the last session there has gone.
    #[serde(with = "crate::duration")]
    pub unsubscribe_after: Duration,
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
    /// What suits the broker.
    #[default]
    Auto,
    /// A subject per user, and one per group.
    PerUser,
    /// One inbox per node.
    PerNode,
}

impl Routing {
    /// Tells whether users and groups have subjects of their own, on a bus that guarantees this.
    pub fn is_per_user(self, guarantees: &Guarantees) -> bool {
        match self {
            Routing::Auto => guarantees.per_user_subjects == Claim::Yes,
            Routing::PerUser => true,
            Routing::PerNode => false,
        }
    }
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
    /// 1: a publish succeeds when the broker has taken it. 0: when it is written to the socket.
    pub qos: u8,
}

/// `[bus.mqtt]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// `mqtt://[user:password@]host[:port]`
    pub url: BrokerUrl,
    /// 1: a publish succeeds when the broker has taken it. 0: when it is written to the socket.
    pub qos: u8,
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
        if self.unsubscribe_after > LONGEST_LINGER {
            let given = humantime::format_duration(self.unsubscribe_after);
            problems.push(("unsubscribe_after", format!("must be at most 1h, not {given}")));
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
        problems.extend(match self.kind {
            BusKind::Activemq => expect_qos("activemq.qos", self.activemq.qos),
            BusKind::Mqtt => expect_qos("mqtt.qos", self.mqtt.qos),
            _ => None,
        });
        problems
    }
}

fn expect_qos(key: &'static str, qos: u8) -> Option<(&'static str, String)> {
    (qos > 1).then(|| (key, format!("must be 0 or 1, not {qos}")))
}

/// Shows the kind and where the broker is, without its password.
impl fmt::Display for BusConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind;
        match kind {
            BusKind::Memory => write!(f, "{kind}"),
            BusKind::Redis => write!(f, "{kind} at {}", self.redis.url),
            BusKind::Rabbitmq => write!(f, "{kind} at {}", self.rabbitmq.url),
            BusKind::Kafka => write!(f, "{kind} at {}", self.kafka.brokers),
            BusKind::Activemq => write!(f, "{kind} at {}", self.activemq.url),
            BusKind::Mqtt => write!(f, "{kind} at {}", self.mqtt.url),
            BusKind::Nats => write!(f, "{kind} at {}", self.nats.url),
        }
    }
}

impl BusKind {
    /// Every kind, in the order in which they are listed to people.
    pub const ALL: [Self; 7] =
        [Self::Memory, Self::Redis, Self::Rabbitmq, Self::Kafka, Self::Activemq, Self::Mqtt, Self::Nats];

    /// Returns the cargo feature that brings it; the bus in process is always there.
    pub fn feature(self) -> Option<&'static str> {
        match self {
            Self::Memory => None,
            Self::Activemq => Some(Self::Mqtt.name()),
            kind => Some(kind.name()),
        }
    }

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

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            kind: BusKind::default(),
            routing: Routing::default(),
            unsubscribe_after: Duration::from_secs(10),
            redis: RedisConfig::default(),
            rabbitmq: RabbitmqConfig::default(),
            kafka: KafkaConfig::default(),
            activemq: ActivemqConfig::default(),
            mqtt: MqttConfig::default(),
            nats: NatsConfig::default(),
        }
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
        Self { url: BrokerUrl::new("mqtt://127.0.0.1:1883"), qos: 1 }
    }
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self { url: BrokerUrl::new("mqtt://127.0.0.1:1883"), qos: 1 }
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
    use crate::bus::memory::{MemoryBackend, MemoryBroker};
    use crate::bus::supervisor::Backend;

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
    fn routing_by_itself_is_what_the_bus_can_afford() {
        let backend = MemoryBackend::new(MemoryBroker::new());
        let mut guarantees = backend.guarantees();
        for (claim, per_user) in [(Claim::Yes, true), (Claim::No, false), (Claim::NotApplicable, false)] {
            guarantees.per_user_subjects = claim;
            assert_eq!(Routing::Auto.is_per_user(&guarantees), per_user);
            assert!(Routing::PerUser.is_per_user(&guarantees) && !Routing::PerNode.is_per_user(&guarantees));
        }
    }

    #[test]
    fn a_broker_is_shown_with_its_address_and_without_its_password() {
        let config = parse("redis = { url = \"redis://:secret@host:1\" }").unwrap();
        assert_eq!(config.to_string(), "redis at redis://:***@host:1");
        assert_eq!(parse("kind = \"memory\"").unwrap().to_string(), "memory");
    }

    #[test]
    fn subjects_may_not_linger_for_ever() {
        assert_eq!(parse("unsubscribe_after = \"0s\"").unwrap().validate(), []);
        assert_eq!(parse("unsubscribe_after = \"61m\"").unwrap().validate()[0].0, "unsubscribe_after");
    }

    #[test]
    fn only_the_section_in_use_is_checked() {
        assert_eq!(parse("nats = { url = \"\" }").unwrap().validate(), []);
        assert_eq!(parse("redis = { url = \"http://h\" }").unwrap().validate()[0].0, "redis.url");
    }

    #[test]
    fn mqtt_has_two_levels_of_confirmation() {
        for kind in ["mqtt", "activemq"] {
            let of = |qos: u8| parse(&format!("kind = \"{kind}\"\n{kind} = {{ qos = {qos} }}")).unwrap().validate();
            assert_eq!((of(0), of(1)), (Vec::new(), Vec::new()));
            let (key, text) = of(2).remove(0);
            assert_eq!((key, text.as_str()), (&*format!("{kind}.qos"), "must be 0 or 1, not 2"));
        }
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
