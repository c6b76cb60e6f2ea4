use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use switchboard::bus::BusKind;

use super::kept::find_program;
use super::server::{Program, Server};
use super::{free_port, mqtt};

/// How `mosquitto` is run.
#[derive(Debug)]
pub(crate) struct Mosquitto {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
}

/// A real `mosquitto`.
pub(crate) type MosquittoServer = Server<Mosquitto>;

impl Program for Mosquitto {
    const NAME: &'static str = "mosquitto";
    const GET: &'static str = "scripts/brokers install mosquitto";
    const KIND: BusKind = BusKind::Mqtt;
    const KEY: &'static str = "bus.mqtt.url";

    async fn lay_out(folder: &Path) -> Option<Self> {
        let program = find_program("mosquitto", ["/usr/sbin".into(), "/usr/local/sbin".into()])?;
        let mosquitto = Self { program, folder: folder.to_owned(), port: free_port() };
        mosquitto.configure(&["allow_anonymous true"]);
        Some(mosquitto)
    }

    fn command(&self) -> Vec<String> {
        [&self.program, Path::new("-c"), &self.config()].map(|part| part.display().to_string()).into()
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    async fn answers(&self) -> bool {
        mqtt::answers(self.address()).await
    }
}

impl Mosquitto {
    /// Writes the settings that it has from its next start on; started by root, it stays root to read its folder.
    pub(crate) fn configure(&self, lines: &[&str]) {
        let usual = [&*format!("listener {} 127.0.0.1", self.port), "set_tcp_nodelay true", "user root"];
        let text = [&usual, lines].concat().join("\n");
        std::fs::write(self.config(), text + "\n").expect("the folder takes a file");
    }

    /// Writes a file for it, and returns where.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.join(name);
        std::fs::write(&file, text).expect("the folder takes a file");
        file
    }

    fn config(&self) -> PathBuf {
        self.folder.join("mosquitto.conf")
    }
}
