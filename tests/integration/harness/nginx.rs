//! The real Nginx, in the foreground on a free port, stopped when it is dropped.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use switchboard::edge::nginx::{Layout, render};
use switchboard::edge::{EdgeConfig, EdgeNode, NodeAddress};
use tempfile::TempDir;

use super::{DEADLINE, free_port};

/// Names the program to use instead of the one on PATH.
const VARIABLE: &str = "SWITCHBOARD_TEST_NGINX";
/// A running Nginx.
#[derive(Debug)]
pub(crate) struct Nginx {
    process: Child,
    folder: TempDir,
    listen: SocketAddr,
}

impl Nginx {
    /// Starts Nginx on the config that `render` makes of a folder, in which it must keep `nginx.pid` and `error.log`,
    /// and of the address to listen on. Returns once it accepts connections. `None`: it is not installed here, and
    /// the case is skipped.
    pub(crate) async fn start(render: impl FnOnce(&str, SocketAddr) -> String) -> Option<Self> {
        let program = installed()?;
        let folder = tempfile::tempdir().expect("a temp folder");
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let conf = render(folder.path().to_str().expect("a temp folder in UTF-8"), listen);
        let path = folder.path().join("nginx.conf");
        fs::write(&path, conf).expect("write nginx.conf");
        let output = fs::File::create(folder.path().join("output.log")).expect("a log file");
        let process = command(&program, &path, folder.path())
            .args(["-g", "daemon off;"])
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output)
            .spawn()
            .expect("nginx starts");
        let mut nginx = Self { process, folder, listen };
        nginx.ready().await;
        Some(nginx)
    }

    /// Returns where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Returns the folder of its config and its files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the config it was started with, or what has been put in its place.
    pub(crate) fn conf(&self) -> String {
        fs::read_to_string(self.folder.path().join("nginx.conf")).expect("read nginx.conf")
    }

    /// Returns the nodes of its config.
    pub(crate) fn nodes(&self) -> BTreeSet<SocketAddr> {
        let conf = self.conf();
        let servers = conf.lines().filter_map(|line| line.trim().strip_prefix("server ")?.split(' ').next());
        servers.filter_map(|address| address.parse().ok()).collect()
    }

    /// Waits for the pid file, which Nginx writes when its sockets listen. Asking the port itself would use up a turn
    /// of the balancer.
    async fn ready(&mut self) {
        let pid_file = self.folder.path().join("nginx.pid");
        let deadline = Instant::now() + DEADLINE;
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while fs::read_to_string(&pid_file).map_or(true, |pid| pid.trim().is_empty()) {
            ticks.tick().await;
            if let Some(status) = self.process.try_wait().expect("the state of nginx") {
                panic!("nginx ended with {status}:\n{}", self.logs());
            }
            assert!(Instant::now() < deadline, "nginx is not ready after {DEADLINE:?}:\n{}", self.logs());
        }
    }

    fn logs(&self) -> String {
        ["output.log", "error.log"]
            .map(|name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default())
            .concat()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Killed, the master would leave its workers behind; TERM makes it take them along.
        let terminated = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.process.id().to_string()]).status();
        if !terminated.is_ok_and(|status| status.success()) && self.process.kill().is_err() {
            return;
        }
        if let Err(e) = self.process.wait() {
            eprintln!("nginx {} was not waited for: {e}", self.process.id());
        }
    }
}

/// Starts Nginx with nodes behind it. `None`: it is not installed here, and the case is skipped.
pub(crate) async fn balance(nodes: &[SocketAddr]) -> Option<Nginx> {
    Nginx::start(|prefix, listen| {
        let address = |node: &SocketAddr| NodeAddress::new(&node.to_string()).expect("an address");
        let nodes = nodes.iter().map(|node| EdgeNode { address: address(node), weight: 1 }).collect();
        let edge = EdgeConfig { listen, nodes, worker_connections: 256, ..EdgeConfig::default() };
        render(&edge, &Layout { prefix: Some(prefix.to_owned()), load_module: None })
    })
    .await
}

/// Runs `nginx -t` on a config. `None`: Nginx is not installed here, and the case is skipped.
pub(crate) fn check(conf: &str, folder: &Path) -> Option<Output> {
    let program = installed()?;
    let path = folder.join("nginx.conf");
    fs::write(&path, conf).expect("write nginx.conf");
    Some(command(&program, &path, folder).arg("-t").output().expect("nginx runs"))
}

fn command(program: &Path, conf: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-c").arg(conf).arg("-e").arg(folder.join("error.log"));
    command
}

/// Finds an Nginx that can balance TCP: named in the environment, or on PATH, or where Debian keeps it.
pub(crate) fn installed() -> Option<PathBuf> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| {
        let folders =
            std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
        folders.map(|folder| folder.join("nginx")).find(|program| program.is_file())
    });
    match found {
        Some(program) if has_stream(&program) => Some(program),
        Some(program) => skipped(&format!("{} has no stream module", program.display())),
        None => skipped("nginx is not installed"),
    }
}

fn has_stream(program: &Path) -> bool {
    let output = Command::new(program).arg("-V").output().expect("nginx runs");
    let built_with = String::from_utf8_lossy(&output.stderr).into_owned();
    let part_of_it = built_with.split_whitespace().any(|argument| argument == "--with-stream");
    part_of_it || Path::new("/usr/lib/nginx/modules/ngx_stream_module.so").is_file()
}

fn skipped<T>(reason: &str) -> Option<T> {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line =
        format!("SKIPPED {test}: {reason}; apt-get install nginx libnginx-mod-stream, or name a program in {VARIABLE}");
    assert!(std::env::var("REQUIRE_BROKERS").as_deref() != Ok("1"), "{line}");
    // Past the test runner, which shows nothing of a test that passes.
    writeln!(std::io::stderr(), "{line}").expect("standard error");
    None
}
