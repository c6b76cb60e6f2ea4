//! The database dies and comes back while users talk: nothing is acknowledged meanwhile, and everything is afterwards.

use std::time::Duration;

use tokio::time::sleep;

use super::traffic::Traffic;
use super::turn;
use crate::harness::process::Site;
use crate::harness::redis::RedisServer;

const USERS: usize = 20;

/// How long the database is away.
const OUTAGE: Duration = Duration::from_secs(4);

/// Takes the log away from two nodes for a while, and gives it back.
async fn a_log_that_dies_and_comes_back_loses_nothing(url: &str, kill: impl FnOnce(), start: impl AsyncFnOnce()) {
    let Some(redis) = RedisServer::start_new().await else { return };
    let site = Site::on(&redis).log_at(url);
    let (a, b) = (site.start(&site.node("node-a")).await, site.start(&site.node("node-b")).await);
    let mut traffic = Traffic::start(&[a.tcp(), b.tcp()], USERS).await;
    kill();
    sleep(OUTAGE).await;
    start().await;
    traffic.flows().await;
    let progress = traffic.ends_well().await;
    // The nodes have come back by themselves, and nobody had to leave them.
    assert!(progress.iter().all(|user| user.nodes.len() == 1 && user.closings.is_empty()), "{progress:#?}");
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_dies_and_comes_back_loses_nothing() {
    use crate::harness::postgres::{PostgresLog, PostgresServer};

    let _turn = turn().await;
    let Some(server) = PostgresServer::start_new().await else { return };
    let log = PostgresLog::on(&server.url()).await;
    let kill = || server.kill();
    a_log_that_dies_and_comes_back_loses_nothing(log.url(), kill, async || server.start().await).await;
}

#[cfg(feature = "mysql")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mysql_that_dies_and_comes_back_loses_nothing() {
    use crate::harness::mysql::{MysqlLog, MysqlServer};

    let _turn = turn().await;
    let Some(server) = MysqlServer::start_new().await else { return };
    let log = MysqlLog::on(&server.url()).await;
    let kill = || server.kill();
    a_log_that_dies_and_comes_back_loses_nothing(log.url(), kill, async || server.start().await).await;
}
