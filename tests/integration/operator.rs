//! What an operator does: `switchboard doctor` and `switchboard user`, on real nodes, logs and brokers.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use switchboard::bus::memory::MemoryBroker;
use switchboard::model::store::{self, Store};
use switchboard::server::{ListenConfig, Node};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::{DEADLINE, PASSWORD, User, Wire, free_port, register};

/// Runs the program on a log and on two ports, with more environment.
async fn switchboard(args: &[&str], at: &Place, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command
        .args(args)
        .env_clear()
        .env("SWITCHBOARD_STORE__URL", at.url())
        .env("SWITCHBOARD_LISTEN__TCP", at.tcp.to_string())
        .env("SWITCHBOARD_LISTEN__HTTP", at.http.to_string())
        .env("SWITCHBOARD_BUS__KIND", "memory")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    timeout(DEADLINE, command.output()).await.expect("the program ends in time").expect("the program runs")
}

/// Where a test has its log and its ports.
struct Place {
    folder: TempDir,
    tcp: SocketAddr,
    http: SocketAddr,
}

impl Place {
    fn new() -> Self {
        let free = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        Self { folder: tempfile::tempdir().unwrap(), tcp: free(), http: free() }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("log.db")
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.file().display())
    }

    /// Starts a node on the log and the ports.
    async fn node(&self) -> (Node, Arc<dyn Store>) {
        let log = store::open(&self.url()).await.unwrap();
        let node = Node::builder(Arc::clone(&log))
            .bus(MemoryBroker::new().connect())
            .listen(ListenConfig { tcp: self.tcp, http: self.http })
            .start();
        (node.await.unwrap(), log)
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The line about a subject.
fn line_of(output: &Output, subject: &str) -> String {
    let text = stdout(output);
    let of = |line: &&str| line.split_whitespace().nth(1) == Some(subject);
    let found: Vec<&str> = text.lines().filter(of).collect();
    assert_eq!(found.len(), 1, "one line about {subject} in:\n{text}{}", stderr(output));
    found[0].to_owned()
}

#[tokio::test]
async fn doctor_finds_a_machine_well_before_its_first_node_and_leaves_nothing_behind() {
    let place = Place::new();
    let output = switchboard(&["doctor"], &place, &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(line_of(&output, "database").contains("does not exist yet"));
    assert!(line_of(&output, "bus").starts_with("WARN"), "a memory bus is no cluster's");
    assert!(line_of(&output, "listen.tcp").contains("is free"));
    assert!(line_of(&output, "open").starts_with("ok") || line_of(&output, "open").starts_with("WARN"));
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_knows_the_node_that_holds_the_ports_and_whether_it_lives() {
    let place = Place::new();
    let (node, log) = place.node().await;
    let output = switchboard(&["doctor"], &place, &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    assert!(line_of(&output, "listen.tcp").contains("held by a running node"));
    assert!(line_of(&output, "listen.http").contains("(node-a, ready)"));
    assert!(line_of(&output, "database").contains("none pending"), "{}", stdout(&output));

    let output = switchboard(&["doctor"], &place, &[("SWITCHBOARD_NODE__ID", "node-z")]).await;
    assert!(line_of(&output, "listen.http").starts_with("WARN"), "another node holds the port");

    assert_eq!(switchboard(&["doctor", "--live"], &place, &[]).await.status.code(), Some(0));
    assert!(node.stop().await);
    let output = switchboard(&["doctor", "--live"], &place, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("listen.http"), "{}", stderr(&output));
    log.close().await;
}

#[tokio::test]
async fn doctor_names_the_cure_of_each_failure_and_ends_as_a_node_would() {
    let place = Place::new();
    let listener = std::net::TcpListener::bind(place.tcp).unwrap();
    std::fs::write(place.file(), "no database at all, but long enough to be told from one").unwrap();
    let nobody = format!("redis://127.0.0.1:{}", free_port());
    let output = switchboard(&["doctor"], &place, &[]).await;
    assert_eq!(output.status.code(), Some(78), "{}", stdout(&output));
    assert!(line_of(&output, "database").contains("FAIL"));
    assert!(line_of(&output, "listen.tcp").contains("stop that one, or choose another listen.tcp"));
    assert!(stderr(&output).contains("2 of 6 checks failed"), "{}", stderr(&output));

    std::fs::remove_file(place.file()).unwrap();
    drop(listener);
    if cfg!(feature = "redis") {
        let broker = [("SWITCHBOARD_BUS__KIND", "redis"), ("SWITCHBOARD_BUS__REDIS__URL", nobody.as_str())];
        let output = switchboard(&["doctor"], &place, &broker).await;
        assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
        let line = line_of(&output, "bus");
        assert!(line.starts_with("FAIL") && line.contains("start the broker"), "{line}");
    }

    let output = switchboard(&["doctor"], &place, &[("SWITCHBOARD_LIMITS__IDEL", "1s")]).await;
    assert_eq!(output.status.code(), Some(78));
    assert!(line_of(&output, "config").starts_with("FAIL"));
    assert!(stderr(&output).contains("SWITCHBOARD_LIMITS__IDEL"), "{}", stderr(&output));
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn doctor_times_a_round_trip_through_a_real_redis() {
    let Some(server) = crate::harness::redis::RedisServer::shared().await else { return };
    let url = server.url();
    let broker = [("SWITCHBOARD_BUS__KIND", "redis"), ("SWITCHBOARD_BUS__REDIS__URL", url.as_str())];
    let output = switchboard(&["doctor"], &Place::new(), &broker).await;
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    let line = line_of(&output, "bus");
    assert!(line.starts_with("ok") && line.contains("a message came back in") && line.contains(&url), "{line}");
}

async fn user(args: &[&str], place: &Place) -> Output {
    let args: Vec<&str> = ["user"].iter().chain(args).copied().collect();
    switchboard(&args, place, &[("NEW_PASSWORD", "battery staple"), ("SHORT", "short")]).await
}

/// Tries to log in and returns the answer.
async fn login(address: SocketAddr, login: Value) -> Value {
    let mut wire = Wire::connect(address).await;
    let mut frame = json!({"type": "login"});
    frame.as_object_mut().unwrap().extend(login.as_object().unwrap().clone());
    wire.say(frame).await;
    wire.hear().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_changed_on_the_log_beside_a_running_node() {
    let place = Place::new();
    let (node, log) = place.node().await;
    for name in ["Alice", "bob"] {
        register(place.tcp, name).await;
    }
    let token = User::login(place.tcp, "Alice").await.token.clone();
    let done = async |args: &[&str]| {
        let output = user(args, &place).await;
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        stdout(&output)
    };
    let with = |password: &str| json!({"name": "alice", "password": password});

    let list = done(&["list"]).await;
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().skip(1).collect()).collect();
    assert_eq!(rows, [["active", "Alice"], ["active", "bob"]]);

    done(&["disable", "ALICE"]).await;
    assert_eq!(login(place.tcp, with(PASSWORD)).await["code"], "bad_credentials");
    assert!(done(&["list"]).await.contains("disabled"));
    done(&["enable", "alice"]).await;
    assert_eq!(login(place.tcp, with(PASSWORD)).await["type"], "welcome");
    assert_eq!(login(place.tcp, json!({"token": token})).await["code"], "bad_credentials", "made before");

    done(&["set-password", "alice", "--password-env", "NEW_PASSWORD"]).await;
    assert_eq!(login(place.tcp, with(PASSWORD)).await["code"], "bad_credentials");
    assert_eq!(login(place.tcp, with("battery staple")).await["type"], "welcome");

    done(&["delete", "alice", "--yes"]).await;
    assert_eq!(login(place.tcp, with("battery staple")).await["code"], "bad_credentials");
    let mut wire = Wire::connect(place.tcp).await;
    wire.say(json!({"type": "register", "name": "alice", "password": PASSWORD})).await;
    assert_eq!(wire.hear().await["code"], "name_taken");
    assert_eq!(user(&["enable", "alice"], &place).await.status.code(), Some(1));

    assert!(node.stop().await);
    log.close().await;
}

#[tokio::test]
async fn what_cannot_be_done_to_an_account_says_why() {
    let place = Place::new();
    let refused = async |args: &[&str], code: i32, text: &str| {
        let output = user(args, &place).await;
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(text), "{args:?}: {}", stderr(&output));
    };
    refused(&["list"], 1, "does not exist").await;
    assert!(!Path::new(&place.file()).exists(), "asking makes no log");
    let log = store::open(&place.url()).await.unwrap();
    log.user_create(&switchboard::model::Name::new("bob").unwrap(), "hash").await.unwrap();
    refused(&["disable", "carol"], 1, "there is no user carol").await;
    refused(&["disable", "no name"], 64, "is no name").await;
    refused(&["set-password", "bob"], 64, "--password-env").await;
    refused(&["set-password", "bob", "--password-env", "NOT_SET"], 64, "NOT_SET").await;
    refused(&["set-password", "bob", "--password-env", "SHORT"], 1, "8 to 1024 bytes").await;
    refused(&["delete", "bob"], 64, "--yes").await;
    log.close().await;
}
