//! Ids as the columns of an array.

use crate::model::{ConversationId, UserId};

pub(in crate::model::store) fn users(users: &[UserId]) -> Vec<i64> {
    users.iter().map(|user| user.get().cast_signed()).collect()
}

pub(in crate::model::store) fn conversations(conversations: &[ConversationId]) -> Vec<i64> {
    conversations.iter().map(|conversation| conversation.get().cast_signed()).collect()
}

/// Returns users in their order, each once.
pub(in crate::model::store) fn distinct(users: &[UserId]) -> Vec<i64> {
    let mut seen = std::collections::HashSet::new();
    users.iter().filter(|user| seen.insert(**user)).map(|user| user.get().cast_signed()).collect()
}

/// Returns users in their order, each once, with their places.
pub(in crate::model::store) fn placed(users: &[UserId]) -> Vec<(usize, i64)> {
    distinct(users).into_iter().enumerate().collect()
}
