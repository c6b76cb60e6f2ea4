use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use switchboard::model::store::{self, Store};
use tempfile::TempDir;

use super::broker::BrokerServer;
use super::cluster::{Broker, Bus};
use super::nginx::{self, Nginx};
use super::{DEADLINE, eventually, free_port, get};

/// What several `switchboard serve` on one machine share: a log, and a real broker.
pub(crate) struct Site {
    folder: TempDir,
    log: String,
    /// The lines of a config that are the same for each node.
    settings: String,
    /// Ends with the site.
    _broker: Option<Broker>,
}

/// One node's config, from which its process is started as often as a test likes.
#[derive(Debug, Clone)]
pub(crate) struct NodeFile {
    path: PathBuf,
    /// Where it accepts clients.
    pub(crate) tcp: SocketAddr,
    /// Where it answers health checks.
    pub(crate) http: SocketAddr,
}

/// A running `switchboard serve`. It is killed when it is dropped, also when the test panics.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    output: PathBuf,
    node: NodeFile,
}

impl Site {
    /// Makes an empty site on a Redis that other tests use too. `None`: there is none, which has been said.
    pub(crate) async fn new() -> Option<Self> {
        let broker = Broker::start(Bus::Redis).await?;
        let settings = format!("bus.redis.url = \"{}\"", broker.url());
        Some(Self { _broker: Some(broker), ..Self::with(settings) })
    }

    /// Makes an empty site on a broker of the test's own.
    pub(crate) fn on(broker: &dyn BrokerServer) -> Self {
        Self::with(broker.settings())
    }

    fn with(settings: String) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = format!("sqlite://{}", folder.path().join("log.db").display());
        Self { folder, log, settings, _broker: None }
    }

    /// Puts the site's log elsewhere.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(crate) fn log_at(mut self, url: &str) -> Self {
        self.log = url.to_owned();
        self
    }

    /// Sets another key of each node's config.
    pub(crate) fn set(mut self, line: &str) -> Self {
        self.settings = format!("{}\n{line}", self.settings);
        self
    }

    /// Opens the site's log beside its nodes.
    pub(crate) async fn log(&self) -> Arc<dyn Store> {
        store::open(&self.log).await.expect("the log opens")
    }

    /// Waits until no process is in the middle of writing to the log, and keeps all of them from it until the answer is
    /// dropped.
    pub(crate) async fn hold_log(&self) -> File {
        let path = self.folder.path().join("log.db.lock");
        let lock = tokio::task::spawn_blocking(move || {
            let lock = File::options().write(true).open(path)?;
            lock.lock().map(|()| lock)
        });
        lock.await.expect("no panic").expect("a node has made the lock")
    }

    /// Stops a process while it is not in the middle of writing to the log, which would stop all the others too.
    pub(crate) async fn freeze(&self, process: &Process) {
        let held = self.hold_log().await;
        process.pause();
        // Whoever waits for the lock and runs on for a moment would have it.
        eventually("the process is stopped", DEADLINE, || async { process.is_stopped() }).await;
        drop(held);
    }

    /// Writes the config of a node on free ports.
    pub(crate) fn node(&self, id: &str) -> NodeFile {
        self.node_with(id, "")
    }

    /// Writes the config of a node on free ports, with more lines.
    pub(crate) fn node_with(&self, id: &str, more: &str) -> NodeFile {
        let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (tcp, http) = (address(), address());
        let Self { log, settings, .. } = self;
        let path = self.folder.path().join(format!("{id}-{}.toml", tcp.port()));
        // The cheapest passwords that argon2 takes: these tests are not about guessing them. Nor are they about idle
        // clients, while a busy machine may take its time.
        let config = format!(
            r#"
            node.id = "{id}"
            listen.tcp = "{tcp}"
            listen.http = "{http}"
            store.url = "{log}"
            auth.argon2_memory_kib = 8
            auth.argon2_passes = 1
            limits.idle = "9m"
            {settings}
            {more}
            "#
        );
        fs::write(&path, config).expect("write a config");
        NodeFile { path, tcp, http }
    }

    /// Has `switchboard nginx watch` follow the site's nodes for an Nginx.
    pub(crate) fn watch(&self, nginx: &Nginx) -> Process {
        let mut watcher = self.node("watcher");
        watcher.path = self.folder.path().join("watch.toml");
        let (log, listen) = (&self.log, nginx.address());
        let config = format!("store.url = \"{log}\"\nedge.listen = \"{listen}\"\nedge.worker_connections = 256\n");
        fs::write(&watcher.path, config).expect("write a config");
        let program = nginx::installed().expect("one is running");
        let (folder, output) = (nginx.folder(), nginx.folder().join("nginx.conf"));
        let path = |path: &std::path::Path| path.to_str().expect("a path in UTF-8").to_owned();
        let (program, folder, output) = (path(&program), path(folder), path(&output));
        let command = ["nginx", "watch", "--prefix", &folder, "--output", &output, "--nginx", &program];
        self.launch_command(&watcher, &command)
    }

    /// Starts a node and waits until it is ready.
    pub(crate) async fn start(&self, node: &NodeFile) -> Process {
        let mut process = self.launch(node);
        let process_ref = std::cell::RefCell::new(&mut process);
        eventually("the node is ready", DEADLINE, || async {
            let ended = process_ref.borrow_mut().try_wait();
            assert!(ended.is_none(), "the node ended with {ended:?}:\n{}", process_ref.borrow().said());
            get(node.http, "/readyz").await.is_some_and(|(status, _)| status == 200)
        })
        .await;
        process
    }

    /// Starts a process, whatever becomes of it.
    pub(crate) fn launch(&self, node: &NodeFile) -> Process {
        self.launch_with(node, &[])
    }

    /// Starts a process with more arguments.
    pub(crate) fn launch_with(&self, node: &NodeFile, arguments: &[&str]) -> Process {
        self.launch_command(node, &[&["serve"], arguments].concat())
    }

    /// Starts another command of the program with a node's config.
    pub(crate) fn launch_command(&self, node: &NodeFile, command: &[&str]) -> Process {
        let output = node.path.with_extension(format!("{}.log", free_name()));
        let file = File::create(&output).expect("a log file");
        let child = Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .env_clear()
            .current_dir(self.folder.path())
            .args(command)
            .arg("--config")
            .arg(&node.path)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("the program starts");
        Process { child, output, node: node.clone() }
    }
}

fn free_name() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl NodeFile {
    /// Returns the config file.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }
}

impl Process {
    /// Returns where it accepts clients.
    pub(crate) fn tcp(&self) -> SocketAddr {
        self.node.tcp
    }

    /// Returns its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Interrupts it, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Stops it in the middle of what it does: its connections stay open, and nothing is answered.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Tells whether none of its threads runs.
    fn is_stopped(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the process lives");
        // The name, in parentheses, may hold anything; behind it stands the state.
        let state = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'));
        threads.flatten().all(|thread| fs::read_to_string(thread.path().join("stat")).map_or(true, state))
    }

    /// Lets it go on after a pause.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our child takes signals");
    }

    /// Ends it at once, as a power cut does, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("our child can be killed");
        self.child.wait().expect("our child can be waited for");
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = std::cell::Cell::new(None);
        let child = std::cell::RefCell::new(&mut self.child);
        eventually("the process ends", DEADLINE, || async {
            status.set(child.borrow_mut().try_wait().expect("our child can be waited for"));
            status.get().is_some()
        })
        .await;
        status.get().expect("it has ended")
    }

    /// Returns what it has printed.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our child can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.try_wait().is_none() && self.child.kill().is_ok() {
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            eprintln!("what {} printed:\n{}", self.node.path.display(), self.said());
        }
    }
}
