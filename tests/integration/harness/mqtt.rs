//! What the brokers that speak MQTT have in common.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client of a broker, by hand: it does what it is told to and nothing more, not even read.
pub(crate) struct Client(TcpStream);

impl Client {
    /// Connects under an id, with a keepalive in seconds.
    pub(crate) async fn connect(address: SocketAddr, id: &str, keep_alive: u8) -> Self {
        let mut client = Self(TcpStream::connect(address).await.expect("the broker listens"));
        let mut body = b"\x00\x04MQTT\x04\x02\x00".to_vec();
        body.push(keep_alive);
        body.extend(text(id));
        assert_eq!(client.ask(0x10, &body).await, [0x20, 2, 0, 0]);
        client
    }

    /// Subscribes to a topic, with QoS 0.
    pub(crate) async fn subscribe(&mut self, topic: &str) {
        let body = [&[0, 1][..], &text(topic), &[0]].concat();
        assert_eq!(self.ask(0x82, &body).await, [0x90, 3, 0, 1]);
        assert_eq!(self.0.read_u8().await.expect("a return code"), 0);
    }

    /// Publishes a message that the broker keeps, with QoS 1.
    pub(crate) async fn publish_retained(&mut self, topic: &str, payload: &[u8]) {
        let body = [&text(topic), &[0, 1][..], payload].concat();
        assert_eq!(self.ask(0x33, &body).await, [0x40, 2, 0, 1]);
    }

    /// Sends a packet of less than 128 bytes and takes the first four bytes of the answer.
    async fn ask(&mut self, kind: u8, body: &[u8]) -> [u8; 4] {
        let length = u8::try_from(body.len()).ok().filter(|length| *length < 128).expect("a short packet");
        self.0.write_all(&[&[kind, length], body].concat()).await.expect("the broker reads");
        let mut answer = [0; 4];
        self.0.read_exact(&mut answer).await.expect("the broker answers");
        answer
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// CONNECT of MQTT 3.1.1: a clean session, a keepalive of 10 s, and no client id.
const CONNECT: &[u8] = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00";

/// Tells whether a broker takes a connection, or answers at least that it wants a password.
pub(super) async fn answers(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(CONNECT).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer[0] == 0x20)
    };
    ask.await.unwrap_or(false)
}
