//! Readers that are slow, on a node that is a process of its own, so that its memory can be seen.

use serde_json::{Value, json};

use super::turn;
use crate::harness::process::{Process, Site};
use crate::harness::{User, Wire};

/// What goes by while some do not read: 64 MB.
const COUNT: u64 = 4_000;
const BODY: usize = 16_000;
/// Said at once.
const BURST: u64 = 50;
const SLEEPERS: usize = 8;

/// What the node may grow by meanwhile, in KiB: less than what goes by, of which it would have to keep all of it for
/// those who do not read.
const GROWTH: u64 = 32 * 1024;

/// Reads how much memory a process has, in KiB.
fn memory(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stop_do_not_fill_the_node_and_miss_nothing() {
    let _turn = turn().await;
    let Some(site) = Site::new().await else { return };
    // However long a busy machine takes for all that goes by: nobody here is to be closed meanwhile.
    let site = site.set("limits.slow_after = \"1h\"");
    let (a, b) = (site.start(&site.node("node-a")).await, site.start(&site.node("node-b")).await);
    let mut speaker = User::new(a.tcp(), "speaker").await;
    let group = speaker.found("busy").await;
    let mut reader = User::new(b.tcp(), "reader").await;
    let mut last = reader.join(group).await;
    let mut sleepers = Vec::new();
    for number in 0..SLEEPERS {
        let mut sleeper = User::new(b.tcp(), &format!("sleeper-{number}")).await;
        let joined = sleeper.join(group).await;
        let login = json!({"type": "login", "token": sleeper.token, "since": {group.to_string(): joined}});
        let mut asleep = User::welcomed(Wire::connect_narrow(b.tcp()).await, login).await;
        asleep.expect(json!({"type": "caught_up", "more": []})).await;
        sleepers.push((asleep, joined));
    }
    let before = memory(&b);
    let body = "x".repeat(BODY);
    let post = |key: u64| json!({"type": "send", "key": key.to_string(), "conversation": group, "body": body});
    let speaking = async {
        for burst in 0..COUNT / BURST {
            speaker.say_all((burst * BURST..(burst + 1) * BURST).map(post)).await;
            for _ in 0..BURST {
                speaker.hear_past(&["message"], "sent").await;
            }
        }
    };
    let head = 1 + SLEEPERS as u64 + COUNT;
    let reading = async {
        let mut most = before;
        while last < head {
            let message: Value = reader.hear_past(&[], "message").await;
            last += 1;
            assert_eq!(message["seq"], last);
            if last.is_multiple_of(100) {
                most = most.max(memory(&b));
            }
        }
        most
    };
    // Who reads has everything while the others have nothing.
    let ((), most) = tokio::join!(speaking, reading);
    assert!(most - before < GROWTH, "the node has grown from {before} to {most} KiB");

    for (sleeper, joined) in &mut sleepers {
        for seq in *joined + 1..=head {
            assert_eq!(sleeper.hear_past(&[], "message").await["seq"], seq);
        }
        sleeper.quiet().await;
    }
}
