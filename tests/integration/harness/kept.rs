//! A server that ends with this process, however it ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Instant;

use super::DEADLINE;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Runs the program of its arguments in a process group of its own until it is told a signal or its input ends. Then it
/// ends the program with that signal, ends with force what is left of the group, waits until all of it is gone, to the
/// last thread, for a port is taken as long as anybody has it open, and removes what is to be removed. A process that
/// dies, by whatever cause, closes its end of the pipe. (`kill -KILL -- -1234` is no group to dash.)
const KEEPER: &str = r#"
    setsid "$@" </dev/null >>"$LOG" 2>&1 &
    server=$!
    echo "$server"
    read -r told
    case "${told:-$SIGNAL}" in
        KILL) kill -s KILL -- "-$server" || kill -s KILL "$server" ;;
        *) kill -"${told:-$SIGNAL}" "$server" ;;
    esac 2>/dev/null
    wait "$server"
    kill -s KILL -- "-$server" 2>/dev/null
    while cat /proc/[0-9]*/task/[0-9]*/stat 2>/dev/null | grep -q ") [^ZX] [0-9]* $server "; do sleep 0.02; done
    [ -z "$REMOVE" ] || rm -rf "$REMOVE"
"#;

/// A running server.
#[derive(Debug)]
pub(crate) struct Kept {
    keeper: Child,
    input: Option<ChildStdin>,
    server: Pid,
}

impl Kept {
    /// Starts a server, which takes `signal` for the end, and writes what it says to `log`.
    pub(crate) fn start(command: &[String], signal: &str, log: &Path, remove: Option<&Path>) -> Self {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args(command)
            .env("SIGNAL", signal)
            .env("LOG", log)
            .env("REMOVE", remove.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let mut line = String::new();
        let output = keeper.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("the keeper says whom it keeps");
        let server = line.trim().parse().ok().and_then(Pid::from_raw).expect("the server's process id");
        Self { input: keeper.stdin.take(), keeper, server }
    }

    /// Sends a signal to the server and all its processes.
    pub(crate) fn signal(&self, signal: Signal) {
        // Until it has called `setsid` it has no group.
        let sent = kill_process_group(self.server, signal).or_else(|_| kill_process(self.server, signal));
        sent.expect("our server takes signals");
    }

    /// Stops the server and all its processes, and waits until they have stopped: threads that run when the signal comes
    /// run on for a moment.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        let begun = Instant::now();
        while !self.has_stopped() {
            assert!(begun.elapsed() < DEADLINE, "the server has not stopped within {DEADLINE:?}");
            std::thread::yield_now();
        }
    }

    /// Tells whether every thread of every process of the server has stopped.
    fn has_stopped(&self) -> bool {
        let folders = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        // Behind the name, in parentheses, stand the state, the parent and the process group.
        let fields = |folder: &Path| -> Vec<String> {
            let stat = fs::read_to_string(folder.join("stat")).unwrap_or_default();
            let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').take(3).map(str::to_owned).collect());
            fields.unwrap_or_default()
        };
        let group = self.server.as_raw_nonzero().to_string();
        let ours = folders(Path::new("/proc")).filter(|folder| fields(folder).get(2) == Some(&group));
        let mut threads = ours.flat_map(|folder| folders(&folder.join("task")));
        threads.all(|thread| fields(&thread).first().is_none_or(|state| ["T", "t", "Z", "X"].contains(&&**state)))
    }

    /// Tells whether the server has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.server.as_raw_nonzero()));
        // The name, in parentheses, may hold anything; behind it stands the state.
        stat.map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])))
    }

    /// Ends the server with a signal, such as `TERM`, and waits until it is gone.
    pub(crate) fn end(mut self, signal: &str) {
        if let Some(input) = &mut self.input {
            writeln!(input, "{signal}").expect("the keeper listens");
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.keeper.wait());
    }
}

/// Finds a program on the path, or in one of the folders.
pub(crate) fn find_program(name: &str, folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).chain(folders).map(|folder| folder.join(name)).find(|file| file.is_file());
    // Not the file behind a link: some programs are several, and tell by their name which one they are.
    found.and_then(|file| std::path::absolute(file).ok())
}

/// Returns what comes before a command so that it runs as `user`, when we are root, and gives that user the folder.
pub(crate) fn as_user(user: &str, folder: &Path) -> Vec<String> {
    if !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    let id = |flag: &str| {
        let said = Command::new("id").args([flag, user]).output().expect("id runs");
        let text = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        text.parse::<u32>().unwrap_or_else(|_| panic!("there is no user {user}"))
    };
    let (uid, gid) = (id("-u"), id("-g"));
    std::os::unix::fs::chown(folder, Some(uid), Some(gid)).expect("root gives a folder away");
    ["setpriv", &format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups", "--"].map(str::to_owned).into()
}

/// Runs a command to its end, which must be a good one.
pub(crate) async fn run(command: Vec<String>) {
    let said = tokio::process::Command::new(&command[0]).args(&command[1..]).current_dir("/").output().await;
    let said = said.unwrap_or_else(|error| panic!("{}: {error}", command[0]));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(said.status.success(), "{command:?}: {}{}", text(&said.stdout), text(&said.stderr));
}
