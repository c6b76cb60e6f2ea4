//! From config to bus: the only place that depends on which backends are compiled.

use std::sync::Arc;

use super::config::{BusConfig, BusKind};
use super::memory::MemoryBroker;
use super::raw::{BatchPublisher, Heard};
use super::{BusError, BusErrorKind, MessageBus, Subject};

/// Returns the kinds of broker that this build has.
pub fn backends() -> Vec<BusKind> {
    let mut kinds = vec![BusKind::Memory];
    if cfg!(feature = "redis") {
        kinds.push(BusKind::Redis);
    }
    kinds
}

/// Makes the bus that the config names. A broker that is away is no error: the bus starts without it and connects when
/// it can. All buses of kind `memory` in one process share one broker.
pub async fn connect(config: &BusConfig) -> Result<Arc<dyn MessageBus>, BusError> {
    if let Some((key, message)) = config.validate().into_iter().next() {
        return Err(BusError::new(BusErrorKind::Config, format!("bus.{key}: {message}")));
    }
    match config.kind {
        BusKind::Memory => Ok(MemoryBroker::process_wide().connect()),
        #[cfg(feature = "redis")]
        BusKind::Redis => Ok(Arc::new(super::Supervised::start(super::redis::RedisBackend::new(&config.redis.url)?))),
        #[cfg(not(feature = "redis"))]
        BusKind::Redis => Err(BusError::new(
            BusErrorKind::Config,
            format!("bus.kind = \"redis\" needs a build with --features redis; this one has {}", compiled()),
        )),
        kind @ (BusKind::Rabbitmq | BusKind::Kafka | BusKind::Activemq | BusKind::Mqtt | BusKind::Nats) => {
            let text = format!("bus.kind = \"{kind}\" does not exist in this version; this build has {}", compiled());
            Err(BusError::new(BusErrorKind::Config, text))
        }
    }
}

/// Connects the client library of the config's broker by itself; `None` when there is no broker.
pub async fn connect_raw(
    config: &BusConfig,
    subject: &Subject,
    heard: Heard,
) -> Result<Option<Box<dyn BatchPublisher>>, BusError> {
    match config.kind {
        BusKind::Memory => Ok(None),
        #[cfg(feature = "redis")]
        BusKind::Redis => super::redis::raw::connect(&config.redis.url, subject, heard).await.map(Some),
        kind => {
            drop((subject, heard));
            Err(BusError::new(BusErrorKind::Config, format!("bus.kind = \"{kind}\" is not in this build")))
        }
    }
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
    async fn a_kind_that_is_not_there_is_an_error_that_lists_what_is() {
        let error = refusal(&of_kind(BusKind::Kafka)).await;
        assert!(error.contains("\"kafka\"") && error.contains("memory"), "{error}");
    }

    #[cfg(not(feature = "redis"))]
    #[tokio::test]
    async fn a_kind_that_is_not_compiled_is_an_error_that_names_the_feature() {
        let error = refusal(&of_kind(BusKind::Redis)).await;
        assert!(error.contains("--features redis"), "{error}");
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
