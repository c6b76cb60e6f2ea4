use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;

use super::finding::{Finding, chain};
use crate::bus::{self, BusConfig, BusErrorKind, BusEvent, BusKind, MessageBus, Outgoing, Subject};
use crate::config::Config;

const SUBJECT: &str = "bus";

/// How long the broker may take to be connected, and a message to come back.
const WITHIN: Duration = Duration::from_secs(5);

/// Sends a message through the bus to a subscription of its own.
pub(super) async fn check(config: &Config) -> Finding {
    let place = place(&config.bus);
    if config.bus.kind == BusKind::Memory {
        let text = "memory: for the nodes of one process; a cluster of several needs a broker (bus.kind)";
        return Finding::warn(SUBJECT, text);
    }
    let bus = match bus::connect(&config.bus).await {
        Ok(bus) => bus,
        Err(error) => {
            let code = if error.kind() == BusErrorKind::Config { 78 } else { 1 };
            return Finding::fail(SUBJECT, chain(&error)).exit_code(code);
        }
    };
    let tripped = round_trip(&*bus, &config.cluster.name).await;
    if let Err(error) = bus.close().await {
        tracing::debug!(%error, "the bus was not closed in order");
    }
    match tripped {
        Ok(took) => {
            Finding::ok(SUBJECT, format!("{place}, a message came back in {:.1} ms", took.as_secs_f64() * 1_000.0))
        }
        Err(why) => {
            let cure = "start the broker or correct its address; until then nodes start without it, degraded";
            Finding::fail(SUBJECT, format!("{place}: {why}; {cure}"))
        }
    }
}

async fn round_trip(bus: &dyn MessageBus, cluster: &str) -> Result<Duration, String> {
    let mut state = bus.state();
    let connected = timeout(WITHIN, state.wait_for(|state| state.is_connected())).await;
    if !connected.is_ok_and(|connected| connected.is_ok()) {
        return Err(format!("not connected within {WITHIN:?}"));
    }
    let mark = format!("{:016x}", rand::random::<u64>());
    let subject = Subject::new(&format!("{cluster}.doctor.{mark}")).map_err(|error| error.to_string())?;
    let subscribed = timeout(WITHIN, bus.subscribe(&subject)).await;
    let mut subscription =
        subscribed.map_err(|_| format!("no subscription within {WITHIN:?}"))?.map_err(|error| chain(&error))?;
    let payload = Bytes::from(mark);
    let began = Instant::now();
    for published in bus.publish(vec![Outgoing { subject, payload: payload.clone() }]).await {
        published.map_err(|error| chain(&error))?;
    }
    let arrives = async {
        while let Some(event) = subscription.next().await {
            if event == BusEvent::Message(payload.clone()) {
                return Ok(began.elapsed());
            }
        }
        Err("the subscription ended".to_owned())
    };
    timeout(WITHIN, arrives).await.map_err(|_| format!("a message that was accepted did not come in {WITHIN:?}"))?
}

/// Returns where the broker is, without its password.
fn place(config: &BusConfig) -> String {
    let address = match config.kind {
        BusKind::Memory => return "memory".to_owned(),
        BusKind::Redis => config.redis.url.to_string(),
        BusKind::Rabbitmq => config.rabbitmq.url.to_string(),
        BusKind::Kafka => config.kafka.brokers.clone(),
        BusKind::Activemq => config.activemq.url.to_string(),
        BusKind::Mqtt => config.mqtt.url.to_string(),
        BusKind::Nats => config.nats.url.to_string(),
    };
    format!("{} at {address}", config.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::config::{BrokerUrl, RedisConfig};
    use crate::bus::memory::MemoryBroker;

    #[tokio::test]
    async fn a_message_comes_back_from_a_bus_that_works() {
        let broker = MemoryBroker::new();
        round_trip(&*broker.connect(), "test").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_bus_that_is_away_is_waited_for_a_few_seconds() {
        let broker = MemoryBroker::new();
        broker.refuse(true);
        broker.disconnect();
        let why = round_trip(&*broker.connect(), "test").await.unwrap_err();
        assert_eq!(why, "not connected within 5s");
    }

    #[test]
    fn the_password_is_not_shown() {
        let redis = RedisConfig { url: BrokerUrl::new("redis://:secret@host:1") };
        assert_eq!(place(&BusConfig { redis, ..BusConfig::default() }), "redis at redis://:***@host:1");
    }
}
