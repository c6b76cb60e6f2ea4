use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use serde_json::{Value, json};

use super::wire::{ANY, Wire};

/// What every user of a test has for a password.
pub(crate) const PASSWORD: &str = "correct horse";

/// A logged-in user on a [`Wire`] of its own.
#[derive(Debug)]
pub(crate) struct User {
    wire: Wire,
    /// The user's id.
    pub(crate) id: u64,
    /// The name.
    pub(crate) name: String,
    /// Logs the same user in again.
    pub(crate) token: String,
    /// The node of the session.
    pub(crate) node: String,
    /// The conversations of `welcome`.
    pub(crate) conversations: Value,
}

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) conversation: u64,
    pub(crate) seq: u64,
    pub(crate) at: i64,
}

impl Sent {
    /// Reads a `sent` frame.
    pub(crate) fn of(frame: &Value) -> Self {
        let number = |field: &str| frame[field].as_u64().unwrap_or_else(|| panic!("`{field}` in {frame}"));
        Self { conversation: number("conversation"), seq: number("seq"), at: number("at") as i64 }
    }
}

/// Makes an account and returns its id.
pub(crate) async fn register(address: SocketAddr, name: &str) -> u64 {
    let mut wire = Wire::connect(address).await;
    wire.say(json!({"type": "register", "id": "r", "name": name, "password": PASSWORD})).await;
    let registered = wire.expect(json!({"type": "registered", "id": "r", "user": ANY})).await;
    registered["user"].as_u64().expect("an id is a number")
}

impl User {
    /// Registers and logs in a user who has missed nothing.
    pub(crate) async fn new(address: SocketAddr, name: &str) -> Self {
        register(address, name).await;
        let mut user = Self::login(address, name).await;
        user.expect(json!({"type": "caught_up", "more": []})).await;
        user
    }

    /// Logs in up to `welcome`; what was missed is still to be read.
    pub(crate) async fn login(address: SocketAddr, name: &str) -> Self {
        let login = json!({"type": "login", "name": name, "password": PASSWORD});
        Self::welcomed(Wire::connect(address).await, login).await
    }

    /// Logs in up to `welcome` on a connection, with a `login` frame.
    pub(crate) async fn welcomed(mut wire: Wire, mut login: Value) -> Self {
        login["id"] = json!("login");
        wire.say(login).await;
        let welcome = wire
            .expect(json!({
                "type": "welcome", "id": "login", "user": ANY, "name": ANY, "session": ANY, "node": ANY, "token": ANY,
                "friends": [], "conversations": ANY,
            }))
            .await;
        let text = |field: &str| welcome[field].as_str().expect("a text").to_owned();
        Self {
            id: welcome["user"].as_u64().expect("an id is a number"),
            name: text("name"),
            token: text("token"),
            node: text("node"),
            conversations: welcome["conversations"].clone(),
            wire,
        }
    }

    /// Logs the same user in again, up to `welcome`, saying what this device has.
    pub(crate) async fn again(&self, address: SocketAddr, since: Value) -> Self {
        let mut login = json!({"type": "login", "token": self.token});
        if !since.is_null() {
            login["since"] = since;
        }
        Self::welcomed(Wire::connect(address).await, login).await
    }

    /// Logs the same user in on one more device, which has everything.
    pub(crate) async fn device(&self, address: SocketAddr) -> Self {
        let mut device = self.again(address, json!(null)).await;
        device.expect(json!({"type": "caught_up", "more": []})).await;
        device
    }

    /// Says something to a user; `sent` is the next frame.
    pub(crate) async fn tell(&mut self, to: u64, key: &str, body: &str) -> Sent {
        self.say(json!({"type": "send", "id": key, "key": key, "to": to, "body": body})).await;
        self.sent(key).await
    }

    /// Says something in a conversation; `sent` is the next frame.
    pub(crate) async fn post(&mut self, conversation: u64, key: &str, body: &str) -> Sent {
        self.say(json!({"type": "send", "id": key, "key": key, "conversation": conversation, "body": body})).await;
        self.sent(key).await
    }

    async fn sent(&mut self, key: &str) -> Sent {
        let sent = json!({"type": "sent", "id": key, "key": key, "conversation": ANY, "seq": ANY, "at": ANY});
        Sent::of(&self.expect(sent).await)
    }

    /// Makes a group and returns its conversation.
    pub(crate) async fn found(&mut self, name: &str) -> u64 {
        self.say(json!({"type": "group_create", "id": "g", "name": name})).await;
        let group = json!({
            "type": "group", "id": "g", "conversation": ANY, "name": name, "description": "", "head": 0, "members": 1,
        });
        self.expect(group).await["conversation"].as_u64().expect("an id is a number")
    }

    /// Joins a group and returns the seq of the join.
    pub(crate) async fn join(&mut self, conversation: u64) -> u64 {
        self.say(json!({"type": "group_join", "id": "j", "conversation": conversation})).await;
        let group = json!({
            "type": "group", "id": "j", "conversation": conversation, "name": ANY, "description": ANY, "head": ANY,
            "members": ANY,
        });
        self.expect(group).await["head"].as_u64().expect("a seq is a number")
    }

    /// Returns the `message` frame by which others get what this user has said.
    pub(crate) fn message(&self, sent: Sent, key: &str, body: &str) -> Value {
        json!({
            "type": "message", "conversation": sent.conversation, "seq": sent.seq, "from": self.id, "name": self.name,
            "key": key, "kind": "text", "body": body, "at": sent.at,
        })
    }

    /// Returns the `message` frame by which others see this user come (`join`) or go (`leave`).
    pub(crate) fn moved(&self, kind: &str, conversation: u64, seq: u64) -> Value {
        json!({
            "type": "message", "conversation": conversation, "seq": seq, "from": self.id, "name": self.name,
            "key": ANY, "kind": kind, "body": "", "at": ANY,
        })
    }

    /// Returns the `conversation` frame that comes before the first message of a direct conversation with this user.
    pub(crate) fn introduction(&self, conversation: u64) -> Value {
        json!({
            "type": "conversation", "conversation": conversation, "kind": "direct", "name": self.name,
            "peer": self.id, "peer_delivered": ANY, "peer_read": ANY, "head": ANY, "delivered": 0, "read": ANY,
        })
    }
}

impl Deref for User {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for User {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}
