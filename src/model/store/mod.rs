//! The log: the SQL tables behind the [`Store`] trait, one module per database.
//!
//! The log is the truth. A message exists when its transaction has committed; everything else in the cluster only makes
//! it arrive sooner.

mod config;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod decode;
mod error;
mod examine;
mod forward;
mod location;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod remote;
mod resolve;
mod rows;
mod sqlite;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

pub use config::StoreConfig;
pub use error::{StoreError, StoreErrorKind};
pub use examine::{Examination, examine, exists};
pub use location::shown;
pub use rows::{
    Append, Beat, Beaten, Changes, Claim, Claimed, CursorMoved, CursorUpdate, Friend, Friendship, Head, History,
    Member, Meta, NodeRow, NodeState, Outcome, Page, Presence, PresenceChange, Range, User, UserChange,
};

use location::Location;

use super::{ConversationId, Group, Membership, Message, Millis, Name, NodeId, UserId};

/// The log of one cluster.
///
/// All nodes of a cluster share one log; nodes in one process share one `Store`. Methods take slices where the message
/// path works in batches: one call is one transaction of as few statements as the database allows, whatever the length
/// of the slice, and an empty slice costs nothing.
///
/// Every method may fail with [`StoreErrorKind::Unavailable`] while the database is away or overloaded; nothing has
/// happened then, except where a method says otherwise. Times are the database's clock, in milliseconds since 1970. No
/// method is cancel-safe in the sense of undoing itself: a dropped future may or may not have committed, but never
/// leaves a transaction open.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Returns the cluster's identity, made by the first migration.
    fn meta(&self) -> &Meta;

    /// Reads the database's clock.
    async fn now(&self) -> Result<Millis, StoreError>;

    /// Registers a user. [`StoreErrorKind::Conflict`] when a name that folds to the same text is taken.
    async fn user_create(&self, name: &Name, password_hash: &str) -> Result<UserId, StoreError>;

    /// Finds a user by folded name.
    async fn user_by_name(&self, name: &Name) -> Result<Option<User>, StoreError>;

    /// Finds users by id. Those who do not exist are left out.
    async fn users(&self, users: &[UserId]) -> Result<Vec<User>, StoreError>;

    /// Lists users by folded name, `limit` of them after `after`.
    async fn user_list(&self, after: Option<&Name>, limit: usize) -> Result<Vec<User>, StoreError>;

    /// Changes a user's account, and with it raises `token_version`: tokens made before are good no more. `false`:
    /// there is no such user, or the account is gone ([`UserChange::Deleted`]); nothing has changed then.
    async fn user_change(&self, user: UserId, change: &UserChange) -> Result<bool, StoreError>;

    /// Asks a user to be a friend; when that user has asked already, both are friends from now on, whoever has blocked
    /// whom.
    async fn friend_add(&self, user: UserId, friend: UserId) -> Result<Friendship, StoreError>;

    /// Agrees to be a friend. `false`: that user has not asked.
    async fn friend_accept(&self, user: UserId, friend: UserId) -> Result<bool, StoreError>;

    /// Ends a friendship or takes back or declines a request, in both directions. `false`: there was none.
    async fn friend_remove(&self, user: UserId, friend: UserId) -> Result<bool, StoreError>;

    /// Reads the friends of these users, and who has asked them, in the order of the users, by name within a user.
    async fn friends(&self, users: &[UserId]) -> Result<Vec<Friend>, StoreError>;

    /// Blocks a user, or ends that. A blocked user's texts to their direct conversation with the blocker are
    /// [`Outcome::Forbidden`], and their requests to be a friend [`Friendship::Forbidden`]. A friendship, or a request
    /// that was made before, stays. Nobody can block themselves or somebody who does not exist; nothing happens then.
    async fn block(&self, user: UserId, other: UserId, blocked: bool) -> Result<(), StoreError>;

    /// Finds groups whose folded name begins with the folded prefix, by name, then id.
    async fn group_find(&self, prefix: &str, limit: usize) -> Result<Vec<Group>, StoreError>;

    /// Reads members by id, those after `after`. Empty for a conversation that does not exist.
    async fn group_members(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError>;

    /// Finds or creates the direct conversation of each pair, in a transaction of its own, and returns one answer per
    /// pair in order.
    /// `None`: one of the two does not exist. The users of a pair must differ; their order does not matter.
    async fn direct(&self, pairs: &[(UserId, UserId)]) -> Result<Vec<Option<ConversationId>>, StoreError>;

    /// Creates a group with its owner as the only member (`joined_seq` 0, head 0).
    async fn group_create(&self, owner: UserId, name: &str, description: &str) -> Result<Group, StoreError>;

    /// Reads a group. `None`: there is none with this id, or it is a direct conversation.
    async fn group(&self, conversation: ConversationId) -> Result<Option<Group>, StoreError>;

    /// Appends entries in order, in one transaction: locks the heads, looks the keys up, gives seqs, inserts, commits.
    /// Returns one outcome per entry, in order. An error means that nothing is known to be stored; when its kind is
    /// [`StoreErrorKind::OutcomeUnknown`] the commit itself broke, and calling again with the same entries is safe and
    /// finds out (keys are unique).
    ///
    /// Duplicates of a key inside one batch, and joins and leaves before other entries, are resolved as if they had
    /// come one after the other. A stored text also raises its sender's own `read` to its seq (`delivered` stays).
    ///
    /// One entry that the database refuses ([`Outcome::Refused`]) does not take the others with it: the batch is then
    /// written in parts, which keeps the order but not the one transaction.
    async fn append(&self, entries: &[Append]) -> Result<Vec<Outcome>, StoreError>;

    /// Tells which other nodes hold sessions of members of these conversations: the presence rows of every member,
    /// except those of `except`. One query. Per (conversation, node): the users, or an empty list when they are more
    /// than [`NAMED_RECIPIENTS`].
    async fn presence(&self, conversations: &[ConversationId], except: &NodeId) -> Result<Vec<Presence>, StoreError>;

    /// Reads the heads of conversations. Unknown ids are left out.
    async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Head>, StoreError>;

    /// Reads entries, ordered by (conversation, seq) in the order of the ranges, and stops after `limit` rows.
    async fn messages(&self, ranges: &[Range], limit: usize) -> Result<Vec<Message>, StoreError>;

    /// Reads one page of a conversation as a member may see it (seq >= `joined_seq`), ascending. `None`: not a member.
    async fn history(
        &self,
        user: UserId,
        conversation: ConversationId,
        page: Page,
        limit: usize,
    ) -> Result<Option<History>, StoreError>;

    /// Reads every conversation of each user with its head: (user, conversation, head), for attaching and for the
    /// audit.
    async fn conversations_of(&self, users: &[UserId]) -> Result<Vec<(UserId, Head)>, StoreError>;

    /// Reads the memberships of these users, most recently changed conversation first within a user: at most `limit`
    /// per user, only those before `before` in that order when it is given (a conversation id that the user is a member
    /// of).
    async fn memberships(
        &self,
        users: &[UserId],
        before: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<Membership>, StoreError>;

    /// Reads the memberships of any of these users in any of these conversations.
    async fn memberships_in(
        &self,
        conversations: &[ConversationId],
        users: &[UserId],
    ) -> Result<Vec<Membership>, StoreError>;

    /// Raises cursors (never lowers them), clamps them to the head, and returns those that moved. Pairs that are no
    /// membership are ignored.
    async fn cursors(&self, updates: &[CursorUpdate]) -> Result<Vec<CursorMoved>, StoreError>;

    /// Reads what has changed at or after `since`: heads, and memberships that came to be. `at` is the database's clock
    /// before the read.
    async fn changes(&self, since: Millis) -> Result<Changes, StoreError>;

    /// Changes which users have sessions on a node, in one transaction, if the node still holds `epoch`. `false`: it
    /// does not (fenced), and nothing has changed. A user who arrives twice is there once; one who leaves without being
    /// there is ignored.
    async fn presence_change(&self, node: &NodeId, epoch: u64, changes: &[PresenceChange]) -> Result<bool, StoreError>;

    /// Tells which of these users have a session anywhere.
    async fn online(&self, users: &[UserId]) -> Result<Vec<UserId>, StoreError>;

    /// Tells on which nodes these users have sessions, by user, then node.
    async fn whereabouts(&self, users: &[UserId]) -> Result<Vec<(UserId, NodeId)>, StoreError>;

    /// Deletes entries older than `before`, by the database's clock, the oldest first, at most `limit` of them, and
    /// returns how many. Heads and seqs stay as they are; a conversation's newest entry is kept. Keys of what was
    /// deleted are forgotten. What is left of a conversation has no hole: reads begin at the first entry that is there.
    async fn prune(&self, before: Millis, limit: usize) -> Result<u64, StoreError>;

    /// Takes a node's row and lease, with an epoch above all earlier ones, and drops its old presence rows.
    /// [`Claimed::Held`] while another holder's lease lives, unless `claim.take_over`. After a holder that did not
    /// release the row, `dirty_since` says since when its publishes may be lost. A wish that the node drain is forgotten.
    async fn node_claim(&self, claim: &Claim) -> Result<Claimed, StoreError>;

    /// Renews a lease and writes the node's condition. [`Beaten::Fenced`]: the row has another epoch or is expired;
    /// nothing has changed.
    async fn node_beat(&self, beat: &Beat) -> Result<Beaten, StoreError>;

    /// Reads the node table and the database's clock.
    async fn nodes(&self) -> Result<(Millis, Vec<NodeRow>), StoreError>;

    /// Asks the holder of `epoch` to drain, which it reads in its row; the first wish stays, and the next claim forgets it.
    /// `false`: nobody holds that epoch any more, and nothing has changed.
    async fn node_drain(&self, node: &NodeId, epoch: u64) -> Result<bool, StoreError>;

    /// Expires a lease that has run out: row `expired`, epoch + 1, presence rows of that node up to `epoch` deleted,
    /// all in one transaction. Returns the users who were there, ascending. `None`: it beats again, or somebody else
    /// has expired it.
    async fn node_expire(&self, node: &NodeId, epoch: u64) -> Result<Option<Vec<UserId>>, StoreError>;

    /// Gives a lease back: row `stopped`, presence rows deleted. A node that does not hold `epoch` any more changes
    /// nothing.
    async fn node_release(&self, node: &NodeId, epoch: u64) -> Result<(), StoreError>;

    /// Finishes what is running and closes the connections. Idempotent; every call after it fails as unavailable.
    async fn close(&self);
}

/// [`CursorMoved::members`] counts no further than this.
pub const COUNTED_MEMBERS: u64 = 64;

/// Up to this many users of one node are named in [`Presence`]; above it the receiving node looks its own sessions up.
pub const NAMED_RECIPIENTS: usize = 32;

/// Opens the log that `url` names as [`StoreConfig::open`] does, with the defaults for everything else.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    StoreConfig { url: url.to_owned(), ..StoreConfig::default() }.open().await
}
