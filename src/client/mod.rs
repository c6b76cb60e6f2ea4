//! The client side of the wire: a connection that survives the loss of its server without losing, repeating or
//! reordering a message.
//!
//! [`ChatClient`] is what programs use. [`Connection`] is the bare framed socket below it, for drivers and tests.

mod backoff;
mod connection;
mod error;
mod event;
mod handle;
mod heartbeat;
mod login;
mod options;
mod owner;
mod paging;
mod pending;
mod position;
mod session;
mod sink;

pub use connection::Connection;
pub use error::{ClientError, ClientErrorKind};
pub use event::{Brief, Disconnect, Event, Events, Observer, Sent, Welcome};
pub use handle::{ChatClient, ConversationsPage, GroupInfo, HistoryPage, Sending, to_conversation, to_user};
pub use options::Options;

#[cfg(test)]
pub(crate) mod tests;
