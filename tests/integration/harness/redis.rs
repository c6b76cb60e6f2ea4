use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use switchboard::bus::config::{BrokerUrl, RedisConfig};
use switchboard::bus::{BusConfig, BusKind, MessageBus, connect};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{eventually, free_port, skip};

/// How long a server may take to start; generous for a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// A real `redis-server` of this test. It is killed when it is dropped, also when the test panics.
pub(crate) struct RedisServer {
    program: PathBuf,
    port: u16,
    folder: TempDir,
    child: Mutex<Option<Child>>,
}

impl RedisServer {
    /// Starts a server, or says that there is none and returns `None`.
    pub(crate) async fn start_new() -> Option<Self> {
        let Some(program) = find_program() else {
            skip("redis-server", "apt-get install redis-server");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = Self { program, port: free_port(), folder, child: Mutex::new(None) };
        server.start().await;
        Some(server)
    }

    /// Returns a server that tests share, none of which may break it; it ends with the last of them. `None`: there is
    /// none, which has been said.
    pub(crate) async fn shared() -> Option<Arc<Self>> {
        static SHARED: tokio::sync::Mutex<Weak<RedisServer>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Self::start_new().await?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// Returns where the server is.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the address that the server listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Returns the channels that somebody is subscribed to, of those that fit a pattern.
    pub(crate) async fn channels(&self, pattern: &str) -> Vec<String> {
        let ask = async {
            let mut lines = self.ask(&format!("PUBSUB CHANNELS {pattern}")).await?.lines();
            let mut line = async || lines.next_line().await.map(Option::unwrap_or_default);
            let count = line().await?.trim_start_matches('*').parse().expect("an array");
            let mut channels = Vec::new();
            for _ in 0..count {
                line().await?;
                channels.push(line().await?);
            }
            channels.sort();
            Ok::<_, std::io::Error>(channels)
        };
        ask.await.expect("the server answers")
    }

    /// Has the server do something, which must not be an error.
    pub(crate) async fn command(&self, command: &str) {
        let ask = async { self.ask(command).await?.lines().next_line().await };
        let answer = ask.await.expect("the server answers").unwrap_or_default();
        assert!(answer.starts_with('+') || answer.starts_with(':'), "{command}: {answer}");
    }

    async fn ask(&self, command: &str) -> std::io::Result<BufReader<TcpStream>> {
        let mut stream = BufReader::new(TcpStream::connect(self.address()).await?);
        stream.write_all(format!("{command}\r\n").as_bytes()).await?;
        Ok(stream)
    }

    /// Starts the server, which must not run, and waits until it answers.
    pub(crate) async fn start(&self) {
        let child = Command::new(&self.program)
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let before = self.child().replace(child);
        assert!(before.is_none(), "the server was not ended");
        eventually("redis-server answers", START_DEADLINE, || {
            let ended = self.child().as_mut().and_then(|child| child.try_wait().expect("our child"));
            assert!(ended.is_none(), "redis-server ended at its start: {ended:?}");
            answers(self.port)
        })
        .await;
    }

    /// Ends the server at once, as a power cut does, and waits until it is gone.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            child.kill().expect("our child can be killed");
            child.wait().expect("our child can be waited for");
        }
    }

    /// Ends the server in order and starts it again.
    pub(crate) async fn restart(&self) {
        self.signal(Signal::TERM);
        let child = self.child().take();
        if let Some(mut child) = child {
            tokio::task::spawn_blocking(move || child.wait()).await.expect("no panic").expect("our child");
        }
        self.start().await;
    }

    /// Stops the server: its connections stay open, and nothing is answered.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a stopped server go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child();
        let child = child.as_ref().expect("the server runs");
        kill_process(Pid::from_child(child), signal).expect("our child takes signals");
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Makes a bus on a Redis. It need not be connected yet.
pub(crate) async fn bus_at(url: &str) -> Arc<dyn MessageBus> {
    let config =
        BusConfig { kind: BusKind::Redis, redis: RedisConfig { url: BrokerUrl::new(url) }, ..BusConfig::default() };
    connect(&config).await.expect("a good URL")
}

fn find_program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin".into(), "/usr/local/bin".into()])
        .map(|folder| folder.join("redis-server"))
        .find(|program| program.is_file())
}

/// A connection alone proves nothing: the kernel accepts for a server that is not ready yet.
async fn answers(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer == *b"+PONG\r\n")
    };
    ask.await.unwrap_or(false)
}
