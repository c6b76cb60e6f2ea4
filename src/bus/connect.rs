//! From config to bus: the only place that depends on which backends are compiled.

use std::sync::Arc;

use super::config::{BusConfig, BusKind};
use super::memory::{MemoryBackend, MemoryBroker};
use super::raw::{BatchPublisher, Heard};
use super::supervisor::{Backend, Supervised};
use super::{BusError, BusErrorKind, Guarantees, Inspection, MessageBus, Subject};

/// Returns the kinds of broker that this build has.
pub fn backends() -> Vec<BusKind> {
    BusKind::ALL.into_iter().filter(|kind| is_compiled(*kind)).collect()
}

fn is_compiled(kind: BusKind) -> bool {
    match kind {
        BusKind::Memory => true,
        BusKind::Redis => cfg!(feature = "redis"),
        BusKind::Rabbitmq => cfg!(feature = "rabbitmq"),
        BusKind::Kafka => cfg!(feature = "kafka"),
        BusKind::Activemq | BusKind::Mqtt => cfg!(feature = "mqtt"),
        BusKind::Nats => cfg!(feature = "nats"),
    }
}

/// Makes the bus that the config names. A broker that is away is no error: the bus starts without it and connects when
/// it can. All buses of kind `memory` in one process share one broker.
pub async fn connect(config: &BusConfig) -> Result<Arc<dyn MessageBus>, BusError> {
    check(config)?;
    match config.kind {
        BusKind::Memory => Ok(MemoryBroker::process_wide().connect()),
        #[cfg(feature = "redis")]
        BusKind::Redis => supervised(super::redis::RedisBackend::new(&config.redis.url)?),
        #[cfg(feature = "rabbitmq")]
        BusKind::Rabbitmq => supervised(super::rabbitmq::RabbitmqBackend::new(&config.rabbitmq)?),
        #[cfg(feature = "kafka")]
        BusKind::Kafka => supervised(super::kafka::KafkaBackend::new(&config.kafka)?),
        #[cfg(feature = "mqtt")]
        BusKind::Activemq | BusKind::Mqtt => supervised(super::mqtt::MqttBackend::new(config)?),
        #[cfg(feature = "nats")]
        BusKind::Nats => supervised(super::nats::NatsBackend::new(&config.nats)?),
        #[allow(unreachable_patterns, reason = "a build with every backend has none that is missing")]
        kind => Err(not_compiled(kind)),
    }
}

/// Returns what the bus that the config names would claim. Nothing is connected for it.
pub fn guarantees(config: &BusConfig) -> Result<Guarantees, BusError> {
    check(config)?;
    match config.kind {
        BusKind::Memory => Ok(MemoryBackend::new(MemoryBroker::new()).guarantees()),
        #[cfg(feature = "redis")]
        BusKind::Redis => Ok(super::redis::RedisBackend::new(&config.redis.url)?.guarantees()),
        #[cfg(feature = "rabbitmq")]
        BusKind::Rabbitmq => Ok(super::rabbitmq::RabbitmqBackend::new(&config.rabbitmq)?.guarantees()),
        #[cfg(feature = "kafka")]
        BusKind::Kafka => Ok(super::kafka::KafkaBackend::new(&config.kafka)?.guarantees()),
        #[cfg(feature = "mqtt")]
        BusKind::Activemq | BusKind::Mqtt => Ok(super::mqtt::MqttBackend::new(config)?.guarantees()),
        #[cfg(feature = "nats")]
        BusKind::Nats => Ok(super::nats::NatsBackend::new(&config.nats)?.guarantees()),
        #[allow(unreachable_patterns, reason = "a build with every backend has none that is missing")]
        kind => Err(not_compiled(kind)),
    }
}

/// Connects the client library of the config's broker by itself; `None` when there is no broker.
pub async fn connect_raw(
    config: &BusConfig,
    subject: &Subject,
    heard: Heard,
) -> Result<Option<Box<dyn BatchPublisher>>, BusError> {
    check(config)?;
    #[allow(unused_variables, reason = "a build without any backend never has one")]
    let publisher: Box<dyn BatchPublisher> = match config.kind {
        BusKind::Memory => return Ok(None),
        #[cfg(feature = "redis")]
        BusKind::Redis => super::redis::raw::connect(&config.redis.url, subject, heard).await?,
        #[cfg(feature = "rabbitmq")]
        BusKind::Rabbitmq => super::rabbitmq::raw::connect(&config.rabbitmq, subject, heard).await?,
        #[cfg(feature = "kafka")]
        BusKind::Kafka => super::kafka::raw::connect(&config.kafka, subject, heard).await?,
        #[cfg(feature = "mqtt")]
        BusKind::Activemq | BusKind::Mqtt => super::mqtt::raw::connect(config, subject, heard).await?,
        #[cfg(feature = "nats")]
        BusKind::Nats => super::nats::raw::connect(&config.nats, subject, heard).await?,
        #[allow(unreachable_patterns, reason = "a build with every backend has none that is missing")]
        kind => {
            drop((subject, heard));
            return Err(not_compiled(kind));
        }
    };
    #[allow(unreachable_code, reason = "a build without any backend never comes here")]
    Ok(Some(publisher))
}

/// Asks the config's broker about itself. Nothing is found where there is no broker.
pub async fn inspect(config: &BusConfig) -> Result<Inspection, BusError> {
    check(config)?;
    match config.kind {
        BusKind::Memory => Ok(Inspection::default()),
        #[cfg(feature = "redis")]
        BusKind::Redis => super::redis::inspect::inspect(&config.redis.url).await,
        #[cfg(feature = "rabbitmq")]
        BusKind::Rabbitmq => super::rabbitmq::inspect::inspect(&config.rabbitmq).await,
        #[cfg(feature = "kafka")]
        BusKind::Kafka => super::kafka::inspect::inspect(&config.kafka).await,
        #[cfg(feature = "mqtt")]
        BusKind::Activemq | BusKind::Mqtt => super::mqtt::inspect::inspect(config).await,
        #[cfg(feature = "nats")]
        BusKind::Nats => super::nats::inspect::inspect(&config.nats).await,
        #[allow(unreachable_patterns, reason = "a build with every backend has none that is missing")]
        kind => Err(not_compiled(kind)),
    }
}

fn check(config: &BusConfig) -> Result<(), BusError> {
    match config.validate().into_iter().next() {
        Some((key, message)) => Err(BusError::new(BusErrorKind::Config, format!("bus.{key}: {message}"))),
        None => Ok(()),
    }
}

#[allow(dead_code, reason = "a build without any backend has nothing to supervise")]
fn supervised<B: Backend>(backend: B) -> Result<Arc<dyn MessageBus>, BusError> {
    Ok(Arc::new(Supervised::start(backend)))
}

#[allow(dead_code, reason = "a build with every backend has none that is missing")]
fn not_compiled(kind: BusKind) -> BusError {
    let feature = kind.feature().unwrap_or_default();
    let text = format!("bus.kind = \"{kind}\" needs a build with --features {feature}; this one has {}", compiled());
    BusError::new(BusErrorKind::Config, text)
}

fn compiled() -> String {
    backends().into_iter().map(BusKind::name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bus::{BusEvent, Outgoing, Subject};

    fn of_kind(kind: BusKind) -> BusConfig {
        BusConfig { kind, ..BusConfig::default() }
    }

    async fn refusal(config: &BusConfig) -> String {
        let error = connect(config).await.unwrap_err();
        assert_eq!(error.kind(), BusErrorKind::Config);
        error.to_string()
    }

    #[tokio::test]
    async fn a_kind_that_is_not_compiled_is_an_error_that_names_the_feature_and_lists_what_is() {
        for kind in BusKind::ALL.into_iter().filter(|kind| !is_compiled(*kind)) {
            let error = refusal(&of_kind(kind)).await;
            let feature = kind.feature().expect("the bus in process is always there");
            assert!(error.contains(&format!("--features {feature}")) && error.contains("memory"), "{error}");
        }
    }

    #[cfg(feature = "redis")]
    #[tokio::test]
    async fn a_broken_redis_url_is_an_error_that_hides_the_password() {
        use crate::bus::config::{BrokerUrl, RedisConfig};

        for (url, hint) in [
            ("redis://:secret@host:port", "redis://[user"),
            ("rediss://:secret@host:1", "does not speak TLS"),
            ("unix://:secret@/tmp/socket", "redis://host:port"),
        ] {
            let config = BusConfig { redis: RedisConfig { url: BrokerUrl::new(url) }, ..BusConfig::default() };
            let error = refusal(&config).await;
            assert!(error.contains(hint) && error.contains("bus.redis.url"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn memory_buses_of_one_process_hear_each_other() {
        let config = of_kind(BusKind::Memory);
        let (one, other) = (connect(&config).await.unwrap(), connect(&config).await.unwrap());
        let subject = Subject::new("connect.tests.memory").unwrap();
        let mut subscription = one.subscribe(&subject).await.unwrap();
        other.state().wait_for(|state| state.is_connected()).await.unwrap();
        let sent = other.publish(vec![Outgoing { subject, payload: Bytes::from_static(b"x") }]).await;
        assert!(sent[0].is_ok());
        let received = async {
            loop {
                if let Some(BusEvent::Message(payload)) = subscription.next().await {
                    return payload;
                }
            }
        };
        assert_eq!(&received.await[..], b"x");
    }
}
