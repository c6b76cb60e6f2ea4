//! The same chat server on every broker, with a subject per user and with one per node, and what operators do with it.

use std::process::{Output, Stdio};

use serde_json::Value;
use switchboard::bus::Routing;
use switchboard::bus::contract::Needs;
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::broker::{Place, config_of, variables};
use crate::harness::cluster::{Settings, run_at};
use crate::harness::server::Program;

/// Stamps what every broker has to carry.
macro_rules! on_every_broker {
    ($($(#[$gate:meta])* $name:ident: $program:ty;)*) => {
        $(
            $(#[$gate])*
            mod $name {
                mod per_user {
                    super::super::on_every_broker! { @routed $program, PerUser }
                }
                mod per_node {
                    super::super::on_every_broker! { @routed $program, PerNode }
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn the_doctor_reads_what_the_live_broker_says_of_itself() {
                    super::the_doctor_is_told::<$program>().await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn the_benchmark_measures_it_against_its_client() {
                    super::is_measured::<$program>().await;
                }
            }
        )*
    };
    (@routed $program:ty, $routing:ident) => {
        super::super::on_every_broker! { @cases $program, $routing;
            chat: messages_go_both_ways_between_two_nodes
            chat: clusters_that_share_a_broker_do_not_hear_each_other
            groups: everybody_sees_one_order_while_members_of_both_nodes_speak
            groups: who_leaves_gets_the_leave_and_nothing_after_it
            races: who_logs_out_and_in_again_at_once_stays_reachable
            races: who_joins_under_traffic_gets_everything_above_the_join
        }
    };
    (@cases $program:ty, $routing:ident; $($promise:ident: $case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let settings = super::super::Settings {
                    routing: super::super::Routing::$routing,
                    ..super::super::Settings::default()
                };
                super::super::run_at::<$program>(settings, crate::$promise::$case).await;
            }
        )*
    };
}

use crate::harness::DEADLINE;
use on_every_broker;

on_every_broker! {
    #[cfg(feature = "rabbitmq")]
    rabbitmq: crate::harness::rabbitmq::Rabbitmq;
    #[cfg(feature = "kafka")]
    kafka: crate::harness::kafka::Kafka;
    #[cfg(feature = "mqtt")]
    mosquitto: crate::harness::mosquitto::Mosquitto;
    #[cfg(feature = "mqtt")]
    activemq: crate::harness::activemq::Activemq;
    #[cfg(feature = "nats")]
    nats: crate::harness::nats::Nats;
}

/// Runs the program on a broker.
async fn switchboard(broker: &[(String, String)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    let command = command.env_clear().envs(broker.iter().cloned()).args(arguments).stdin(Stdio::null());
    timeout(DEADLINE, command.kill_on_drop(true).output()).await.expect("it ends in time").expect("the program runs")
}

async fn the_doctor_is_told<P: Program>() {
    let Some(place) = Place::<P>::that(Needs::Shared).await else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = ("SWITCHBOARD_STORE__URL".to_owned(), format!("sqlite://{}", folder.path().join("log.db").display()));
    let ports = ["TCP", "HTTP"].map(|port| (format!("SWITCHBOARD_LISTEN__{port}"), "127.0.0.1:0".to_owned()));
    let broker = variables(P::KIND, P::KEY, &place.url());
    let said = switchboard(&[&[log], &ports[..], &broker].concat(), &["doctor"]).await;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(said.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&said.stderr));
    let lines: Vec<&str> = text.lines().filter(|line| line.split_whitespace().nth(1) == Some("bus")).collect();
    let works = format!("{}, a message came back in", config_of(P::KIND, P::KEY, &place.url()));
    assert!(lines[0].starts_with("ok") && lines[0].contains(&works), "{text}");
    assert!(lines.iter().all(|line| !line.contains("does not tell its settings")), "{text}");
}

async fn is_measured<P: Program>() {
    let Some(place) = Place::<P>::that(Needs::Shared).await else { return };
    let broker = variables(P::KIND, P::KEY, &place.url());
    let said = switchboard(&broker, &["bench", "bus", "--messages", "2000", "--rounds", "1", "--json"]).await;
    assert!(said.status.success(), "{said:?}");
    let report: Value = serde_json::from_slice(&said.stdout).expect("a report");
    assert_eq!(report["kind"], P::KIND.name());
    for rates in [&report["raw"], &report["bus"]] {
        assert!(rates.as_array().is_some_and(|rates| rates.len() == 1 && rates[0].as_f64() > Some(0.0)), "{report}");
    }
}
