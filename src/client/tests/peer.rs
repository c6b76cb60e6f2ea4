//! A server that says what a test tells it to, on a real socket.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::client::{Event, Events, Options};
use crate::protocol::Password;

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Peer {
    listener: TcpListener,
}

/// One accepted connection.
pub(crate) struct Wire {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Peer {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    pub(crate) fn options(&self) -> Options {
        Options::new([self.address()], "alice", Password::new("correct horse"))
    }

    pub(crate) async fn accept(&self) -> Wire {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("nobody connects").unwrap();
        Wire::new(stream)
    }

    /// Accepts a connection and lets it log in; returns what it said.
    pub(crate) async fn welcome(&self, conversations: Value) -> (Wire, Value) {
        let mut wire = self.accept().await;
        let login = wire.hear("login").await;
        wire.welcome(&login, conversations).await;
        (wire, login)
    }
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer }
    }

    pub(crate) async fn welcome(&mut self, login: &Value, conversations: Value) {
        self.say(json!({"type": "welcome", "id": login["id"], "user": 7, "name": "alice", "session": "a.1.1",
            "node": "node-a", "token": "t-1", "friends": [], "conversations": conversations}))
            .await;
    }

    /// Says that nothing, or only `more`, is missing.
    pub(crate) async fn caught_up(&mut self, more: Value) {
        self.say(json!({"type": "caught_up", "more": more})).await;
    }

    pub(crate) async fn say(&mut self, frame: Value) {
        self.writer.write_all(format!("{frame}\n").as_bytes()).await.unwrap();
    }

    /// Says an entry of a conversation.
    pub(crate) async fn message(&mut self, conversation: u64, seq: u64, from: u64, key: &str) {
        let mut frame = entry(conversation, seq, from, key);
        // The order of a real server, in which `type` comes first.
        let fields = frame.as_object_mut().unwrap();
        let rest: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let line = format!("{{\"type\":\"message\",{}}}\n", rest.join(","));
        self.writer.write_all(line.as_bytes()).await.unwrap();
    }

    pub(crate) async fn sent(&mut self, send: &Value, conversation: u64, seq: u64) {
        let (id, key) = (&send["id"], &send["key"]);
        let line = format!(
            "{{\"type\":\"sent\",\"id\":{id},\"key\":{key},\"conversation\":{conversation},\"seq\":{seq},\"at\":1}}\n"
        );
        self.writer.write_all(line.as_bytes()).await.unwrap();
    }

    /// Says nothing more and closes the connection.
    pub(crate) async fn hang_up(&mut self) {
        self.writer.shutdown().await.unwrap();
    }

    /// Waits for the next request of this type; others are passed over only if they are `received`, `read` or
    /// `ping`.
    pub(crate) async fn hear(&mut self, kind: &str) -> Value {
        loop {
            let request = self.next().await.unwrap_or_else(|| panic!("no {kind} before the end"));
            match request["type"].as_str().unwrap() {
                found if found == kind => return request,
                "received" | "read" | "ping" => {}
                other => panic!("expected {kind}, got {other}: {request}"),
            }
        }
    }

    /// Waits for the next request; `None`: the client closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let count = timeout(PATIENCE, self.reader.read_line(&mut line)).await.expect("nothing is said");
        (count.unwrap_or(0) > 0).then(|| serde_json::from_str(&line).unwrap())
    }
}

/// Makes an entry of a conversation.
pub(crate) fn entry(conversation: u64, seq: u64, from: u64, key: &str) -> Value {
    json!({"conversation": conversation, "seq": seq, "from": from, "name": "bob", "key": key, "kind": "text",
        "body": format!("text {seq}"), "at": 1})
}

pub(crate) fn view(conversation: u64, head: u64, delivered: u64) -> Value {
    json!({"conversation": conversation, "kind": "group", "name": "g", "head": head, "delivered": delivered,
        "read": 0})
}

/// Waits for the next event that `pick` wants.
pub(crate) async fn event<T>(events: &mut Events, pick: impl Fn(&Event) -> Option<T>) -> T {
    let search = async {
        loop {
            let event = events.next().await.expect("the client has ended");
            if let Some(found) = pick(&event) {
                return found;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("the event does not come")
}

/// Waits for `count` messages and returns their seqs.
pub(crate) async fn seqs(events: &mut Events, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < count {
        seqs.push(event(events, |event| if let Event::Message(m) = event { Some(m.seq) } else { None }).await);
    }
    seqs
}

pub(crate) async fn caught_up(events: &mut Events) {
    event(events, |event| matches!(event, Event::CaughtUp).then_some(())).await;
}
