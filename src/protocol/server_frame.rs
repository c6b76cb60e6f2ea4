use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Close, ErrorCode, RequestId};
use crate::model::{ConversationId, ConversationKind, Key, Membership, Message, Millis, Role, Seq, UserId};

/// What a server says: replies (with the request's `id`, when it had one) and events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are the wire's")]
pub enum ServerFrame {
    /// The account exists now; not logged in yet.
    Registered {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
        user: UserId,
    },
    /// The session begins.
    Welcome {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
        user: UserId,
        name: String,
        session: String,
        node: String,
        token: String,
        friends: Vec<FriendView>,
        conversations: Vec<ConversationView>,
    },
    /// What was missed has been sent, except for `more`.
    CaughtUp { more: Vec<MemberMore> },
    /// The message is in the log.
    Sent {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
        key: Key,
        conversation: ConversationId,
        seq: Seq,
        at: Millis,
    },
    /// A new entry of a conversation.
    Message(Message),
    /// How far a member has got.
    Cursor { conversation: ConversationId, user: UserId, delivered: Seq, read: Seq },
    /// A page of a conversation.
    History {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
        conversation: ConversationId,
        messages: Vec<Message>,
        more: bool,
    },
    /// A page of the list of conversations.
    Conversations {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
        conversations: Vec<ConversationView>,
        more: bool,
    },
    /// A group that was created or joined.
    Group {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
        conversation: ConversationId,
        name: String,
        description: String,
        head: Seq,
        members: u64,
    },
    /// Done.
    Ok {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
    },
    /// The answer to `ping`.
    Pong {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
    },
    /// The friends of the user, and who wants to be one.
    Friends {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
        friends: Vec<FriendView>,
        requests: Vec<FriendRequestView>,
    },
    /// Groups that were looked for.
    Groups {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
        groups: Vec<GroupView>,
    },
    /// The members of a group.
    Members {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
        conversation: ConversationId,
        members: Vec<MemberView>,
        more: bool,
    },
    /// A user who was looked for.
    User {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
        user: UserId,
        name: String,
        online: bool,
    },
    /// Somebody wants to be a friend.
    FriendRequest { user: UserId, name: String },
    /// Somebody has agreed to be a friend.
    FriendAccepted { user: UserId, name: String },
    /// Somebody is a friend no more, or has declined to be one.
    FriendRemoved { user: UserId },
    /// A friend has come or gone.
    Presence { user: UserId, online: bool },
    /// A member writes.
    Typing { conversation: ConversationId, user: UserId },
    /// A conversation that this session has not been told of.
    Conversation(ConversationView),
    /// The node has no bus; messages from other nodes come through the log, within a second.
    Degraded { since: Millis },
    /// The bus is back and nothing was missed.
    Restored {},
    /// The server is about to close the connection.
    Closing {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
        #[serde(flatten)]
        close: Close,
    },
    /// The request failed.
    Error {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RequestId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<Key>,
        code: ErrorCode,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
    },
}

/// A friend as `welcome` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's")]
pub struct FriendView {
    pub user: UserId,
    pub name: String,
    pub online: bool,
}

/// Somebody who wants to be a friend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's")]
pub struct FriendRequestView {
    pub user: UserId,
    pub name: String,
}

/// A group as `groups` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's")]
pub struct GroupView {
    pub conversation: ConversationId,
    pub name: String,
    pub description: String,
    pub members: u64,
}

/// A member as `members` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's")]
pub struct MemberView {
    pub user: UserId,
    pub name: String,
    pub role: Role,
    pub online: bool,
    pub delivered: Seq,
    pub read: Seq,
}

/// A conversation as `welcome`, `conversations` and `conversation` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's")]
pub struct ConversationView {
    pub conversation: ConversationId,
    pub kind: ConversationKind,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_delivered: Option<Seq>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_read: Option<Seq>,
    pub head: Seq,
    pub delivered: Seq,
    pub read: Seq,
}

impl From<Membership> for ConversationView {
    fn from(membership: Membership) -> Self {
        Self {
            conversation: membership.conversation,
            kind: membership.kind,
            name: membership.name,
            peer: membership.peer.map(|peer| peer.user),
            peer_delivered: membership.peer.map(|peer| peer.delivered),
            peer_read: membership.peer.map(|peer| peer.read),
            head: membership.head,
            delivered: membership.delivered,
            read: membership.read,
        }
    }
}

/// A conversation of which `login` did not send everything: ask `history` from `next` on; live messages are above
/// `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are the wire's")]
pub struct MemberMore {
    pub conversation: ConversationId,
    pub next: Seq,
    pub until: Seq,
}

impl ServerFrame {
    /// Writes the frame as a line with its newline.
    pub fn to_line(&self) -> Bytes {
        let mut line = Vec::with_capacity(256);
        serde_json::to_writer(&mut line, self).expect("strings and integers always serialize");
        line.push(b'\n');
        line.into()
    }

    /// Reads a frame from a line.
    pub fn parse(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_stand_on_the_wire_as_documented() {
        let sent = ServerFrame::Sent {
            id: Some(RequestId::number(2)),
            key: Key::new("k-0001").unwrap(),
            conversation: ConversationId::new(3).unwrap(),
            seq: 3,
            at: 1_795_000_000_000,
        };
        assert_eq!(
            sent.to_line(),
            "{\"type\":\"sent\",\"id\":2,\"key\":\"k-0001\",\"conversation\":3,\"seq\":3,\"at\":1795000000000}\n"
        );
        let closing = ServerFrame::Closing { id: None, close: Close::new(crate::protocol::CloseReason::Slow, 250) };
        assert_eq!(
            closing.to_line(),
            "{\"type\":\"closing\",\"code\":4004,\"reason\":\"slow\",\"reconnect\":true,\"after_ms\":250}\n"
        );
        assert_eq!(ServerFrame::parse(&closing.to_line()).unwrap(), closing);
        assert_eq!(ServerFrame::Restored {}.to_line(), "{\"type\":\"restored\"}\n");
    }
}
