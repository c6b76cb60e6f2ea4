//! What is for whoever is there now: not in the log, sent once, never repaired by a sweep.

use bytes::Bytes;

use super::local::{LocalSession, SessionNumber};
use super::router::Work;
use crate::model::{ConversationId, UserId};
use crate::protocol::{CloseReason, ServerFrame};
use crate::server::core::Core;

/// Something to tell, and whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Whom.
    pub(crate) to: Audience,
    /// What.
    pub(crate) told: Told,
}

/// Whom to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Everybody in a conversation, but one user.
    Conversation(ConversationId, Option<UserId>),
    /// Every session of a user.
    User(UserId),
}

/// What to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// A frame, encoded.
    Frame(Bytes),
    /// That the user is a member of a conversation now.
    Member(ConversationId),
    /// That the session is over.
    Closed(CloseReason),
}

impl Notice {
    /// Makes a notice of a frame for a conversation.
    pub(crate) fn conversation(conversation: ConversationId, except: Option<UserId>, frame: &ServerFrame) -> Self {
        Self { to: Audience::Conversation(conversation, except), told: Told::Frame(frame.to_line()) }
    }

    /// Makes a notice of a frame for a user.
    pub(crate) fn user(user: UserId, frame: &ServerFrame) -> Self {
        Self { to: Audience::User(user), told: Told::Frame(frame.to_line()) }
    }

    /// Tells the sessions of this node, but one.
    pub(super) fn deliver(&self, core: &Core, except: Option<SessionNumber>) {
        match (self.to, &self.told) {
            (Audience::Conversation(conversation, nobody), Told::Frame(frame)) => {
                core.timelines.event(conversation, nobody, frame);
            }
            (Audience::Conversation(..), Told::Member(_) | Told::Closed(_)) => {}
            (Audience::User(user), Told::Member(conversation)) => core.repairs.adopt_users(*conversation, [user]),
            (Audience::User(user), told) => {
                for session in core.locals.of(user).iter().filter(|session| Some(session.number) != except) {
                    tell(session, told);
                }
            }
        }
    }
}

fn tell(session: &LocalSession, told: &Told) {
    match told {
        Told::Frame(frame) => session.event(frame),
        Told::Closed(reason) => session.outbox.close(*reason, 0, None),
        Told::Member(_) => {}
    }
}

/// Tells everybody, here and on other nodes, but the session that caused it.
pub(crate) fn notify(core: &Core, notices: Vec<Notice>, except: Option<SessionNumber>) {
    if notices.is_empty() {
        return;
    }
    notices.iter().for_each(|notice| notice.deliver(core, except));
    core.router.notify(Work::Notices(notices));
}
