//! Ids as the columns of an array.

use std::collections::HashSet;

use crate::model::{ConversationId, UserId};

pub(super) fn users(users: &[UserId]) -> Vec<i64> {
    users.iter().map(|user| user.get().cast_signed()).collect()
}

pub(super) fn conversations(conversations: &[ConversationId]) -> Vec<i64> {
    conversations.iter().map(|conversation| conversation.get().cast_signed()).collect()
}

/// Returns users in their order, each once.
pub(super) fn distinct(users: &[UserId]) -> Vec<i64> {
    let mut seen = HashSet::new();
    users.iter().filter(|user| seen.insert(**user)).map(|user| user.get().cast_signed()).collect()
}
