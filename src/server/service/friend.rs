//! Friends: asking, agreeing, ending; and blocking.

use super::error::ServiceError;
use crate::model::store::{Friend, Friendship, User};
use crate::model::{Name, UserId};
use crate::protocol::{ErrorCode, FriendRequestView, FriendView, RequestId, ServerFrame};
use crate::server::core::Core;
use crate::server::flow::{LocalSession, Notice, notify};

/// Asks a user to be a friend, or agrees when they have asked already.
pub(crate) async fn add(
    core: &Core,
    session: &LocalSession,
    id: Option<RequestId>,
    name: &str,
) -> Result<ServerFrame, ServiceError> {
    let friend = find(core, name).await?;
    if friend.id == session.user {
        return Err(ServiceError::new(ErrorCode::Conflict, "a friend is somebody else"));
    }
    match core.store.friend_add(session.user, friend.id).await? {
        Friendship::Requested => {
            let frame = ServerFrame::FriendRequest { user: session.user, name: session.name.to_string() };
            notify(core, vec![Notice::user(friend.id, &frame)], None);
        }
        Friendship::Accepted => agreed(core, session, friend.id).await?,
        Friendship::Unchanged => {}
        Friendship::Forbidden => {
            return Err(ServiceError::new(ErrorCode::Forbidden, "this user does not want it"));
        }
    }
    Ok(ServerFrame::Ok { id })
}

/// Agrees to be a friend of somebody who has asked.
pub(crate) async fn accept(
    core: &Core,
    session: &LocalSession,
    id: Option<RequestId>,
    friend: UserId,
) -> Result<ServerFrame, ServiceError> {
    if !core.store.friend_accept(session.user, friend).await? {
        return Err(ServiceError::not_found("this user has not asked to be a friend"));
    }
    agreed(core, session, friend).await?;
    Ok(ServerFrame::Ok { id })
}

/// Ends a friendship, or takes back or declines a request.
pub(crate) async fn remove(
    core: &Core,
    session: &LocalSession,
    id: Option<RequestId>,
    friend: UserId,
) -> Result<ServerFrame, ServiceError> {
    if !core.store.friend_remove(session.user, friend).await? {
        return Err(ServiceError::not_found("this user is no friend and has not asked to be one"));
    }
    notify(core, vec![Notice::user(friend, &ServerFrame::FriendRemoved { user: session.user })], None);
    Ok(ServerFrame::Ok { id })
}

/// Lists friends, and who wants to be one.
pub(crate) async fn list(
    core: &Core,
    session: &LocalSession,
    id: Option<RequestId>,
) -> Result<ServerFrame, ServiceError> {
    let (friends, requests) = views(core.reader.friends(session.user).await?);
    Ok(ServerFrame::Friends { id, friends, requests })
}

/// Blocks a user, or ends that.
pub(crate) async fn block(
    core: &Core,
    session: &LocalSession,
    id: Option<RequestId>,
    other: UserId,
    blocked: bool,
) -> Result<ServerFrame, ServiceError> {
    if other == session.user {
        return Err(ServiceError::new(ErrorCode::Conflict, "a block is for somebody else"));
    }
    if core.reader.user(other).await?.is_none() {
        return Err(ServiceError::not_found(format!("there is no user {other}")));
    }
    core.store.block(session.user, other, blocked).await?;
    Ok(ServerFrame::Ok { id })
}

/// Looks for a user.
pub(crate) async fn find_user(core: &Core, id: Option<RequestId>, name: &str) -> Result<ServerFrame, ServiceError> {
    let user = find(core, name).await?;
    let online = !core.store.online(&[user.id]).await?.is_empty();
    Ok(ServerFrame::User { id, user: user.id, name: user.name.to_string(), online })
}

/// Splits friends from those who have asked.
pub(super) fn views(friends: Vec<Friend>) -> (Vec<FriendView>, Vec<FriendRequestView>) {
    let (friends, requests): (Vec<Friend>, Vec<Friend>) = friends.into_iter().partition(|friend| friend.accepted);
    let view = |friend: Friend| FriendView { user: friend.friend, name: friend.name.into(), online: friend.online };
    let request = |friend: Friend| FriendRequestView { user: friend.friend, name: friend.name.into() };
    (friends.into_iter().map(view).collect(), requests.into_iter().map(request).collect())
}

/// Tells both that they are friends now, and each whether the other is here.
async fn agreed(core: &Core, session: &LocalSession, friend: UserId) -> Result<(), ServiceError> {
    let frame = ServerFrame::FriendAccepted { user: session.user, name: session.name.to_string() };
    let online = !core.store.online(&[friend]).await?.is_empty();
    let notices = vec![
        Notice::user(friend, &frame),
        Notice::user(friend, &ServerFrame::Presence { user: session.user, online: true }),
        Notice::user(session.user, &ServerFrame::Presence { user: friend, online }),
    ];
    notify(core, notices, None);
    Ok(())
}

async fn find(core: &Core, name: &str) -> Result<User, ServiceError> {
    let missing = || ServiceError::not_found(format!("there is no user called {name}"));
    let name = Name::new(name).map_err(|_| missing())?;
    core.store.user_by_name(&name).await?.ok_or_else(missing)
}
