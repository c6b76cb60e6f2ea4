//! The sections of the bus and of the log.

use serde::{Deserialize, Serialize};

/// `[bus]`: how nodes reach each other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// Which broker.
    pub kind: BusKind,
    /// Subjects per user, or one per node.
    pub routing: Routing,
    /// Redis.
    pub redis: RedisConfig,
    /// RabbitMQ.
    pub rabbitmq: RabbitmqConfig,
    /// Kafka.
    pub kafka: KafkaConfig,
    /// ActiveMQ.
    pub activemq: ActivemqConfig,
    /// Any MQTT broker.
    pub mqtt: MqttConfig,
    /// NATS.
    pub nats: NatsConfig,
}

impl BusConfig {
    /// Checks what the types cannot. Returns (key, what is allowed).
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// A kind of broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusKind {
    /// Redis pub/sub.
    #[default]
    Redis,
    /// None: nodes of one process.
    Memory,
    /// RabbitMQ.
    Rabbitmq,
    /// Kafka.
    Kafka,
    /// ActiveMQ.
    Activemq,
    /// Any MQTT broker.
    Mqtt,
    /// NATS.
    Nats,
}

/// How envelopes are addressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Routing {
    /// What suits the broker.
    #[default]
    Auto,
    /// A subject per user.
    PerUser,
    /// An inbox per node.
    PerNode,
}

macro_rules! broker {
    ($name:ident { $key:ident: $default:literal }) => {
        /// Where the broker is.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            /// Its address.
            pub $key: String,
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $key: $default.to_owned() }
            }
        }
    };
}

broker!(RedisConfig { url: "redis://127.0.0.1:6379" });
broker!(RabbitmqConfig { url: "amqp://127.0.0.1:5672/%2f" });
broker!(KafkaConfig { brokers: "127.0.0.1:9092" });
broker!(ActivemqConfig { url: "mqtt://127.0.0.1:1883" });
broker!(MqttConfig { url: "mqtt://127.0.0.1:1883" });
broker!(NatsConfig { url: "nats://127.0.0.1:4222" });

/// `[store]`: where the log is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// The database.
    pub url: String,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { url: "sqlite://data/switchboard.db".to_owned() }
    }
}

impl StoreConfig {
    /// Checks what the types cannot. Returns (key, what is allowed).
    pub fn validate(&self) -> Vec<(&'static str, String)> {
        if self.url.is_empty() { vec![("url", "must not be empty".to_owned())] } else { Vec::new() }
    }
}
