use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use switchboard::bus::{BusKind, MessageBus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::kept::{find_program, run};
use super::server::{Program, Server};
use super::{broker, free_port};

/// A cluster of its own for each server; any id does.
const CLUSTER: &str = "bhV1QMAMRp6mfI7vaExFVA";
/// What each Java program is told. A quick start matters more than speed in the long run.
const JAVA: [&str; 4] =
    ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"];
/// `ApiVersions`, version 0: its length, key, version, a number that comes back, and a client without a name.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];

/// How a Kafka broker is run, which is its own controller.
#[derive(Debug)]
pub(crate) struct Kafka {
    java: PathBuf,
    jars: PathBuf,
    folder: PathBuf,
    port: u16,
}

/// A real Kafka broker.
pub(crate) type KafkaServer = Server<Kafka>;

impl Program for Kafka {
    const NAME: &'static str = "Kafka";
    const GET: &'static str = "scripts/brokers install kafka";
    const KIND: BusKind = BusKind::Kafka;
    const KEY: &'static str = "bus.kafka.brokers";
    const STARTS_SLOWLY: bool = true;

    async fn lay_out(folder: &Path) -> Option<Self> {
        let java = find_program("java", [])?;
        let jars = installed().filter(|jars| jars.is_dir())?;
        let kafka = Self { java, jars, folder: folder.to_owned(), port: free_port() };
        std::fs::write(kafka.settings(), kafka.properties(free_port())).expect("the folder is ours");
        let settings = kafka.settings().display().to_string();
        run(kafka.java("kafka.tools.StorageTool", &["format", "-t", CLUSTER, "-c", &settings])).await;
        Some(kafka)
    }

    fn command(&self) -> Vec<String> {
        self.java("kafka.Kafka", &[&self.settings().display().to_string()])
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn url(&self) -> String {
        self.address().to_string()
    }

    async fn answers(&self) -> bool {
        let ask = async {
            let mut stream = TcpStream::connect(self.address()).await?;
            stream.write_all(&API_VERSIONS).await?;
            let mut answer = [0; 10];
            stream.read_exact(&mut answer).await?;
            // Behind the length, the number that was sent, and no error.
            Ok::<_, std::io::Error>(answer[4..] == [0, 0, 0, 7, 0, 0])
        };
        ask.await.unwrap_or(false)
    }
}

impl Kafka {
    fn settings(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn properties(&self, controller: u16) -> String {
        let (port, folder) = (self.port, self.folder.display());
        format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={folder}/data\n\
             offsets.topic.replication.factor=1\n\
             offsets.topic.num.partitions=1\n\
             group.initial.rebalance.delay.ms=0\n\
             num.network.threads=2\n\
             num.io.threads=2\n\
             # A broker that was killed may come back when its last session has expired.\n\
             broker.session.timeout.ms=1500\n\
             broker.heartbeat.interval.ms=300\n"
        )
    }

    fn java(&self, class: &str, arguments: &[&str]) -> Vec<String> {
        let class_path = format!("{}/*", self.jars.display());
        let java = self.java.display().to_string();
        let mut command: Vec<String> = [java.as_str()].into_iter().chain(JAVA).map(str::to_owned).collect();
        command.extend(["-cp", &class_path, class].into_iter().chain(arguments.iter().copied()).map(str::to_owned));
        command
    }
}

/// Returns where the script that installs brokers puts Kafka.
fn installed() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    let brokers = variable("SWITCHBOARD_BROKERS").or_else(|| Some(cache()?.join("switchboard/brokers")));
    Some(brokers?.join("kafka"))
}

/// Makes a bus on a Kafka. It need not be connected yet.
pub(crate) async fn bus_at(address: &str) -> Arc<dyn MessageBus> {
    broker::bus_at(Kafka::KIND, Kafka::KEY, address).await
}
