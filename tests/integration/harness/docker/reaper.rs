//! Removes the containers of a run when it ends, however it ends: statics are not dropped, and what is killed drops
//! nothing at all.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use testcontainers::core::client::docker_client_instance;
use tokio::io::AsyncReadExt;

use super::daemon::remove_all;

/// Names the run to the reaper.
const RUN: &str = "SWITCHBOARD_TESTS_TO_REAP";

/// A process that waits for the end of this one, which closes its end of the pipe by whatever cause.
#[derive(Debug)]
pub(super) struct Reaper(#[expect(dead_code, reason = "holds the pipe")] Child);

impl Reaper {
    /// Starts one: this very program, of which it runs only the test below.
    pub(super) fn start(run: &str) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let name = concat!(module_path!(), "::the_containers_of_a_run_end_with_it");
        let (_, name) = name.split_once("::").expect("the path of a module begins with the crate");
        let child = Command::new(program)
            .args(["--exact", name])
            .env(RUN, run)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C ends the run; this one has still to do then.
            .process_group(0)
            .spawn();
        Self(child.expect("this program starts"))
    }
}

/// Does nothing unless it is a reaper.
#[tokio::test]
async fn the_containers_of_a_run_end_with_it() {
    let Ok(run) = std::env::var(RUN) else { return };
    let mut nothing = Vec::new();
    tokio::io::stdin().read_to_end(&mut nothing).await.expect("the pipe ends");
    let client = docker_client_instance().await.expect("the run had a daemon");
    remove_all(&client, &run).await;
}
