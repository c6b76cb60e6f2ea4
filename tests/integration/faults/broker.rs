//! A real broker is broken while users on two nodes talk through it.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;

use super::traffic::Traffic;
use crate::harness::broker::BrokerServer;
use crate::harness::metric;
use crate::harness::process::Site;

const USERS: usize = 20;

/// How long a broker is away. It is long enough for every node to have noticed.
const OUTAGE: Duration = Duration::from_secs(3);

/// Stamps the faults that every broker can have.
macro_rules! broker_faults {
    ($kind:ident, $server:ty) => {
        mod $kind {
            super::broker_faults! { $server;
                a_broker_that_is_restarted_loses_nothing
                a_broker_that_is_killed_and_comes_back_loses_nothing
                a_broker_that_freezes_loses_nothing
                a_broker_that_refuses_connections_loses_nothing
                a_broker_that_is_absent_from_the_start_loses_nothing
            }
        }
    };
    ($server:ty; $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let _turn = super::super::turn().await;
                if let Some(broker) = <$server>::start_new().await {
                    super::$case(&broker).await;
                }
            }
        )*
    };
}

use broker_faults;

broker_faults!(redis, crate::harness::redis::RedisServer);
#[cfg(feature = "rabbitmq")]
broker_faults!(rabbitmq, crate::harness::rabbitmq::RabbitmqServer);
#[cfg(feature = "kafka")]
broker_faults!(kafka, crate::harness::kafka::KafkaServer);
#[cfg(feature = "mqtt")]
broker_faults!(activemq, crate::harness::activemq::ActivemqServer);
#[cfg(feature = "mqtt")]
broker_faults!(mqtt, crate::harness::mosquitto::MosquittoServer);
#[cfg(feature = "nats")]
broker_faults!(nats, crate::harness::nats::NatsServer);

/// Runs a fault while users talk, each on one of two nodes, and somebody listens on a third.
pub(super) async fn under_traffic(broker: &dyn BrokerServer, fault: impl AsyncFnOnce(&mut Traffic)) {
    let site = Site::on(broker);
    let [a, b, c] = ["node-a", "node-b", "node-c"].map(|id| site.node(id));
    let _running = tokio::join!(site.start(&a), site.start(&b), site.start(&c));
    let mut traffic = Traffic::start_before(&[a.tcp, b.tcp], USERS, &[c.tcp]).await;
    fault(&mut traffic).await;
    traffic.flows().await;
    let progress = traffic.ends_well().await;
    // Nobody has lost the connection to a node because of the broker.
    assert!(progress.iter().all(|user| user.nodes.len() == 1 && user.closings.is_empty()), "{progress:#?}");
    // What was missed has been asked for at once, and not been found by the audit, which would find anything in time.
    for node in [&a, &b, &c] {
        assert_eq!(metric(node.http, "switchboard_audit_repaired_total").await, 0.0);
    }
}

/// What users have when the broker is away for a while: they are told, and go on.
async fn away(traffic: &mut Traffic) {
    traffic.all_hear("degraded").await;
    traffic.flows().await;
}

async fn a_broker_that_is_restarted_loses_nothing(broker: &dyn BrokerServer) {
    under_traffic(broker, async |traffic| {
        for _ in 0..2 {
            broker.restart().await;
            traffic.flows().await;
        }
        // A restart may take longer than nodes need to notice.
        traffic.all("not degraded", |_, now| now.conditions.last().is_none_or(|last| last == "restored")).await;
    })
    .await;
}

async fn a_broker_that_is_killed_and_comes_back_loses_nothing(broker: &dyn BrokerServer) {
    under_traffic(broker, async |traffic| {
        broker.kill().await;
        away(traffic).await;
        sleep(OUTAGE).await;
        broker.start().await;
        traffic.all_hear("restored").await;
    })
    .await;
}

async fn a_broker_that_freezes_loses_nothing(broker: &dyn BrokerServer) {
    under_traffic(broker, async |traffic| {
        broker.pause().await;
        away(traffic).await;
        sleep(OUTAGE).await;
        broker.resume().await;
        traffic.all_hear("restored").await;
    })
    .await;
}

async fn a_broker_that_refuses_connections_loses_nothing(broker: &dyn BrokerServer) {
    under_traffic(broker, async |traffic| {
        broker.kill().await;
        // Whoever comes is accepted and sent away at once.
        let refusal = TcpListener::bind(broker.address()).await.expect("the broker's address is free");
        let refusing = async {
            loop {
                drop(refusal.accept().await);
            }
        };
        tokio::select! {
            () = refusing => unreachable!("it refuses for ever"),
            () = away(traffic) => {}
        }
        drop(refusal);
        broker.start().await;
        traffic.all_hear("restored").await;
    })
    .await;
}

async fn a_broker_that_is_absent_from_the_start_loses_nothing(broker: &dyn BrokerServer) {
    broker.kill().await;
    under_traffic(broker, async |traffic| {
        away(traffic).await;
        broker.start().await;
        traffic.all_hear("restored").await;
    })
    .await;
}
