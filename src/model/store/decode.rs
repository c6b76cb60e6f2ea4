//! Rows into domain types. Whatever does not fit is an error, never a default.

use std::fmt::Display;

use serde::Serialize;

use super::{CursorMoved, Friend, Head, Member, NodeRow, NodeState, StoreError, StoreErrorKind, User};
use crate::model::{
    ConversationId, ConversationKind, Group, Key, Membership, Message, MessageKind, Name, NodeId, Peer, Role, Seq,
    UserId,
};

/// A row of any database: numbers of 64 bits, and texts.
pub(super) trait Cells {
    /// Returns a number; a null is none.
    fn number(&self, column: usize) -> Result<Option<i64>, sqlx::Error>;

    /// Returns a text; a null is an error.
    fn text(&self, column: usize) -> Result<String, sqlx::Error>;
}

/// Writes the one array that a statement takes.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("numbers, texts and tuples of them are always JSON")
}

/// Says that the log holds something that cannot be.
pub(super) fn broken(what: impl Display) -> StoreError {
    StoreError::new(StoreErrorKind::Internal, format!("the log holds {what}; it was not written by this program"))
}

pub(super) fn integer(row: &impl Cells, column: usize) -> Result<i64, StoreError> {
    optional(row, column)?.ok_or_else(|| broken("no number where one belongs"))
}

pub(super) fn optional(row: &impl Cells, column: usize) -> Result<Option<i64>, StoreError> {
    row.number(column).map_err(|error| broken("no number where one belongs").caused_by(error))
}

pub(super) fn text(row: &impl Cells, column: usize) -> Result<String, StoreError> {
    row.text(column).map_err(|error| broken("no text where one belongs").caused_by(error))
}

pub(super) fn number<T: TryFrom<i64>>(row: &impl Cells, column: usize) -> Result<T, StoreError> {
    let value = integer(row, column)?;
    T::try_from(value).map_err(|_| broken(format_args!("{value} where a count belongs")))
}

pub(super) fn seq(row: &impl Cells, column: usize) -> Result<Seq, StoreError> {
    number(row, column)
}

pub(super) fn user(row: &impl Cells, column: usize) -> Result<UserId, StoreError> {
    user_id(integer(row, column)?)
}

pub(super) fn user_id(value: i64) -> Result<UserId, StoreError> {
    u64::try_from(value).ok().and_then(UserId::new).ok_or_else(|| broken(format_args!("the user id {value}")))
}

pub(super) fn conversation(row: &impl Cells, column: usize) -> Result<ConversationId, StoreError> {
    conversation_id(integer(row, column)?)
}

pub(super) fn conversation_id(value: i64) -> Result<ConversationId, StoreError> {
    let id = u64::try_from(value).ok().and_then(ConversationId::new);
    id.ok_or_else(|| broken(format_args!("the conversation id {value}")))
}

pub(super) fn name(row: &impl Cells, column: usize) -> Result<Name, StoreError> {
    let name = text(row, column)?;
    Name::new(&name).map_err(|error| broken("an invalid user name").caused_by(error))
}

pub(super) fn node(row: &impl Cells, column: usize) -> Result<NodeId, StoreError> {
    let node = text(row, column)?;
    NodeId::new(&node).map_err(|error| broken("an invalid node id").caused_by(error))
}

pub(super) fn conversation_kind(row: &impl Cells, column: usize) -> Result<ConversationKind, StoreError> {
    match integer(row, column)? {
        0 => Ok(ConversationKind::Direct),
        1 => Ok(ConversationKind::Group),
        other => Err(broken(format_args!("a conversation of the kind {other}"))),
    }
}

pub(super) fn kind_code(kind: MessageKind) -> i64 {
    match kind {
        MessageKind::Text => 0,
        MessageKind::Join => 1,
        MessageKind::Leave => 2,
    }
}

pub(super) fn message_kind(row: &impl Cells, column: usize) -> Result<MessageKind, StoreError> {
    match integer(row, column)? {
        0 => Ok(MessageKind::Text),
        1 => Ok(MessageKind::Join),
        2 => Ok(MessageKind::Leave),
        other => Err(broken(format_args!("an entry of the kind {other}"))),
    }
}

/// Reads conversation, seq, sender, the sender's name, key, kind, body and time, in this order.
pub(super) fn message(row: &impl Cells) -> Result<Message, StoreError> {
    let key = text(row, 4)?;
    Ok(Message {
        conversation: conversation(row, 0)?,
        seq: seq(row, 1)?,
        from: user(row, 2)?,
        name: name(row, 3)?,
        key: Key::new(&key).map_err(|error| broken("an invalid key").caused_by(error))?,
        kind: message_kind(row, 5)?,
        body: text(row, 6)?,
        at: integer(row, 7)?,
    })
}

/// Reads id, name, password hash, token version and whether it is disabled.
pub(super) fn account(row: &impl Cells) -> Result<User, StoreError> {
    Ok(User {
        id: user(row, 0)?,
        name: name(row, 1)?,
        password_hash: text(row, 2)?,
        token_version: number(row, 3)?,
        disabled: integer(row, 4)? != 0,
    })
}

/// Reads whose friend, the friend, the friend's name, the state of the friendship and whether the friend is online.
pub(super) fn friend(row: &impl Cells) -> Result<Friend, StoreError> {
    Ok(Friend {
        user: user(row, 0)?,
        friend: user(row, 1)?,
        name: name(row, 2)?,
        accepted: integer(row, 3)? == ACCEPTED,
        online: integer(row, 4)? != 0,
    })
}

/// The state of a friendship: one has asked.
pub(super) const ASKED: i64 = 0;
/// The state of a friendship: they are friends.
pub(super) const ACCEPTED: i64 = 1;

/// Reads id, kind and head.
pub(super) fn head(row: &impl Cells) -> Result<Head, StoreError> {
    Ok(Head { conversation: conversation(row, 0)?, kind: conversation_kind(row, 1)?, head: seq(row, 2)? })
}

/// Reads id, name, description, owner, head and how many members there are.
pub(super) fn group(row: &impl Cells) -> Result<Group, StoreError> {
    Ok(Group {
        conversation: conversation(row, 0)?,
        name: text(row, 1)?,
        description: text(row, 2)?,
        owner: optional(row, 3)?.map(user_id).transpose()?,
        head: seq(row, 4)?,
        members: number(row, 5)?,
    })
}

/// Reads user, name, whether they own the group, whether they are online, and both cursors.
pub(super) fn member(row: &impl Cells) -> Result<Member, StoreError> {
    Ok(Member {
        user: user(row, 0)?,
        name: name(row, 1)?,
        role: if integer(row, 2)? != 0 { Role::Owner } else { Role::Member },
        online: integer(row, 3)? != 0,
        delivered: seq(row, 4)?,
        read: seq(row, 5)?,
    })
}

/// Reads user, conversation, kind, name, the other user with both cursors, head, `joined_seq`, and both cursors.
pub(super) fn membership(row: &impl Cells) -> Result<Membership, StoreError> {
    let kind = conversation_kind(row, 2)?;
    let peer = match (kind, optional(row, 4)?) {
        (ConversationKind::Direct, Some(peer)) => {
            Some(Peer { user: user_id(peer)?, delivered: seq(row, 5)?, read: seq(row, 6)? })
        }
        _ => None,
    };
    Ok(Membership {
        user: user(row, 0)?,
        conversation: conversation(row, 1)?,
        kind,
        name: text(row, 3)?,
        peer,
        head: seq(row, 7)?,
        joined_seq: seq(row, 8)?,
        delivered: seq(row, 9)?,
        read: seq(row, 10)?,
    })
}

/// Reads conversation, user, both cursors and how many members there are.
pub(super) fn moved(row: &impl Cells) -> Result<CursorMoved, StoreError> {
    Ok(CursorMoved {
        conversation: conversation(row, 0)?,
        user: user(row, 1)?,
        delivered: seq(row, 2)?,
        read: seq(row, 3)?,
        members: seq(row, 4)?,
    })
}

/// Reads a row of the node table, its columns in the order of their fields.
pub(super) fn node_row(row: &impl Cells) -> Result<NodeRow, StoreError> {
    Ok(NodeRow {
        node: node(row, 0)?,
        epoch: number(row, 1)?,
        holder: text(row, 2)?,
        tcp: text(row, 3)?,
        http: text(row, 4)?,
        weight: number(row, 5)?,
        state: state(&text(row, 6)?)?,
        bus_ok: integer(row, 7)? != 0,
        heard_at: optional(row, 8)?,
        dirty_since: optional(row, 9)?,
        sessions: number(row, 10)?,
        beat_at: integer(row, 11)?,
        lease_until: integer(row, 12)?,
        drain_asked_at: optional(row, 13)?,
    })
}

fn state(text: &str) -> Result<NodeState, StoreError> {
    match text {
        "starting" => Ok(NodeState::Starting),
        "ready" => Ok(NodeState::Ready),
        "deaf" => Ok(NodeState::Deaf),
        "draining" => Ok(NodeState::Draining),
        "stopped" => Ok(NodeState::Stopped),
        "expired" => Ok(NodeState::Expired),
        other => Err(broken(format_args!("a node in the state `{other}`"))),
    }
}

/// Brings a limit into the range of the database's integers.
pub(super) fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Brings a bound into the range of the database's integers, which no stored seq leaves.
pub(super) fn stored(seq: Seq) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
