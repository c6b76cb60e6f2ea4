//! Both nodes are restarted, one after the other, while a chat log is played through the real Nginx.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use switchboard::model::store::Store;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::turn;
use crate::harness::nginx::balance;
use crate::harness::process::Site;
use crate::harness::{DEADLINE, eventually};

/// How long the whole replay may take.
const REPLAYED: Duration = Duration::from_secs(180);

const SPEAKERS: usize = 24;
const LINES: usize = 3_000;
/// Lines a second: so few that the talk outlasts both restarts, each of which gives the balancers time to notice.
const RATE: usize = 75;

/// Writes a chat log in which everybody speaks in turn.
fn chat_log() -> String {
    (0..LINES).fold(String::new(), |mut log, line| {
        let (hour, minute) = (line / 3_600 % 24, line / 60 % 60);
        writeln!(log, "[{hour:02}:{minute:02}] <nick{}> line {line}", line % SPEAKERS).expect("a string takes text");
        log
    })
}

/// Counts what was said in the only group that there is.
async fn said_in_all(log: &dyn Store) -> u64 {
    let groups = log.group_find("", 1).await.unwrap();
    let Some(group) = groups.first() else { return 0 };
    let head = log.heads(&[group.conversation]).await.unwrap()[0].head;
    // Everybody's coming is an entry too.
    head.saturating_sub(SPEAKERS as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_a_replay_loses_nothing() {
    let _turn = turn().await;
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node("node-a"), site.node("node-b"));
    let (on_a, on_b) = (site.start(&a).await, site.start(&b).await);
    let Some(nginx) = balance(&[a.tcp, b.tcp]).await else { return };
    let _watch = site.watch(&nginx);
    let log = nginx.folder().join("chat.log");
    std::fs::write(&log, chat_log()).expect("write a chat log");
    let mut replay = Command::new(env!("CARGO_BIN_EXE_switchboard"))
        .env_clear()
        .current_dir(nginx.folder())
        .arg("replay")
        .arg(&log)
        .args(["--server", &nginx.address().to_string(), "--rate", &RATE.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the program starts");
    let store = site.log().await;
    let mut running = [(&a, on_a), (&b, on_b)];
    for (round, (node, process)) in running.iter_mut().enumerate() {
        // Each node goes in the middle of the talk.
        let enough = (round as u64 + 1) * LINES as u64 / 4;
        eventually("the replay is under way", DEADLINE, || async { said_in_all(&*store).await > enough }).await;
        process.terminate();
        let status = process.ended().await;
        assert_eq!(status.code(), Some(0), "{}", process.said());
        *process = site.start(node).await;
        let back = || async { nginx.nodes() == BTreeSet::from([a.tcp, b.tcp]) };
        eventually("the balancer has both nodes", DEADLINE, back).await;
    }
    assert!(said_in_all(&*store).await < LINES as u64, "the replay was over before the nodes were");
    let mut said = String::new();
    replay.stdout.take().expect("a pipe").read_to_string(&mut said).await.expect("text");
    let status = timeout(REPLAYED, replay.wait()).await.expect("the replay ends in time").expect("our child");
    assert!(status.success(), "{said}");
    store.close().await;
}
