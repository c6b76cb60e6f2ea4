//! What users can do, as use cases over the log and the message path. No sockets.

mod account;
mod batch;
mod chat;
mod cursors;
mod error;
pub(crate) mod friend;
mod group;
mod login;
mod passwords;
mod picture;
mod reader;
#[cfg(test)]
mod tests;
mod tokens;

pub(crate) use account::{change_password, log_out_elsewhere, register};
pub(crate) use chat::{Sending, conversations, history, read, received, send, typing};
pub(crate) use cursors::{Cursors, run as run_cursors};
pub(crate) use error::ServiceError;
pub(crate) use group::{
    create as group_create, find as group_find, join as group_join, leave as group_leave, members as group_members,
    remove as group_remove,
};
pub(crate) use login::{LoginFailure, Member, login};
pub(crate) use passwords::Passwords;
pub use passwords::hash_password;
pub(crate) use picture::{picture, pictures};
pub(crate) use reader::LogReader;
pub(crate) use tokens::Tokens;
