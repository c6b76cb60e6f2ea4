//! What can happen to a RabbitMQ and to no other broker.

use super::broker::under_traffic;
use super::turn;
use crate::harness::rabbitmq::RabbitmqServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rabbitmq_that_runs_out_of_memory_loses_nothing() {
    let _turn = turn().await;
    let Some(server) = RabbitmqServer::start_new().await else { return };
    under_traffic(&server, async |traffic| {
        server.set_memory_alarm(true).await;
        traffic.all_hear("degraded").await;
        traffic.flows().await;
        server.set_memory_alarm(false).await;
        traffic.all_hear("restored").await;
    })
    .await;
}
