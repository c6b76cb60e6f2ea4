use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout;

use super::finding::{Finding, chain};
use crate::bus::{self, BusErrorKind, BusEvent, BusKind, Inspection, MessageBus, Outgoing, Subject};
use crate::config::Config;

const SUBJECT: &str = "bus";

/// How long the broker may take to be connected, and a message to come back.
const WITHIN: Duration = Duration::from_secs(5);

/// Sends a message through the bus to a subscription of its own, and asks the broker about itself.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let place = &config.bus;
    if config.bus.kind == BusKind::Memory {
        let text = "memory: for the nodes of one process; a cluster of several needs a broker (bus.kind)";
        return vec![Finding::warn(SUBJECT, text)];
    }
    let bus = match bus::connect(&config.bus).await {
        Ok(bus) => bus,
        Err(error) => {
            let code = if error.kind() == BusErrorKind::Config { 78 } else { 1 };
            return vec![Finding::fail(SUBJECT, chain(&error)).exit_code(code)];
        }
    };
    let tripped = round_trip(&*bus, &config.cluster.name).await;
    if let Err(error) = bus.close().await {
        tracing::debug!(%error, "the bus was not closed in order");
    }
    match tripped {
        Ok(took) => {
            let text = format!("{place}, a message came back in {:.1} ms", took.as_secs_f64() * 1_000.0);
            let inspected = timeout(WITHIN, bus::inspect(&config.bus)).await;
            let inspected = inspected.map_err(|_| format!("no answer within {WITHIN:?}"));
            let inspected = inspected.and_then(|inspected| inspected.map_err(|error| chain(&error)));
            described(text, inspected)
        }
        Err(why) => {
            let cure = "start the broker or correct its address; until then nodes start without it, degraded";
            vec![Finding::fail(SUBJECT, format!("{place}: {why}; {cure}"))]
        }
    }
}

/// Puts what the broker says of itself beside the fact that it works.
fn described(works: String, inspected: Result<Inspection, String>) -> Vec<Finding> {
    match inspected {
        Ok(Inspection { version, hazards }) => {
            let version = version.map(|version| format!("; {version}")).unwrap_or_default();
            let works = Finding::ok(SUBJECT, works + &version);
            std::iter::once(works).chain(hazards.into_iter().map(|hazard| Finding::warn(SUBJECT, hazard))).collect()
        }
        Err(why) => {
            let silent = format!(
                "the broker works, but does not tell its settings ({why}); check them as docs/BACKENDS.md has it"
            );
            vec![Finding::ok(SUBJECT, works), Finding::warn(SUBJECT, silent)]
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

#[cfg(test)]
mod tests {
    use super::*;
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
    fn what_the_broker_says_of_itself_is_shown_and_its_silence_is_no_failure() {
        let hazards = vec!["one: mend it".to_owned(), "two: mend it".to_owned()];
        let inspection = Inspection { version: Some("Redis 7".to_owned()), hazards };
        let shown: Vec<String> =
            described("works".to_owned(), Ok(inspection)).iter().map(ToString::to_string).collect();
        assert!(shown[0].starts_with("ok") && shown[0].ends_with("works; Redis 7"), "{shown:?}");
        assert!(shown[1].starts_with("WARN") && shown[2].ends_with("two: mend it"), "{shown:?}");
        let silent = described("works".to_owned(), Err("refused".to_owned()));
        assert!(silent.iter().all(|finding| finding.failure().is_none()));
        assert!(silent[1].to_string().contains("refused"));
    }
}
