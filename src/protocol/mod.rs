//! The wire without sockets: what clients and servers say to each other, as lines of JSON.

mod close;
mod codec;
mod error_code;
mod fields;
mod request;
mod server_frame;

pub use close::{Close, CloseReason};
pub use codec::{Codec, Line, MAX_CLIENT_LINE, MAX_SERVER_FRAME};
pub(crate) use codec::{ENDLESS_FACTOR, trimmed};
pub use error_code::ErrorCode;
pub use request::{Login, MAX_BODY_BYTES, Malformed, Password, Request, RequestBody, RequestId, SendTarget};
pub use server_frame::{
    ConversationView, FriendRequestView, FriendView, GroupView, MemberMore, MemberView, ServerFrame,
};
