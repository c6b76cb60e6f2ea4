use crate::model::{ConversationId, ConversationKind, Key, Message, MessageKind, Millis, NodeId, Seq, UserId};

/// The identity of a cluster, made once by the first migration.
#[derive(Clone)]
pub struct Meta {
    /// 16 lower-case hexadecimal digits, part of every subject and envelope.
    pub cluster_id: String,
    /// The key that signs session tokens: 32 random bytes.
    pub token_key: Vec<u8>,
}

impl std::fmt::Debug for Meta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meta").field("cluster_id", &self.cluster_id).finish_non_exhaustive()
    }
}

/// A registered user.
#[derive(Debug, Clone)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The name as registered.
    pub name: crate::model::Name,
    /// The password's argon2id hash, a PHC string.
    pub password_hash: String,
    /// Rises with every change of the account; a token made under a lower one is good no more.
    pub token_version: u64,
    /// May not log in.
    pub disabled: bool,
}

/// A change of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserChange {
    /// A new password hash.
    Password(String),
    /// Nothing but that earlier tokens are good no more.
    Tokens,
    /// May not log in any more, or may again.
    Disabled(bool),
    /// The account is gone: it is disabled for good, its password is forgotten, and its friendships and requests are
    /// removed. Its name stays taken, because what it said stays. It stays a member of its groups, because a leave is
    /// an entry, and online for as long as it has sessions; both are for the caller to end.
    Deleted,
}

/// What became of a wish to be friends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Friendship {
    /// The other user is asked.
    Requested,
    /// They had asked: both are friends now.
    Accepted,
    /// They are friends already, or the other user was asked before.
    Unchanged,
    /// The other user has blocked this one (and has not asked), or one of the two accounts is gone.
    Forbidden,
}

/// Somebody's friend, or somebody who has asked them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Friend {
    /// Whose friend.
    pub user: UserId,
    /// The friend.
    pub friend: UserId,
    /// The friend's name.
    pub name: crate::model::Name,
    /// They are friends; otherwise `friend` has asked `user` to be one.
    pub accepted: bool,
    /// The friend has a session somewhere.
    pub online: bool,
}

/// A member of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// Their name.
    pub name: crate::model::Name,
    /// What they may do.
    pub role: crate::model::Role,
    /// They have a session somewhere.
    pub online: bool,
    /// The highest seq they have.
    pub delivered: Seq,
    /// The highest seq they have read.
    pub read: Seq,
}

/// An entry to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// Where to.
    pub conversation: ConversationId,
    /// Who writes, joins or leaves.
    pub sender: UserId,
    /// Unique per sender for ever.
    pub key: Key,
    /// `Join` also inserts the member (`joined_seq`, `delivered` and `read` = its seq), `Leave` also deletes it; an
    /// owner who leaves hands the group to the member who joined first, and whoever joins a group without an owner owns
    /// it.
    pub kind: MessageKind,
    /// The text; empty for a join or a leave.
    pub body: String,
    /// In a direct conversation only friends may write.
    pub friends_only: bool,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log.
    Stored {
        /// Its position.
        seq: Seq,
        /// When.
        at: Millis,
    },
    /// The same key, conversation, kind and body were there already.
    Repeat {
        /// The position it got then.
        seq: Seq,
        /// When that was.
        at: Millis,
    },
    /// The key is taken by another body or conversation.
    Conflict,
    /// The sender is not a member of the conversation (for a `Leave` too).
    NotMember,
    /// A text to a direct conversation whose other user has blocked the sender or, where only friends may write
    /// ([`Append::friends_only`]), is no friend of theirs.
    Forbidden,
    /// A `Join` of somebody who is a member already.
    AlreadyMember,
    /// There is no such conversation, or none to join or leave (a direct one), or nobody who could join (no such user).
    NotFound,
    /// The database refuses this entry, and only this one: the log holds what it should not. Trying again does not
    /// help.
    Refused,
}

/// Where members of a conversation are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The conversation.
    pub conversation: ConversationId,
    /// What it is.
    pub kind: ConversationKind,
    /// A node that holds sessions of its members.
    pub node: NodeId,
    /// Those members, ascending; empty when they are many.
    pub users: Vec<UserId>,
}

/// A conversation's last seq.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Head {
    /// The conversation.
    pub conversation: ConversationId,
    /// What it is.
    pub kind: ConversationKind,
    /// Its last seq.
    pub head: Seq,
}

/// Entries with `after` < seq <= `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The conversation.
    pub conversation: ConversationId,
    /// Exclusive lower bound.
    pub after: Seq,
    /// Inclusive upper bound; `Seq::MAX >> 1` for the head.
    pub until: Seq,
}

/// Which page of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The newest entries.
    Newest,
    /// The entries just below this seq.
    Before(Seq),
    /// The entries just above this seq.
    After(Seq),
}

/// One page of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Ascending seqs.
    pub messages: Vec<Message>,
    /// Whether there are more in the direction of the page (below for `Newest` and `Before`).
    pub more: bool,
}

/// How far a member has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorUpdate {
    /// The conversation.
    pub conversation: ConversationId,
    /// The member.
    pub user: UserId,
    /// The highest seq they have; 0 changes nothing.
    pub delivered: Seq,
    /// The highest seq they have read; 0 changes nothing.
    pub read: Seq,
}

/// A cursor that has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorMoved {
    /// The conversation.
    pub conversation: ConversationId,
    /// The member.
    pub user: UserId,
    /// Where it stands now.
    pub delivered: Seq,
    /// Where it stands now.
    pub read: Seq,
    /// How many members the conversation has; counted no further than [`COUNTED_MEMBERS`](super::COUNTED_MEMBERS).
    pub members: u64,
}

/// What the fast sweep reads.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The database's clock before the read: the next `since`.
    pub at: Millis,
    /// Heads that moved.
    pub heads: Vec<Head>,
    /// Memberships that came to be.
    pub members: Vec<(ConversationId, UserId)>,
}

/// A user came to a node or left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresenceChange {
    /// The user.
    pub user: UserId,
    /// Whether they have a session on the node now.
    pub here: bool,
}

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeState {
    /// Started, not yet serving.
    Starting,
    /// Serving.
    Ready,
    /// Serving those who are there; new clients are for nodes that hear their bus.
    Deaf,
    /// Sending its sessions away.
    Draining,
    /// Gave its lease back.
    Stopped,
    /// Lost its lease.
    Expired,
}

impl NodeState {
    /// Returns the state as it stands in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Deaf => "deaf",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Expired => "expired",
        }
    }
}

/// A node's wish to hold its row.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Which node.
    pub node: NodeId,
    /// Which process: host, process id and its start time, for whoever is refused.
    pub holder: String,
    /// The address of its TCP front, as the balancer reaches it.
    pub tcp: String,
    /// The address of its HTTP front.
    pub http: String,
    /// Its share of new connections.
    pub weight: u32,
    /// How long the lease holds without a beat, in milliseconds.
    pub lease_ms: u32,
    /// Take the row although another holder's lease lives: the caller knows that holder to be dead.
    pub take_over: bool,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The row is ours.
    Ours {
        /// Our fencing number.
        epoch: u64,
        /// The database's clock.
        now: Millis,
    },
    /// Another process holds a live lease.
    Held {
        /// That process, as it described itself.
        holder: String,
        /// When its lease runs out; it grows with every beat.
        lease_until: Millis,
    },
}

/// A node's sign of life.
#[derive(Debug, Clone)]
pub struct Beat {
    /// Which node.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: u64,
    /// What it is doing.
    pub state: NodeState,
    /// Whether its bus is well.
    pub bus_ok: bool,
    /// Whether it has heard itself through the bus since the last beat (writes `heard_at`).
    pub heard: bool,
    /// Since when its publishes may have been lost, until its peers have swept.
    pub dirty_since: Option<Millis>,
    /// How many sessions it has.
    pub sessions: u32,
    /// How long the lease holds from now, in milliseconds.
    pub lease_ms: u32,
}

/// The answer to a beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beaten {
    /// The lease is renewed.
    Alive {
        /// The database's clock.
        now: Millis,
    },
    /// The row is somebody else's now.
    Fenced,
}

/// A row of the node table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Which node.
    pub node: NodeId,
    /// Its fencing number.
    pub epoch: u64,
    /// Which process.
    pub holder: String,
    /// The address of its TCP front.
    pub tcp: String,
    /// The address of its HTTP front.
    pub http: String,
    /// Its share of new connections.
    pub weight: u32,
    /// What it is doing.
    pub state: NodeState,
    /// Whether its bus is well.
    pub bus_ok: bool,
    /// When it last heard itself through the bus.
    pub heard_at: Option<Millis>,
    /// Since when its publishes may have been lost.
    pub dirty_since: Option<Millis>,
    /// How many sessions it has.
    pub sessions: u32,
    /// When it last beat.
    pub beat_at: Millis,
    /// Until when its lease holds.
    pub lease_until: Millis,
    /// When an operator asked this holder to drain.
    pub drain_asked_at: Option<Millis>,
}
