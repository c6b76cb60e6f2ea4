//! A database server that ends with this process, however it ends.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Runs the program of its arguments until its input ends, then ends it with a signal, and removes what is to be
/// removed. A process that dies, by whatever cause, closes its end of the pipe.
const KEEPER: &str = r#"
    "$@" </dev/null >>"$LOG" 2>&1 &
    server=$!
    read -r _
    kill -"$SIGNAL" "$server" 2>/dev/null
    wait "$server"
    [ -z "$REMOVE" ] || rm -rf "$REMOVE"
"#;

/// A running server.
#[derive(Debug)]
pub(crate) struct Kept(Child);

impl Kept {
    /// Starts a server, which takes `signal` for the end, and writes what it says to `log`.
    pub(crate) fn start(command: &[String], signal: &str, log: &Path, remove: Option<&Path>) -> Self {
        let child = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args(command)
            .env("SIGNAL", signal)
            .env("LOG", log)
            .env("REMOVE", remove.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        Self(child)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

/// Finds a program on the path, or in one of the folders.
pub(crate) fn find_program(name: &str, folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).chain(folders).map(|folder| folder.join(name)).find(|file| file.is_file());
    found.and_then(|file| file.canonicalize().ok())
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
