use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc;

use super::ClientError;
use crate::model::{ConversationId, Key, Message, MessageKind, Millis, Seq, UserId};
use crate::protocol::{ConversationView, ErrorCode, FriendView};

/// The place that the log gave to a message of this client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The conversation.
    pub conversation: ConversationId,
    /// Its position there.
    pub seq: Seq,
    /// When, by the database's clock.
    pub at: Millis,
}

/// A session, as `welcome` describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Welcome {
    /// Who logged in.
    pub user: UserId,
    /// The name as it was registered.
    pub name: String,
    /// The session.
    pub session: String,
    /// The node that serves it.
    pub node: String,
    /// The user's friends.
    pub friends: Vec<FriendView>,
    /// The conversations that changed last.
    pub conversations: Vec<ConversationView>,
}

/// Why a connection ended that is going to be made again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// The server said so, with the reason's name.
    #[error("the server closed the session ({0})")]
    Closing(String),
    /// The socket was closed or broke.
    #[error("the connection broke")]
    Broken,
    /// Nothing was heard for too long.
    #[error("the server does not answer any more")]
    Silent,
    /// No server could be reached.
    #[error("no server can be reached")]
    Unreachable,
    /// The server refuses logins for the moment.
    #[error("the server refuses logins for the moment ({0})")]
    Refused(ErrorCode),
    /// What came is not of this wire.
    #[error("the server sent something else than frames")]
    Garbled,
}

/// What a [`ChatClient`](super::ChatClient) tells its user.
#[derive(Debug, Clone)]
pub enum Event {
    /// A session has begun, the first one or one after a disconnect.
    Welcome(Welcome),
    /// An entry of a conversation. Each comes once, ascending per conversation; what is missing in between are this
    /// client's own sends.
    Message(Message),
    /// Everything that was missed has been handed out.
    CaughtUp,
    /// A conversation that the session has not been told of, or that another device joined or left.
    Conversation(ConversationView),
    /// How far a member has got.
    Cursor {
        /// The conversation.
        conversation: ConversationId,
        /// The member.
        user: UserId,
        /// What they have.
        delivered: Seq,
        /// What they have read.
        read: Seq,
    },
    /// Somebody wants to be a friend.
    FriendRequest {
        /// Who.
        user: UserId,
        /// Their name.
        name: String,
    },
    /// Somebody has agreed to be a friend.
    FriendAccepted {
        /// Who.
        user: UserId,
        /// Their name.
        name: String,
    },
    /// Somebody is a friend no more, or has declined to be one.
    FriendRemoved {
        /// Who.
        user: UserId,
    },
    /// A friend has come or gone.
    Presence {
        /// Who.
        user: UserId,
        /// They have a session somewhere.
        online: bool,
    },
    /// A member writes at this moment.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
    },
    /// The node has no bus: messages from other nodes come within a second.
    Degraded {
        /// Since when.
        since: Millis,
    },
    /// The node has its bus back, and nothing was missed.
    Restored,
    /// The connection is gone; the client tries again after `retry_in`.
    Disconnected {
        /// Why.
        why: Disconnect,
        /// The wait before the next attempt.
        retry_in: Duration,
    },
    /// The server complains about something that belongs to no request.
    Complaint {
        /// The code.
        code: ErrorCode,
        /// What it says.
        message: String,
    },
    /// The client has ended for good; no event follows.
    Closed(ClientError),
}

/// The receiving end of a client's events: a bounded queue.
///
/// When it is full the client stops reading its socket, acknowledgements included, until there is room again: the
/// server bounds what it keeps for this session and lets it catch up from the log, so nothing is lost. A task that
/// waits for [`Sending`](super::Sending) must therefore not be the one that reads the events. Dropping `Events` throws
/// later events away and never stops the client.
#[derive(Debug)]
pub struct Events {
    pub(crate) queue: mpsc::Receiver<Event>,
}

impl Events {
    /// Waits for the next event; `None` after the client has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.queue.recv().await
    }
}

/// A message as far as somebody who only counts needs it, read without copying anything out of the line.
#[derive(Debug, Clone, Deserialize)]
pub struct Brief<'a> {
    /// The conversation it belongs to.
    pub conversation: ConversationId,
    /// Its position there.
    pub seq: Seq,
    /// Who wrote it.
    pub from: UserId,
    /// The sender's key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// Text, join or leave.
    pub kind: MessageKind,
    /// When the log took it.
    pub at: Millis,
}

impl<'a> From<&'a Message> for Brief<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            conversation: message.conversation,
            seq: message.seq,
            from: message.from,
            key: Cow::Borrowed(message.key.as_str()),
            kind: message.kind,
            at: message.at,
        }
    }
}

/// Hears what one client receives, inside the client's own task: the way for programs that run thousands of clients and
/// look at a few fields of each message. The methods must not block.
pub trait Observer: Send + 'static {
    /// Takes a message, once each and ascending per conversation.
    fn message(&mut self, message: &Brief<'_>);

    /// Takes a message that the server sent although this session, or the `since` of its login, has it. Users of events
    /// never see one.
    fn duplicate(&mut self, _message: &Brief<'_>) {}

    /// Takes the outcome of one of the client's own sends.
    fn sent(&mut self, key: &Key, outcome: Result<&Sent, &ClientError>);

    /// Takes any other event; never [`Event::Message`].
    fn event(&mut self, event: Event);
}
