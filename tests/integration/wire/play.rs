use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use switchboard::protocol::ServerFrame;
use switchboard::server::LimitsConfig;
use tokio::time::timeout;

use super::frame::{Names, expected, fits, written};
use super::script::{self, Step};
use super::socket::{Front, Socket};
use crate::harness::DEADLINE;
use crate::harness::cluster::{Bus, Cluster, Settings, run};

/// Plays a script on a cluster of its own.
pub(super) async fn play(name: &str, front: Front) {
    let steps = script::read(name);
    let limits = limits(steps.iter().map(|(_, step)| step));
    run(Bus::Memory, Settings { limits, ..Settings::default() }, async |cluster: &mut Cluster| {
        let mut scene =
            Scene { cluster, front, clients: BTreeMap::new(), names: Names::new(), stopped: BTreeSet::new() };
        let mut steps = steps.into_iter().peekable();
        while let Some((line, step)) = steps.next() {
            let line = format!("{name}.txt:{line}");
            match step {
                // What a client says without waiting goes out in one piece.
                Step::Say { client, text } => {
                    let mut texts = vec![text];
                    while let Some((_, Step::Say { text, .. })) =
                        steps.next_if(|(_, next)| matches!(next, Step::Say { client: same, .. } if *same == client))
                    {
                        texts.push(text);
                    }
                    scene.say(&line, &client, &texts).await;
                }
                step => scene.take(&line, step).await,
            }
        }
        scene.nothing_left().await;
    })
    .await;
}

/// The limits that the script wants.
fn limits<'a>(steps: impl Iterator<Item = &'a Step>) -> LimitsConfig {
    let mut limits = serde_json::to_value(LimitsConfig::default()).unwrap();
    for step in steps {
        if let Step::Limit { name, value } = step {
            assert!(limits.get(name).is_some(), "there is no limit `{name}`");
            limits[name] = value.parse::<u64>().map_or_else(|_| json!(value), |number| json!(number));
        }
    }
    serde_json::from_value(limits).expect("limits as the script says")
}

struct Scene<'a> {
    cluster: &'a mut Cluster,
    front: Front,
    clients: BTreeMap<String, Client>,
    names: Names,
    stopped: BTreeSet<usize>,
}

struct Client {
    socket: Socket,
    node: usize,
    /// Who has logged in.
    user: Option<Value>,
    closing: Option<Value>,
    /// The node has spoken of its own condition: it may repeat how things stand.
    unsettled: bool,
    heard: Vec<String>,
}

impl Scene<'_> {
    async fn take(&mut self, line: &str, step: Step) {
        match step {
            Step::Limit { .. } | Step::Say { .. } => {}
            Step::Fill { name, count } => drop(self.names.insert(name, json!("x".repeat(count)))),
            Step::Connect { client, node } => {
                let client = self.clients.insert(client, Client::connect(self.cluster, self.front, node).await);
                assert!(client.is_none(), "{line}: there is a client of that name");
            }
            Step::Hear { client, frames } => self.hear(line, &client, frames).await,
            Step::End { client, code } => {
                let mut client = self.clients.remove(&client).unwrap_or_else(|| panic!("{line}: no such client"));
                if let Some(frame) = client.next(line, &[]).await {
                    panic!("{line}: after the end came {frame}{}", client.story());
                }
                let closing = client.closing.as_ref().unwrap_or_else(|| panic!("{line}: an end without a reason"));
                assert_eq!(closing["code"], code, "{line}");
                client.socket.ended_with(code, closing["reason"].as_str().unwrap());
            }
            Step::Quit { client } => {
                let client = self.clients.remove(&client).unwrap_or_else(|| panic!("{line}: no such client"));
                client.socket.quit().await;
            }
            Step::Broker { up: true } => self.cluster.broker.heal().await,
            Step::Broker { up: false } => self.cluster.broker.cut(),
            Step::Stop { node } => {
                assert!(self.cluster.stop_node(node).await, "{line}: not in order");
                self.stopped.insert(node);
            }
            Step::Drain { node } => {
                assert!(self.cluster.drain_node(node).await, "{line}: not in order");
                self.stopped.insert(node);
            }
        }
    }

    async fn hear(&mut self, line: &str, name: &str, frames: Vec<String>) {
        let read = |frame: String| expected(&frame, &self.names).unwrap_or_else(|problem| panic!("{line}: {problem}"));
        let mut left: Vec<Value> = frames.into_iter().map(read).collect();
        let client = self.clients.get_mut(name).unwrap_or_else(|| panic!("{line}: there is no client {name}"));
        while !left.is_empty() {
            let Some(frame) = client.next(line, &left).await else {
                panic!("{line}: {name}'s connection has ended{}", client.story());
            };
            match left.iter().position(|expected| fits(&frame, expected, &mut self.names)) {
                Some(found) => drop(left.remove(found)),
                None if client.unsettled && is_picture(&frame) => {}
                None => {
                    let wanted: Vec<String> = left.iter().map(Value::to_string).collect();
                    panic!("{line}: {name} should hear\n  {}{}", wanted.join("\n  or "), client.story());
                }
            }
        }
    }

    async fn say(&mut self, line: &str, name: &str, texts: &[String]) {
        let text = |text: &String| written(text, &self.names).unwrap_or_else(|problem| panic!("{line}: {problem}"));
        let texts: Vec<String> = texts.iter().map(text).collect();
        let client = self.clients.get_mut(name).unwrap_or_else(|| panic!("{line}: there is no client {name}"));
        client.socket.say(&texts).await;
    }

    /// Checks that everybody has heard everything: what is sent to them now, from each node, comes next.
    async fn nothing_left(&mut self) {
        for node in (0..2).filter(|node| !self.stopped.contains(node)).collect::<Vec<_>>() {
            self.nothing_left_from(node).await;
        }
        for (name, client) in &mut self.clients {
            client.socket.say(&[json!({"type": "ping", "id": "last"}).to_string()]).await;
            client.expect(name, &json!({"type": "pong", "id": "last"})).await;
        }
    }

    async fn nothing_left_from(&mut self, node: usize) {
        let mut crier = Client::connect(self.cluster, self.front, node).await;
        let name = format!("crier-{node}");
        let enter = |request| json!({"type": request, "name": name, "password": "correct horse"}).to_string();
        crier.socket.say(&["register", "login"].map(enter)).await;
        crier.expect("the crier", &json!({"type": "registered", "user": {"$": "_"}})).await;
        let welcome = crier.expect("the crier", &json!({"type": "welcome", "...": true})).await;
        crier.expect("the crier", &json!({"type": "caught_up", "more": []})).await;
        let users: BTreeMap<String, Value> = self
            .clients
            .values()
            .filter_map(|client| Some((client.user.as_ref()?.to_string(), client.user.clone()?)))
            .collect();
        for (key, user) in &users {
            let cry = json!({"type": "send", "key": key, "to": user, "body": "the end"});
            crier.socket.say(&[cry.to_string()]).await;
            crier.expect("the crier", &json!({"type": "sent", "key": key, "...": true})).await;
        }
        for (name, client) in self.clients.iter_mut().filter(|(_, client)| client.user.is_some()) {
            let from = &welcome["user"];
            client.expect(name, &json!({"type": "conversation", "peer": from, "...": true})).await;
            client.expect(name, &json!({"type": "message", "from": from, "body": "the end", "...": true})).await;
        }
        crier.socket.quit().await;
    }
}

/// What a node says again when it has missed something.
fn is_picture(frame: &Value) -> bool {
    ["presence", "cursor", "friend_request"].iter().any(|kind| frame["type"] == *kind)
}

impl Client {
    async fn connect(cluster: &Cluster, front: Front, node: usize) -> Self {
        let socket = Socket::connect(cluster, front, node).await;
        Self { socket, node, user: None, closing: None, unsettled: false, heard: Vec::new() }
    }

    /// The next frame. What the node says of its own condition is passed over where it is not expected.
    async fn next(&mut self, line: &str, expected: &[Value]) -> Option<Value> {
        loop {
            let heard = timeout(DEADLINE, self.socket.hear()).await;
            let frame = heard.unwrap_or_else(|_| panic!("{line}: nothing in {DEADLINE:?}{}", self.story()))?;
            self.heard.push(frame.to_string().chars().take(400).collect());
            let known = ServerFrame::parse(frame.to_string().as_bytes()).expect("a frame that the protocol knows");
            let again: Value = serde_json::from_slice(&known.to_line()).unwrap();
            assert_eq!(again, frame, "the protocol knows all of its fields");
            match frame["type"].as_str() {
                Some("welcome") => self.user = Some(frame["user"].clone()),
                Some("closing") => self.closing = Some(frame.clone()),
                Some(kind @ ("degraded" | "restored")) => {
                    self.unsettled = true;
                    if !expected.iter().any(|expected| expected["type"] == kind) {
                        continue;
                    }
                }
                _ => {}
            }
            return Some(frame);
        }
    }

    async fn expect(&mut self, name: &str, expected: &Value) -> Value {
        loop {
            let frame =
                self.next(name, &[]).await.unwrap_or_else(|| panic!("{name}'s connection has ended{}", self.story()));
            if fits(&frame, expected, &mut Names::new()) {
                return frame;
            }
            assert!(self.unsettled && is_picture(&frame), "{name} should hear {expected}{}", self.story());
        }
    }

    fn story(&self) -> String {
        let last = self.heard.len().saturating_sub(5);
        format!("\nbut heard last, on node {}:\n  {}", self.node, self.heard[last..].join("\n  "))
    }
}
