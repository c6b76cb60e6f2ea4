//! The bus on brokers in containers, where a Docker daemon answers.

use switchboard::bus::contract::Needs;

use crate::harness::docker::{self, InDocker};

/// Stamps the contract on a broker in a container.
macro_rules! in_docker {
    ($kind:ident, $broker:path) => {
        mod $kind {
            use super::*;

            async fn that(needs: Needs) -> Option<InDocker> {
                InDocker::that(&$broker, needs).await
            }

            switchboard::bus_contract!(contract, that);
        }
    };
}

#[cfg(feature = "redis")]
in_docker!(redis, docker::REDIS);
#[cfg(feature = "rabbitmq")]
in_docker!(rabbitmq, docker::RABBITMQ);
#[cfg(feature = "kafka")]
in_docker!(kafka, docker::KAFKA);
#[cfg(feature = "mqtt")]
in_docker!(activemq, docker::ACTIVEMQ);
#[cfg(feature = "mqtt")]
in_docker!(mosquitto, docker::MOSQUITTO);
#[cfg(feature = "nats")]
in_docker!(nats, docker::NATS);
