//! What can happen to a Redis and to no other broker.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::broker::under_traffic;
use super::turn;
use crate::harness::redis::RedisServer;
use crate::harness::{DEADLINE, eventually};

/// An operator's connection, which stays open.
struct Operator(BufReader<TcpStream>);

impl Operator {
    async fn connect(server: &RedisServer) -> Self {
        Self(BufReader::new(TcpStream::connect(server.address()).await.expect("Redis listens")))
    }

    /// Gives a command and returns the first line of the answer.
    async fn command(&mut self, command: &str) -> String {
        self.0.write_all(format!("{command}\r\n").as_bytes()).await.expect("Redis reads");
        let mut line = String::new();
        self.0.read_line(&mut line).await.expect("Redis answers");
        line.trim_end().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_that_are_cut_off_lose_nothing() {
    let _turn = turn().await;
    let Some(server) = RedisServer::start_new().await else { return };
    under_traffic(&server, async |traffic| {
        let operator = Mutex::new(Operator::connect(&server).await);
        for _ in 0..5 {
            // Those that were cut off the last time may still be on their way back.
            eventually("a subscriber is cut off", DEADLINE, || async {
                operator.lock().await.command("CLIENT KILL TYPE pubsub").await != ":0"
            })
            .await;
            traffic.flows().await;
        }
        traffic.all("not degraded", |_, now| now.conditions.last().is_none_or(|last| last == "restored")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_has_no_room_for_its_nodes_loses_nothing() {
    let _turn = turn().await;
    let Some(server) = RedisServer::start_new().await else { return };
    under_traffic(&server, async |traffic| {
        let mut operator = Operator::connect(&server).await;
        assert_eq!(operator.command("CONFIG SET maxclients 1").await, "+OK");
        operator.command("CLIENT KILL TYPE pubsub").await;
        operator.command("CLIENT KILL TYPE normal").await;
        traffic.all_hear("degraded").await;
        traffic.flows().await;
        assert_eq!(operator.command("CONFIG SET maxclients 1000").await, "+OK");
        traffic.all_hear("restored").await;
    })
    .await;
}
