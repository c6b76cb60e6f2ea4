//! Domain types: what a user, a name, a conversation and a message are. No I/O.
//!
//! Every type that comes from outside is validated once, when it is made, and carries private fields from then on.

mod conversation;
mod id;
mod key;
mod message;
mod name;
pub mod store;

pub use conversation::{ConversationKind, Group, Membership, Peer, Role};
pub use id::{ConversationId, InvalidNodeId, MAX_ID, NodeId, UserId};
pub use key::{InvalidKey, Key, MAX_KEY_BYTES};
pub use message::{Message, MessageKind};
pub use name::{InvalidName, MAX_NAME_CHARS, Name};

/// A message's position in its conversation: 1, 2, 3, ... Zero stands before the first message.
pub type Seq = u64;

/// Milliseconds since 1970-01-01 UTC.
pub type Millis = i64;
