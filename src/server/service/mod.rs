//! What users can do, as use cases over the log and the message path. No sockets.

mod account;
mod batch;
mod chat;
mod cursors;
mod error;
mod group;
mod login;
mod passwords;
mod reader;
#[cfg(test)]
mod tests;
mod tokens;

pub(crate) use account::register;
pub(crate) use chat::{Sending, conversations, history, received, send};
pub(crate) use cursors::{Cursors, run as run_cursors};
pub(crate) use error::ServiceError;
pub(crate) use group::{create as group_create, join as group_join, leave as group_leave};
pub(crate) use login::{LoginFailure, Member, login};
pub(crate) use passwords::Passwords;
pub(crate) use reader::LogReader;
pub(crate) use tokens::Tokens;
