//! `switchboard bench bus` on a real broker.

use std::process::Output;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::redis::RedisServer;
use crate::harness::{DEADLINE, free_port};

async fn bench(url: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.env_clear().env("SWITCHBOARD_BUS__REDIS__URL", url).args(["bench", "bus", "--messages", "3000"]).args(args);
    timeout(DEADLINE, command.kill_on_drop(true).output()).await.expect("it ends in time").expect("the program runs")
}

#[tokio::test]
async fn every_round_of_both_is_in_the_report() {
    let Some(redis) = RedisServer::shared().await else { return };
    let said = bench(&redis.url(), &["--rounds", "3", "--batch", "7", "--json"]).await;
    assert!(said.status.success(), "{said:?}");
    let report: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((&report["kind"], &report["plan"]["batch"]), (&"redis".into(), &7.into()));
    for rates in [&report["raw"], &report["bus"]] {
        let rates = rates.as_array().unwrap();
        assert!(rates.len() == 3 && rates.iter().all(|rate| rate.as_f64().unwrap() > 0.0), "{report}");
    }
    let said = bench(&redis.url(), &["--rounds", "2"]).await;
    let table = String::from_utf8(said.stdout).unwrap();
    assert!(table.contains("| 2 |") && table.contains("| median |"), "{table}");
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named() {
    let said = bench(&format!("redis://127.0.0.1:{}", free_port()), &[]).await;
    assert_eq!(said.status.code(), Some(1));
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(text.contains("redis cannot be measured") && text.contains("no broker answers"), "{text}");
}
