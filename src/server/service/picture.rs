//! How things stand that no log can repeat: for a session that has missed events.

use std::sync::Arc;

use super::error::ServiceError;
use crate::protocol::ServerFrame;
use crate::server::core::Core;
use crate::server::flow::LocalSession;

/// Sends a session who of its friends is here, who wants to be one, and how far its partners have got.
pub(crate) async fn picture(core: &Core, session: &LocalSession) -> Result<(), ServiceError> {
    for friend in core.reader.friends(session.user).await? {
        let frame = if friend.accepted {
            ServerFrame::Presence { user: friend.friend, online: friend.online }
        } else {
            ServerFrame::FriendRequest { user: friend.friend, name: friend.name.to_string() }
        };
        session.event(&frame.to_line());
    }
    for membership in core.reader.memberships(session.user).await? {
        if let Some(peer) = membership.peer.filter(|peer| peer.delivered > 0 || peer.read > 0) {
            let (conversation, user) = (membership.conversation, peer.user);
            let frame = ServerFrame::Cursor { conversation, user, delivered: peer.delivered, read: peer.read };
            session.event(&frame.to_line());
        }
    }
    Ok(())
}

/// Sends every session of the node its picture, one after the other.
pub(crate) async fn pictures(core: Arc<Core>) {
    for session in core.locals.all() {
        if let Err(error) = picture(&core, &session).await {
            tracing::debug!(%error, "a session could not be told how things stand");
        }
    }
}
