//! Rows into domain types. Whatever does not fit is an error, never a default.

use std::fmt::Display;

use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::model::store::{StoreError, StoreErrorKind};
use crate::model::{ConversationId, ConversationKind, Key, Message, MessageKind, Name, NodeId, Seq, UserId};

/// Writes the one array that a statement takes.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("numbers, texts and tuples of them are always JSON")
}

/// Says that the log holds something that cannot be.
pub(super) fn broken(what: impl Display) -> StoreError {
    StoreError::new(StoreErrorKind::Internal, format!("the log holds {what}; it was not written by this program"))
}

pub(super) fn integer(row: &SqliteRow, column: usize) -> Result<i64, StoreError> {
    row.try_get(column).map_err(|error| broken("no number where one belongs").caused_by(error))
}

pub(super) fn optional(row: &SqliteRow, column: usize) -> Result<Option<i64>, StoreError> {
    row.try_get(column).map_err(|error| broken("no number where one belongs").caused_by(error))
}

pub(super) fn text(row: &SqliteRow, column: usize) -> Result<String, StoreError> {
    row.try_get(column).map_err(|error| broken("no text where one belongs").caused_by(error))
}

pub(super) fn number<T: TryFrom<i64>>(row: &SqliteRow, column: usize) -> Result<T, StoreError> {
    let value = integer(row, column)?;
    T::try_from(value).map_err(|_| broken(format_args!("{value} where a count belongs")))
}

pub(super) fn seq(row: &SqliteRow, column: usize) -> Result<Seq, StoreError> {
    number(row, column)
}

pub(super) fn user(row: &SqliteRow, column: usize) -> Result<UserId, StoreError> {
    user_id(integer(row, column)?)
}

pub(super) fn user_id(value: i64) -> Result<UserId, StoreError> {
    u64::try_from(value).ok().and_then(UserId::new).ok_or_else(|| broken(format_args!("the user id {value}")))
}

pub(super) fn conversation(row: &SqliteRow, column: usize) -> Result<ConversationId, StoreError> {
    conversation_id(integer(row, column)?)
}

pub(super) fn conversation_id(value: i64) -> Result<ConversationId, StoreError> {
    let id = u64::try_from(value).ok().and_then(ConversationId::new);
    id.ok_or_else(|| broken(format_args!("the conversation id {value}")))
}

pub(super) fn name(row: &SqliteRow, column: usize) -> Result<Name, StoreError> {
    let name = text(row, column)?;
    Name::new(&name).map_err(|error| broken("an invalid user name").caused_by(error))
}

pub(super) fn node(row: &SqliteRow, column: usize) -> Result<NodeId, StoreError> {
    let node = text(row, column)?;
    NodeId::new(&node).map_err(|error| broken("an invalid node id").caused_by(error))
}

pub(super) fn conversation_kind(row: &SqliteRow, column: usize) -> Result<ConversationKind, StoreError> {
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

pub(super) fn message_kind(row: &SqliteRow, column: usize) -> Result<MessageKind, StoreError> {
    match integer(row, column)? {
        0 => Ok(MessageKind::Text),
        1 => Ok(MessageKind::Join),
        2 => Ok(MessageKind::Leave),
        other => Err(broken(format_args!("an entry of the kind {other}"))),
    }
}

/// Reads conversation, seq, sender, the sender's name, key, kind, body and time, in this order.
pub(super) fn message(row: &SqliteRow) -> Result<Message, StoreError> {
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
