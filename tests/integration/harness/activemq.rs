use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use switchboard::bus::BusKind;

use super::kept::find_program;
use super::server::{Program, Server};
use super::{free_port, mqtt};

/// How ActiveMQ Classic is run: from its jars, without its distribution.
#[derive(Debug)]
pub(crate) struct Activemq {
    java: PathBuf,
    jars: PathBuf,
    folder: PathBuf,
    mqtt: u16,
    stomp: u16,
}

/// A real ActiveMQ Classic.
pub(crate) type ActivemqServer = Server<Activemq>;

impl Program for Activemq {
    const NAME: &'static str = "ActiveMQ Classic";
    const GET: &'static str = "scripts/brokers install activemq";
    const KIND: BusKind = BusKind::Activemq;
    const KEY: &'static str = "bus.activemq.url";
    const STARTS_SLOWLY: bool = true;

    async fn lay_out(folder: &Path) -> Option<Self> {
        let java = find_program("java", [])?;
        let jars = jars()?;
        Some(Self { java, jars, folder: folder.to_owned(), mqtt: free_port(), stomp: free_port() })
    }

    fn command(&self) -> Vec<String> {
        let (folder, jars) = (self.folder.display(), self.jars.display());
        // Nagle's algorithm holds small frames back for 40 ms. A client that reads nothing fills the broker's memory,
        // upon which it stops reading all others; its writes are the only sign by which it is found and cut off. The
        // connectors start in this order.
        let connector = |scheme: &str, port: u16| {
            format!("{scheme}://127.0.0.1:{port}?transport.tcpNoDelay=true&transport.soWriteTimeout=4000")
        };
        let connectors = [connector("stomp", self.stomp), connector("mqtt", self.mqtt)].join(",");
        let settings = format!("persistent=true&useJmx=false&dataDirectory={folder}/data");
        [&*self.java.display().to_string(), "-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
            .map(str::to_owned)
            .into_iter()
            .chain(["-XX:-UsePerfData".to_owned(), format!("-Djava.io.tmpdir={folder}")])
            .chain([format!("-Dactivemq.home={folder}"), format!("-Dactivemq.base={folder}")])
            .chain(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn".to_owned()])
            .chain(["-cp".to_owned(), format!("{jars}/*"), "org.apache.activemq.console.Main".to_owned()])
            .chain(["start".to_owned(), format!("broker:({connectors})?{settings}")])
            .collect()
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.mqtt))
    }

    fn url(&self) -> String {
        format!("mqtt://{}", self.address())
    }

    async fn answers(&self) -> bool {
        mqtt::answers(self.address()).await
    }
}

impl Activemq {
    /// Returns where it listens for STOMP.
    pub(crate) fn stomp(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.stomp))
    }
}

/// Returns the folder that `scripts/brokers` puts the jars into, if it has.
fn jars() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let brokers = set("SWITCHBOARD_BROKERS").or_else(|| Some(cache()?.join("switchboard/brokers")))?;
    let jars = brokers.join("activemq");
    let has_broker = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("activemq-broker-"))
    };
    std::fs::read_dir(&jars).ok()?.any(has_broker).then_some(jars)
}
