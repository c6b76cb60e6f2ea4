use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::harness::cluster::Cluster;
use crate::harness::{DEADLINE, Wire};

/// By which front the clients of a script come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Front {
    Tcp,
    WebSocket,
}

/// A client's connection.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(Wire),
    WebSocket(Box<Web>),
}

impl Socket {
    pub(super) async fn connect(cluster: &Cluster, front: Front, node: usize) -> Self {
        match front {
            Front::Tcp => {
                let mut wire = Wire::connect(cluster.tcp(node)).await;
                wire.be_patient(2 * DEADLINE);
                Self::Tcp(wire)
            }
            Front::WebSocket => Self::WebSocket(Box::new(Web::connect(cluster.http(node)).await)),
        }
    }

    /// Sends frames in one piece.
    pub(super) async fn say(&mut self, texts: &[String]) {
        match self {
            Self::Tcp(wire) => wire.say_bytes((texts.join("\n") + "\n").as_bytes()).await,
            Self::WebSocket(web) => web.say_all(texts.iter().map(Message::text)).await,
        }
    }

    /// The next frame; `None` at the end. Waits for longer than whoever asks.
    pub(super) async fn hear(&mut self) -> Option<Value> {
        match self {
            Self::Tcp(wire) => wire.hear_any().await,
            Self::WebSocket(web) => web.hear().await,
        }
    }

    /// Checks that the server has said why it ends the connection, where the front has a place for that.
    pub(super) fn ended_with(&self, code: u16, reason: &str) {
        if let Self::WebSocket(web) = self {
            assert_eq!(web.closed, Some((code, reason.to_owned())), "the close frame");
        }
    }

    pub(super) async fn quit(self) {
        match self {
            Self::Tcp(mut wire) => {
                wire.hang_up().await;
                wire.ended().await;
            }
            Self::WebSocket(mut web) => {
                web.say(Message::Close(None)).await;
                assert_eq!(web.hear().await, None, "nothing comes behind a close frame");
            }
        }
    }
}

/// A WebSocket that speaks the wire.
#[derive(Debug)]
pub(super) struct Web {
    stream: WebSocketStream<TcpStream>,
    /// Code and reason of the close frame that came.
    pub(super) closed: Option<(u16, String)>,
}

impl Web {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        let stream = timeout(DEADLINE, TcpStream::connect(address)).await.expect("a connection in time").unwrap();
        stream.set_nodelay(true).unwrap();
        let upgrade = client_async(format!("ws://{address}/ws"), stream);
        let (stream, _) = timeout(DEADLINE, upgrade).await.expect("an answer in time").expect("a websocket");
        Self { stream, closed: None }
    }

    pub(super) async fn say(&mut self, message: Message) {
        timeout(DEADLINE, self.stream.send(message)).await.expect("the server reads in time").expect("it reads");
    }

    async fn say_all(&mut self, messages: impl Iterator<Item = Message>) {
        let saying = async {
            for message in messages {
                self.stream.feed(message).await?;
            }
            self.stream.flush().await
        };
        timeout(DEADLINE, saying).await.expect("the server reads in time").expect("it reads");
    }

    pub(super) async fn try_say(&mut self, message: Message) -> bool {
        timeout(DEADLINE, self.stream.send(message)).await.expect("the server reads or closes in time").is_ok()
    }

    /// The next message of whatever kind; `None` at the end.
    pub(super) async fn hear_any(&mut self) -> Option<Message> {
        match timeout(2 * DEADLINE, self.stream.next()).await.expect("a message in time")? {
            Ok(message) => Some(message),
            Err(Error::Io(_) | Error::ConnectionClosed) => None,
            Err(error) => panic!("the server breaks the protocol: {error}"),
        }
    }

    /// The next frame; `None` at the end.
    pub(super) async fn hear(&mut self) -> Option<Value> {
        loop {
            match self.hear_any().await? {
                Message::Text(text) => {
                    assert!(self.closed.is_none(), "behind the close frame came {text}");
                    assert!(!text.contains('\n'), "a message of the server has no newline");
                    return Some(serde_json::from_str(&text).expect("every message of the server is JSON"));
                }
                Message::Close(close) => {
                    self.closed = close.map(|close| (close.code.into(), close.reason.to_string()));
                }
                Message::Pong(_) => {}
                other => panic!("the server said {other:?}"),
            }
        }
    }
}
