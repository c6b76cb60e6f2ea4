use std::sync::Arc;

use tokio::sync::oneshot;

use super::chat::page_limit;
use super::error::ServiceError;
use crate::model::store::Member;
use crate::model::{ConversationId, Group, Key, MessageKind, Name, UserId};
use crate::protocol::{ConversationView, ErrorCode, GroupView, MemberView, RequestId, SendTarget, ServerFrame};
use crate::server::core::Core;
use crate::server::flow::{Answer, Audience, LocalSession, Notice, Post, Posted, Told, notify};

/// The longest name of a group, and what may be said of it, in characters.
const MAX_NAME_CHARS: usize = 64;
const MAX_DESCRIPTION_CHARS: usize = 512;

/// How many groups a search shows.
const MAX_FOUND: usize = 50;

/// Makes a group whose owner is its only member. Until the session is in its timeline it notes what is new to its user,
/// so that whoever finds the group in the log meanwhile does not tell it of what it has made itself.
pub(crate) async fn create(
    core: &Core,
    session: &Arc<LocalSession>,
    id: Option<RequestId>,
    name: &str,
    description: &str,
) -> Result<ServerFrame, ServiceError> {
    let name = text("name", name, 1, MAX_NAME_CHARS)?;
    let description = text("description", description, 0, MAX_DESCRIPTION_CHARS)?;
    session.note_births();
    let created = core.store.group_create(session.user, name, description).await;
    if let Ok(group) = &created
        && core.timelines.attach(group.conversation, session, None)
    {
        session.outbox.fall_behind(group.conversation, group.head + 1);
    }
    for conversation in session.listed() {
        core.repairs.adopt_users(conversation, [session.user]);
    }
    let group = created?;
    // The user's other sessions hear of it wherever they are.
    let member = Notice { to: Audience::User(session.user), told: Told::Member(group.conversation) };
    notify(core, vec![member], None);
    Ok(frame(id, group))
}

/// Makes a user a member. The session that asks is in the timeline before the log has the join, so that it is told
/// nothing of a conversation that it knows; the user's other sessions follow.
pub(crate) async fn join(
    core: &Core,
    session: &Arc<LocalSession>,
    id: Option<RequestId>,
    conversation: ConversationId,
) -> Result<ServerFrame, ServiceError> {
    let attached = core.timelines.attach(conversation, session, None);
    let joined = change(core, session.user, session.name.clone(), conversation, MessageKind::Join).await;
    let joined_seq = joined.as_ref().map_or(0, |posted| posted.seq);
    if attached && joined_seq == 0 {
        core.timelines.detach(conversation, session.number);
    } else if attached {
        session.outbox.fall_behind(conversation, joined_seq + 1);
    }
    // Whatever the answer is: the log may have the join without knowing it, or another session's.
    core.repairs.adopt_users(conversation, [session.user]);
    joined?;
    let found = core.store.group(conversation).await?;
    let mut group = found.ok_or_else(no_group)?;
    if joined_seq > 0 {
        // Live messages begin above the join, whatever has been said since.
        group.head = joined_seq;
    }
    Ok(frame(id, group))
}

/// Ends a user's membership. The sessions of the user get the leave entry and nothing after it; those on other devices
/// are told of the conversation once more.
pub(crate) async fn leave(
    core: &Core,
    session: &Arc<LocalSession>,
    id: Option<RequestId>,
    conversation: ConversationId,
) -> Result<ServerFrame, ServiceError> {
    let left = core.store.memberships_in(&[conversation], &[session.user]).await?.pop();
    let posted = change(core, session.user, session.name.clone(), conversation, MessageKind::Leave).await?;
    if let Some(membership) = left {
        let view = ConversationView { head: posted.seq, ..membership.into() };
        notify(core, vec![Notice::user(session.user, &ServerFrame::Conversation(view))], Some(session.number));
    }
    Ok(ServerFrame::Ok { id })
}

/// Ends somebody else's membership; the owner's.
pub(crate) async fn remove(
    core: &Core,
    session: &Arc<LocalSession>,
    id: Option<RequestId>,
    conversation: ConversationId,
    user: UserId,
) -> Result<ServerFrame, ServiceError> {
    let group = core.store.group(conversation).await?.ok_or_else(no_group)?;
    if group.owner != Some(session.user) {
        return Err(ServiceError::new(ErrorCode::Forbidden, "only the owner of a group removes members"));
    }
    if user == session.user {
        return Err(ServiceError::new(ErrorCode::Conflict, "an owner leaves with group_leave"));
    }
    let removed = core.reader.user(user).await?;
    let removed = removed.ok_or_else(|| ServiceError::not_found(format!("there is no user {user}")))?;
    change(core, user, removed.name, conversation, MessageKind::Leave).await?;
    Ok(ServerFrame::Ok { id })
}

/// Looks for groups by the beginning of their names.
pub(crate) async fn find(core: &Core, id: Option<RequestId>, name: &str) -> Result<ServerFrame, ServiceError> {
    let prefix = text("name", name, 1, MAX_NAME_CHARS)?;
    let found = core.store.group_find(prefix, MAX_FOUND).await?;
    let view =
        |Group { conversation, name, description, members, .. }| GroupView { conversation, name, description, members };
    Ok(ServerFrame::Groups { id, groups: found.into_iter().map(view).collect() })
}

/// Lists members.
pub(crate) async fn members(
    core: &Core,
    session: &Arc<LocalSession>,
    id: Option<RequestId>,
    conversation: ConversationId,
    after: Option<UserId>,
    limit: Option<u64>,
) -> Result<ServerFrame, ServiceError> {
    if core.store.memberships_in(&[conversation], &[session.user]).await?.is_empty() {
        return Err(ServiceError::not_member());
    }
    let limit = page_limit(limit);
    let mut found = core.store.group_members(conversation, after, limit + 1).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let view = |Member { user, name, role, online, delivered, read }| MemberView {
        user,
        name: name.into(),
        role,
        online,
        delivered,
        read,
    };
    Ok(ServerFrame::Members { id, conversation, members: found.into_iter().map(view).collect(), more })
}

fn no_group() -> ServiceError {
    ServiceError::not_found("there is no such group")
}

async fn change(
    core: &Core,
    sender: UserId,
    name: Name,
    conversation: ConversationId,
    kind: MessageKind,
) -> Result<Posted, ServiceError> {
    let (caller, answer) = oneshot::channel();
    let post = Post {
        sender,
        name,
        key: Key::new(&format!("membership-{:032x}", rand::random::<u128>())).expect("43 bytes"),
        target: SendTarget::Conversation { conversation },
        kind,
        body: String::new(),
        answer: Answer::Caller(caller),
    };
    core.appender.post(post).await.map_err(|_| ServiceError::stopping())?;
    answer.await.map_err(|_| ServiceError::stopping())?
}

fn text<'a>(field: &str, text: &'a str, least: usize, most: usize) -> Result<&'a str, ServiceError> {
    let text = text.trim();
    let count = text.chars().count();
    if (least..=most).contains(&count) && !text.chars().any(char::is_control) {
        Ok(text)
    } else {
        let message = format!("`{field}`: {least} to {most} characters without control characters");
        Err(ServiceError::new(ErrorCode::BadFrame, message))
    }
}

fn frame(id: Option<RequestId>, group: Group) -> ServerFrame {
    let Group { conversation, name, description, head, members, .. } = group;
    ServerFrame::Group { id, conversation, name, description, head, members }
}
