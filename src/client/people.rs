use super::handle::unexpected;
use super::{ChatClient, ClientError};
use crate::model::UserId;
use crate::protocol::{FriendRequestView, FriendView, RequestBody, ServerFrame};

/// The user's friends, and who wants to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Friends {
    /// By name.
    pub friends: Vec<FriendView>,
    /// By name.
    pub requests: Vec<FriendRequestView>,
}

/// A user who was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who.
    pub user: UserId,
    /// The name as it was registered.
    pub name: String,
    /// They have a session somewhere.
    pub online: bool,
}

impl ChatClient {
    /// Finds a user by name, whatever its case; [`ErrorCode::NotFound`](crate::protocol::ErrorCode) when there is none.
    pub async fn find_user(&self, name: &str) -> Result<Found, ClientError> {
        match self.ask(RequestBody::FindUser { name: name.to_owned() }).await? {
            ServerFrame::User { user, name, online, .. } => Ok(Found { user, name, online }),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads who is a friend and who wants to be one.
    pub async fn friends(&self) -> Result<Friends, ClientError> {
        match self.ask(RequestBody::Friends {}).await? {
            ServerFrame::Friends { friends, requests, .. } => Ok(Friends { friends, requests }),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks a user to be a friend, or agrees when they have asked.
    pub async fn friend_add(&self, name: &str) -> Result<(), ClientError> {
        self.ask(RequestBody::FriendAdd { name: name.to_owned() }).await.map(drop)
    }

    /// Agrees to be the friend of a user who has asked.
    pub async fn friend_accept(&self, user: UserId) -> Result<(), ClientError> {
        self.ask(RequestBody::FriendAccept { user }).await.map(drop)
    }

    /// Ends a friendship, or declines one.
    pub async fn friend_remove(&self, user: UserId) -> Result<(), ClientError> {
        self.ask(RequestBody::FriendRemove { user }).await.map(drop)
    }

    /// Refuses a user's messages from now on.
    pub async fn block(&self, user: UserId) -> Result<(), ClientError> {
        self.ask(RequestBody::Block { user }).await.map(drop)
    }

    /// Takes a user's messages again.
    pub async fn unblock(&self, user: UserId) -> Result<(), ClientError> {
        self.ask(RequestBody::Unblock { user }).await.map(drop)
    }
}
