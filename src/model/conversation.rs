use serde::{Deserialize, Serialize};

use super::{ConversationId, Seq, UserId};

/// The two kinds of conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConversationKind {
    /// Two users; there is one per pair.
    Direct,
    /// Any number of members; names need not be unique.
    Group,
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Removes others too.
    Owner,
    /// Talks and leaves.
    Member,
}

/// One user's view of one conversation of theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The member.
    pub user: UserId,
    /// The conversation.
    pub conversation: ConversationId,
    /// Direct or group.
    pub kind: ConversationKind,
    /// The group's name, or the other user's name.
    pub name: String,
    /// The other user of a direct conversation.
    pub peer: Option<Peer>,
    /// The conversation's last seq.
    pub head: Seq,
    /// The seq of the member's join entry (0 in a direct conversation, and for a group's founder).
    /// Nothing below it is shown to them; live messages begin above it.
    pub joined_seq: Seq,
    /// The highest seq this user has confirmed to have.
    pub delivered: Seq,
    /// The highest seq this user has confirmed to have read.
    pub read: Seq,
}

/// The other user of a direct conversation and how far they have got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The other user.
    pub user: UserId,
    /// The highest seq they have confirmed to have.
    pub delivered: Seq,
    /// The highest seq they have confirmed to have read.
    pub read: Seq,
}

/// A group as anybody may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its conversation.
    pub conversation: ConversationId,
    /// Its name.
    pub name: String,
    /// What it is about; may be empty.
    pub description: String,
    /// Who owns it; `None` once its last member has left.
    pub owner: Option<UserId>,
    /// Its last seq.
    pub head: Seq,
    /// How many members it has.
    pub members: u64,
}
