use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use switchboard::bus::{BusKind, MessageBus};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::kept::find_program;
use super::server::{Program, Server};
use super::{broker, free_port};

/// How `redis-server` is run.
#[derive(Debug)]
pub(crate) struct Redis {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
}

/// A real `redis-server`.
pub(crate) type RedisServer = Server<Redis>;

impl Program for Redis {
    const NAME: &'static str = "redis-server";
    const GET: &'static str = "scripts/brokers install redis";
    const KIND: BusKind = BusKind::Redis;
    const KEY: &'static str = "bus.redis.url";

    async fn lay_out(folder: &Path) -> Option<Self> {
        let program = find_program("redis-server", ["/usr/local/bin".into()])?;
        Some(Self { program, folder: folder.to_owned(), port: free_port() })
    }

    fn command(&self) -> Vec<String> {
        let (program, folder, port) = (self.program.display(), self.folder.display(), self.port);
        [&format!("{program}"), "--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]
            .into_iter()
            .chain(["--dir", &folder.to_string()])
            .map(str::to_owned)
            .collect()
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn answers(&self) -> bool {
        let ask = async {
            let mut stream = TcpStream::connect(self.address()).await?;
            stream.write_all(b"PING\r\n").await?;
            let mut answer = [0; 7];
            stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(answer == *b"+PONG\r\n")
        };
        ask.await.unwrap_or(false)
    }
}

impl RedisServer {
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
}

/// Makes a bus on a Redis. It need not be connected yet.
pub(crate) async fn bus_at(url: &str) -> Arc<dyn MessageBus> {
    broker::bus_at(Redis::KIND, Redis::KEY, url).await
}
