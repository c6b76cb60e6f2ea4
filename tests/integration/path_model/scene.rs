//! What a case is about: who says how much, what may go wrong and how often, and how small the bounds are.

use super::state::{Budget, Seq};

/// The frame of a case. The world begins with nobody logged in and an empty log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    /// How many messages are said, at most three.
    pub(super) messages: Seq,
    /// Where each is said.
    pub(super) said: [Said; 3],
    /// Since when the user is a member.
    pub(super) conversation: Conversation,
    /// The message with which the user leaves; 0: none.
    pub(super) leave: Seq,
    /// How many sessions the user has on the node, at most two.
    pub(super) sessions: usize,
    /// How envelopes are addressed.
    pub(super) routing: Routing,
    /// What may go wrong, and how often.
    pub(super) budget: Budget,
    /// How many entries wait for a predecessor at most.
    pub(super) parked: u32,
    /// How many live entries are kept for a session that reads the log.
    pub(super) kept: u32,
    /// How many rows a session reads at a time.
    pub(super) page: Seq,
    /// Whether the broker tells how many heard a publish.
    pub(super) counted: bool,
    /// Sweeps go by the clock, instead of being asked for.
    pub(super) clock: Option<Clock>,
}

impl Default for Scene {
    fn default() -> Self {
        Self {
            messages: 2,
            said: [Said::Elsewhere; 3],
            conversation: Conversation::Old,
            leave: 0,
            sessions: 2,
            routing: Routing::PerUser,
            budget: Budget::default(),
            parked: 8,
            kept: 8,
            page: 8,
            counted: false,
            clock: None,
        }
    }
}

/// Where a message is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// On another node; each message on one of its own, so that nothing but the log orders them.
    Elsewhere,
    /// On this node, by somebody else.
    Here,
    /// By the user's first session.
    ByFirstSession,
}

/// Since when the user is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conversation {
    /// All along.
    Old,
    /// Since its first message, which makes it.
    BornDirect,
    /// Since its first message, which is the user's join, on another device. What follows goes to the group's subject.
    JoinedGroup,
}

/// How envelopes are addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Routing {
    /// To subjects of users and groups, subscribed while somebody holds them.
    PerUser,
    /// To the node, which always hears its own subject.
    PerNode,
}

/// How sweeps by the clock see changes. A tick is the time from one sweep to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// How many ticks a sweep looks back behind the start of the last one.
    pub(super) overlap: u8,
    /// Whether the database ends a transaction that stays open for more than two sweeps.
    pub(super) cut: bool,
}
