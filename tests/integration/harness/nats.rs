use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use switchboard::bus::{BusConfig, BusKind, MessageBus};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::kept::find_program;
use super::server::{Program, Server};
use super::{broker, free_port, get};

/// How `nats-server` is run.
#[derive(Debug)]
pub(crate) struct Nats {
    program: PathBuf,
    config: PathBuf,
    port: u16,
    monitor: SocketAddr,
}

/// A real `nats-server`.
pub(crate) type NatsServer = Server<Nats>;

impl Program for Nats {
    const NAME: &'static str = "nats-server";
    const GET: &'static str = "scripts/brokers install nats";
    const KIND: BusKind = BusKind::Nats;
    const KEY: &'static str = "bus.nats.url";

    async fn lay_out(folder: &Path) -> Option<Self> {
        let program = find_program("nats-server", ["/usr/sbin".into(), "/usr/local/bin".into()])?;
        let monitor = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let nats = Self { program, config: folder.join("nats.conf"), port: free_port(), monitor };
        nats.configure("");
        Some(nats)
    }

    fn command(&self) -> Vec<String> {
        let (program, port) = (self.program.display(), self.port.to_string());
        let (config, monitor) = (self.config.display(), self.monitor.port().to_string());
        [&format!("{program}"), "-a", "127.0.0.1", "-p", &port, "-m", &monitor, "-c", &format!("{config}")]
            .map(str::to_owned)
            .into()
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    async fn answers(&self) -> bool {
        let ask = async {
            let mut greeting = [0; 5];
            TcpStream::connect(self.address()).await?.read_exact(&mut greeting).await?;
            Ok::<_, std::io::Error>(greeting == *b"INFO ")
        };
        ask.await.unwrap_or(false)
    }
}

impl Nats {
    /// Writes the settings with which it is started the next time.
    pub(crate) fn configure(&self, settings: &str) {
        std::fs::write(&self.config, settings).expect("the folder can be written");
    }
}

impl NatsServer {
    /// Starts a server of its own with settings, as `start_new` does.
    pub(crate) async fn start_with(settings: &str) -> Option<Self> {
        let server = Self::start_new().await?;
        server.program().configure(settings);
        server.restart().await;
        Some(server)
    }

    /// Counts the connections that buses have opened since the server started: those in a state, `open` or `all`.
    pub(crate) async fn connections(&self, state: &str) -> usize {
        let (status, page) = get(self.program().monitor, &format!("/connz?state={state}")).await.expect("it answers");
        assert_eq!(status, 200, "{page}");
        let page: Value = serde_json::from_str(&page).expect("a page of JSON");
        let connections = page["connections"].as_array().expect("a list of connections");
        connections.iter().filter(|connection| connection["name"] == "switchboard").count()
    }
}

/// Makes a bus on a NATS. It need not be connected yet.
pub(crate) async fn bus_at(url: &str) -> Arc<dyn MessageBus> {
    broker::bus_at(Nats::KIND, Nats::KEY, url).await
}

/// Returns the config of a bus on a NATS.
pub(crate) fn config_of(url: &str) -> BusConfig {
    broker::config_of(Nats::KIND, Nats::KEY, url)
}
