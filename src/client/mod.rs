//! The client side of the wire: a connection that survives the loss of its server without losing, repeating or
//! reordering a message.
//!
//! [`ChatClient`] is what programs use. [`Connection`] is the bare framed socket below it, for drivers and tests.

mod asides;
mod backoff;
mod connection;
mod error;
mod event;
mod groups;
mod handle;
mod heartbeat;
mod login;
mod options;
mod owner;
mod paging;
mod pending;
mod people;
mod position;
mod secrets;
mod session;
mod sink;

pub use connection::Connection;
pub use error::{ClientError, ClientErrorKind};
pub use event::{Brief, Disconnect, Event, Events, Observer, Sent, Welcome};
pub use groups::{GroupInfo, MembersPage};
pub use handle::{ChatClient, ConversationsPage, HistoryPage, Sending, to_conversation, to_user};
pub use options::Options;
pub use people::{Found, Friends};

#[cfg(test)]
pub(crate) mod tests;
