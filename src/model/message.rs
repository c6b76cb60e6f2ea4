use serde::{Deserialize, Serialize};

use super::{ConversationId, Key, Millis, Name, Seq, UserId};

/// What an entry of a conversation is. Membership changes are entries too, so that everybody sees one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// Somebody said something.
    Text,
    /// `from` became a member.
    Join,
    /// `from` is a member no more.
    Leave,
}

/// One entry of a conversation, as the log keeps it and every reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The conversation it belongs to.
    pub conversation: ConversationId,
    /// Its position there.
    pub seq: Seq,
    /// Who wrote it, or who joined or left.
    pub from: UserId,
    /// The name of that user when it was written.
    pub name: Name,
    /// The sender's key.
    pub key: Key,
    /// Text, join or leave.
    pub kind: MessageKind,
    /// The text; empty for a join or a leave.
    pub body: String,
    /// When the log took it, by the database's clock.
    pub at: Millis,
}
