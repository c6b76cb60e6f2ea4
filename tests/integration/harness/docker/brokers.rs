use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use switchboard::bus::contract::{ContractBroker, Needs};
use switchboard::bus::{BusKind, BusState, MessageBus};
use testcontainers::ImageExt;
use tokio::sync::OnceCell;

use super::recipe::Recipe;
use super::{Container, images};
use crate::harness::broker::bus_at;

/// How long a bus may take to connect to a broker that may be ready, until another one is tried.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A kind of broker in a container.
pub(crate) struct Broker {
    kind: BusKind,
    /// The key of the config that takes its address.
    key: &'static str,
    pub(super) recipe: Recipe,
}

/// A broker in a container for a case of the contract suite.
pub(crate) struct InDocker {
    broker: &'static Broker,
    container: Arc<Container>,
    is_own: bool,
}

impl InDocker {
    /// Returns a broker that suits a case. `None`: there is none, which has been said.
    pub(crate) async fn that(broker: &'static Broker, needs: Needs) -> Option<Self> {
        let container = match needs {
            Needs::Own => Container::start_new(&broker.recipe).await.map(Arc::new),
            Needs::Shared => Container::shared(&broker.recipe).await,
        };
        container.map(|container| Self { broker, container, is_own: needs == Needs::Own })
    }

    fn own(&self) -> &Container {
        assert!(self.is_own, "a broker that others use is not to be broken");
        &self.container
    }
}

#[async_trait]
impl ContractBroker for InDocker {
    async fn bus(&self) -> Arc<dyn MessageBus> {
        bus_at(self.broker.kind, self.broker.key, &self.container.url()).await
    }

    async fn kill(&self) {
        self.own().kill().await;
    }

    async fn start(&self) {
        self.own().start().await;
    }

    async fn restart(&self) {
        self.own().restart().await;
    }

    async fn pause(&self) {
        self.own().pause().await;
    }

    async fn resume(&self) {
        self.own().resume().await;
    }
}

/// Tells whether a bus connects to a broker.
async fn connects(kind: BusKind, key: &str, url: &str) -> bool {
    let bus = bus_at(kind, key, url).await;
    let mut state = bus.state();
    let connected = tokio::time::timeout(CONNECT_DEADLINE, state.wait_for(BusState::is_connected)).await;
    matches!(connected, Ok(Ok(_)))
}

macro_rules! broker {
    ($(#[$meta:meta])* $name:ident, $kind:ident, $key:literal, $image:expr, $port:literal, $scheme:literal, $run:expr) => {
        $(#[$meta])*
        pub(crate) static $name: Broker = Broker {
            kind: BusKind::$kind,
            key: $key,
            recipe: Recipe {
                image: $image,
                port: $port,
                run: $run,
                url: |place| format!(concat!($scheme, "{}"), place),
                answers: |url| Box::pin(async move { connects(BusKind::$kind, $key, &url).await }),
                shared: OnceCell::const_new(),
            },
        };
    };
}

broker! {
    /// Redis, which keeps nothing.
    #[cfg(feature = "redis")]
    REDIS, Redis, "bus.redis.url", images::REDIS, 6379, "redis://", |request, _| {
        request.with_cmd(["redis-server", "--save", "", "--appendonly", "no"])
    }
}

broker! {
    /// RabbitMQ. Its name is part of that of its data.
    #[cfg(feature = "rabbitmq")]
    RABBITMQ, Rabbitmq, "bus.rabbitmq.url", images::RABBITMQ, 5672, "amqp://guest:guest@", |request, _| {
        request.with_hostname("rabbitmq")
    }
}

broker! {
    /// Kafka, one node. It tells clients where to find it, so it has to know the port outside of the container. One
    /// variable drops all defaults of the image, so all that are needed stand here. A broker that was killed is let in
    /// again when its session has run out, hence the short one.
    #[cfg(feature = "kafka")]
    KAFKA, Kafka, "bus.kafka.brokers", images::KAFKA, 9092, "", |request, place| {
        request
            .with_env_var("KAFKA_HEAP_OPTS", "-Xms64m -Xmx512m")
            .with_env_var("KAFKA_NODE_ID", "1")
            .with_env_var("KAFKA_PROCESS_ROLES", "broker,controller")
            .with_env_var("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093")
            .with_env_var("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER")
            .with_env_var("KAFKA_LISTENERS", "PLAINTEXT://:9092,CONTROLLER://:9093")
            .with_env_var("KAFKA_ADVERTISED_LISTENERS", format!("PLAINTEXT://{place}"))
            .with_env_var("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT")
            .with_env_var("KAFKA_LOG_DIRS", "/tmp/kraft-combined-logs")
            .with_env_var("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1")
            .with_env_var("KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS", "1")
            .with_env_var("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1")
            .with_env_var("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1")
            .with_env_var("KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR", "1")
            .with_env_var("KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR", "1")
            .with_env_var("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
            .with_env_var("KAFKA_BROKER_SESSION_TIMEOUT_MS", "1500")
            .with_env_var("KAFKA_BROKER_HEARTBEAT_INTERVAL_MS", "300")
    }
}

broker! {
    /// ActiveMQ Classic, at its MQTT listener.
    #[cfg(feature = "mqtt")]
    ACTIVEMQ, Activemq, "bus.activemq.url", images::ACTIVEMQ, 1883, "mqtt://", |request, _| request
}

broker! {
    /// Mosquitto, with the config of its image that lets clients in from outside of the container.
    #[cfg(feature = "mqtt")]
    MOSQUITTO, Mqtt, "bus.mqtt.url", images::MOSQUITTO, 1883, "mqtt://", |request, _| {
        request.with_cmd(["/usr/sbin/mosquitto", "-c", "/mosquitto-no-auth.conf"])
    }
}

broker! {
    /// NATS.
    #[cfg(feature = "nats")]
    NATS, Nats, "bus.nats.url", images::NATS, 4222, "nats://", |request, _| request
}
