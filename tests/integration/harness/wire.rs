use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::DEADLINE;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// In an expected frame: a field that must be there, whatever its value.
pub(crate) const ANY: &str = "<any>";

/// A connection that speaks JSON lines and takes nothing for granted: each frame is the one that was expected.
#[derive(Debug)]
pub(crate) struct Wire {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line: Vec<u8>,
    patience: Duration,
    /// The last word of the node on its own condition.
    condition: Option<Value>,
    /// How far members are, as it was said since somebody asked.
    cursors: Vec<Value>,
    /// The last frames that came, for the message of a test that fails.
    heard: Vec<String>,
}

impl Wire {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = timeout(DEADLINE, TcpStream::connect(address)).await.expect("a connection in time");
        Self::new(stream.expect("the server accepts"))
    }

    /// Connects with so small a window that little fits between a server and a client that does not read.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a small buffer");
        let stream = timeout(DEADLINE, socket.connect(address)).await.expect("a connection in time");
        Self::new(stream.expect("the server accepts"))
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a connected socket");
        let (reader, writer) = stream.into_split();
        Self {
            reader: BufReader::new(reader),
            writer,
            line: Vec::new(),
            patience: DEADLINE,
            condition: None,
            cursors: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// Writes a frame.
    pub(crate) async fn say(&mut self, frame: Value) {
        self.say_all([frame]).await;
    }

    /// Writes frames in one piece.
    pub(crate) async fn say_all(&mut self, frames: impl IntoIterator<Item = Value>) {
        let mut lines = String::new();
        for frame in frames {
            writeln!(lines, "{frame}").expect("a string takes any text");
        }
        self.say_bytes(lines.as_bytes()).await;
    }

    /// Writes bytes.
    pub(crate) async fn say_bytes(&mut self, bytes: &[u8]) {
        let written = timeout(DEADLINE, self.writer.write_all(bytes)).await;
        written.expect("the server reads in time").expect("the server reads");
    }

    /// Writes bytes to a server that may have closed.
    pub(crate) async fn try_say_bytes(&mut self, bytes: &[u8]) -> bool {
        timeout(DEADLINE, self.writer.write_all(bytes)).await.expect("the server reads or closes in time").is_ok()
    }

    /// Closes the sending side.
    pub(crate) async fn hang_up(&mut self) {
        self.writer.shutdown().await.expect("the connection is open");
    }

    /// Reads the next frame. What the node says of its own condition, and how far other members are, may come at any
    /// time and is passed over.
    pub(crate) async fn hear(&mut self) -> Value {
        loop {
            let frame = self.hear_any().await.unwrap_or_else(|| panic!("the server closed; {}", self.story()));
            match frame["type"].as_str() {
                Some("degraded" | "restored") => self.condition = Some(frame),
                Some("cursor") => self.cursors.push(frame),
                _ => return frame,
            }
        }
    }

    /// Returns the last word of the node on its own condition, which has been or is to be of a kind; nothing else may
    /// come before it.
    pub(crate) async fn condition(&mut self, kind: &str) -> Value {
        loop {
            match self.condition.take() {
                Some(condition) if condition["type"] == kind => return condition,
                _ => self.condition = self.hear_any().await,
            }
            if let Some(cursor) = self.condition.take_if(|frame| frame["type"] == "cursor") {
                self.cursors.push(cursor);
                continue;
            }
            let said =
                self.condition.as_ref().is_some_and(|said| said["type"] == "degraded" || said["type"] == "restored");
            assert!(said, "waiting for `{kind}`; {}", self.story());
        }
    }

    /// Waits for a `cursor` frame, which has come or is to come before any other frame but those that may come at any
    /// time.
    pub(crate) async fn hear_cursor(&mut self, expected: &Value) {
        while !self.cursors.contains(expected) {
            let frame = self.hear_any().await.unwrap_or_else(|| panic!("the server closed; {}", self.story()));
            match frame["type"].as_str() {
                Some("degraded" | "restored") => self.condition = Some(frame),
                Some("cursor") => self.cursors.push(frame),
                _ => panic!("waiting for {expected}; {}", self.story()),
            }
        }
        self.cursors.clear();
    }

    /// Waits longer than usual for the frames to come.
    pub(crate) fn be_patient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Reads the next frame, whatever it is. `None`: the server has closed.
    pub(crate) async fn hear_any(&mut self) -> Option<Value> {
        self.line.clear();
        let patience = self.patience;
        let read = timeout(patience, self.reader.read_until(b'\n', &mut self.line)).await;
        match read.unwrap_or_else(|_| panic!("no frame within {patience:?}; {}", self.story())) {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        if self.line.last() != Some(&b'\n') {
            // Whoever does not read is cut off wherever the sockets were full.
            return None;
        }
        let frame: Value = serde_json::from_slice(&self.line).expect("every line of the server is JSON");
        if self.heard.len() == 5 {
            self.heard.remove(0);
        }
        self.heard.push(String::from_utf8_lossy(&self.line[..self.line.len().min(300)]).trim_end().to_owned());
        Some(frame)
    }

    /// Reads the next frame, which must be the expected one, and returns it.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: Value) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let frame = self.hear().await;
            assert!(fits(&frame, &expected), "{caller}: expected {expected}, {}", self.story());
            frame
        }
    }

    /// Reads up to a frame of a type; those before it must be of the types that may come in between.
    pub(crate) async fn hear_past(&mut self, between: &[&str], kind: &str) -> Value {
        loop {
            let frame = self.hear().await;
            let here = frame["type"].as_str().unwrap_or_default();
            if here == kind {
                return frame;
            }
            assert!(between.contains(&here), "waiting for `{kind}`; {}", self.story());
        }
    }

    /// Checks that nothing waits to be read but the answer to a ping.
    pub(crate) async fn quiet(&mut self) {
        self.say(json!({"type": "ping", "id": "quiet"})).await;
        self.expect(json!({"type": "pong", "id": "quiet"})).await;
    }

    /// Reads the frame that closes the connection, and its end.
    pub(crate) async fn closed_with(&mut self, code: u16, reason: &str) -> Value {
        let closing = self.hear().await;
        assert_eq!((&closing["type"], &closing["code"]), (&json!("closing"), &json!(code)), "{}", self.story());
        assert_eq!(closing["reason"], reason);
        assert_eq!(closing["reconnect"], code < 4100);
        assert!(closing["after_ms"].is_u64());
        self.ended().await;
        closing
    }

    /// Checks that the server has closed and says nothing more.
    pub(crate) async fn ended(&mut self) {
        if let Some(frame) = self.hear_any().await {
            panic!("after the end came {frame}; {}", self.story());
        }
    }

    fn story(&self) -> String {
        format!("the last frames were:\n  {}", self.heard.join("\n  "))
    }
}

/// Tells whether a frame has exactly the expected fields, and their values.
pub(crate) fn fits(frame: &Value, expected: &Value) -> bool {
    match (frame, expected) {
        (_, Value::String(text)) if text == ANY => true,
        (Value::Object(frame), Value::Object(expected)) => {
            frame.len() == expected.len()
                && frame.iter().all(|(name, value)| expected.get(name).is_some_and(|expected| fits(value, expected)))
        }
        (Value::Array(frame), Value::Array(expected)) => {
            frame.len() == expected.len() && frame.iter().zip(expected).all(|(value, expected)| fits(value, expected))
        }
        _ => frame == expected,
    }
}
