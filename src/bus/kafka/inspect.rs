//! What a live Kafka says of itself.

use std::collections::HashMap;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::error::{KafkaError, KafkaResult};

use super::alarm::Alarm;
use super::clients::PATIENCE;
use super::settings::{self, MAX_PAYLOAD};
use super::{blocking, bus_error};
use crate::bus::config::KafkaConfig;
use crate::bus::{BusError, Inspection};

/// Asks for the brokers of the cluster, and one of them for the settings that matter.
pub(in crate::bus) async fn inspect(config: &KafkaConfig) -> Result<Inspection, BusError> {
    let brokers = settings::brokers(&config.brokers)?;
    let alarm = Alarm::deaf();
    let admin: AdminClient<Alarm> = settings::client(&brokers).create_with_context(alarm.clone()).map_err(bus_error)?;
    let asking = move || -> KafkaResult<_> {
        let metadata = admin.inner().fetch_metadata(None, PATIENCE)?;
        let brokers: Vec<i32> = metadata.brokers().iter().map(|broker| broker.id()).collect();
        Ok((admin, brokers, metadata.orig_broker_id()))
    };
    let (admin, brokers, asked) = blocking(asking).await?.map_err(|error| alarm.explain(bus_error(error)))?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let settings = match admin.describe_configs(&[ResourceSpecifier::Broker(asked)], &options).await {
        Ok(described) => described
            .into_iter()
            .next()
            .unwrap_or(Err(rdkafka::error::RDKafkaErrorCode::NoEnt))
            .map_err(KafkaError::Global),
        Err(error) => Err(error),
    };
    // The end of a client waits for its threads.
    blocking(move || drop(admin)).await?;
    let count = brokers.len();
    let mut hazards = Vec::new();
    match settings {
        Ok(settings) => {
            let values = settings.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
            hazards.extend(judge(count, &values.collect()));
        }
        Err(error) => hazards.push(format!(
            "its settings cannot be read ({error}): let the user describe the configs of brokers, or check \
             default.replication.factor and min.insync.replicas yourself"
        )),
    }
    let version = match count {
        1 => "Kafka, 1 broker; its protocol tells no version".to_owned(),
        _ => format!("Kafka, {count} brokers; its protocol tells no version"),
    };
    Ok(Inspection { version: Some(version), hazards })
}

fn judge(brokers: usize, settings: &HashMap<String, String>) -> Vec<String> {
    let number = |name: &str| settings.get(name).and_then(|text| text.parse::<u64>().ok());
    let mut hazards = Vec::new();
    if brokers < 2 {
        hazards.push(
            "there is one broker, and while it is away nodes do not hear each other: run three, with \
             default.replication.factor=3 and min.insync.replicas=2"
                .to_owned(),
        );
    } else {
        if number("default.replication.factor") == Some(1) {
            hazards.push(
                "default.replication.factor is 1, so that a broker that is lost takes the topics of some nodes with \
                 it: set it to 3"
                    .to_owned(),
            );
        }
        if number("min.insync.replicas") == Some(1) {
            hazards.push(
                "min.insync.replicas is 1, so that a message counts as taken that only one broker has: set it to 2"
                    .to_owned(),
            );
        }
    }
    if number("socket.request.max.bytes").is_some_and(|most| most < 2 * MAX_PAYLOAD as u64) {
        hazards.push("socket.request.max.bytes is too small for the largest messages: set it to 104857600".to_owned());
    }
    if number("log.retention.check.interval.ms").is_some_and(|interval| interval > 600_000) {
        hazards.push(
            "log.retention.check.interval.ms lets topics grow for more than ten minutes, though they keep messages for \
             one: set it to 300000"
                .to_owned(),
        );
    }
    hazards
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(brokers: usize, settings: &[(&str, &str)]) -> Vec<String> {
        judge(brokers, &settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_a_lost_broker_takes_with_it_is_a_hazard() {
        let good = [("default.replication.factor", "3"), ("min.insync.replicas", "2")];
        assert_eq!(judged(3, &good), [""; 0]);
        assert!(judged(1, &good)[0].contains("one broker"));
        let bad = judged(3, &[("default.replication.factor", "1"), ("min.insync.replicas", "1")]);
        assert!(bad[0].contains("set it to 3") && bad[1].contains("set it to 2"), "{bad:?}");
    }

    #[test]
    fn limits_that_do_harm_are_hazards() {
        let good = [("socket.request.max.bytes", "104857600"), ("log.retention.check.interval.ms", "300000")];
        assert_eq!(judged(2, &good), [""; 0]);
        let bad = judged(2, &[("socket.request.max.bytes", "1048576"), ("log.retention.check.interval.ms", "3600000")]);
        assert!(bad[0].contains("socket.request") && bad[1].contains("check.interval"), "{bad:?}");
    }
}
