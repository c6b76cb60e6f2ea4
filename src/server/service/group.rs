use std::sync::Arc;

use tokio::sync::oneshot;

use super::error::ServiceError;
use crate::model::{ConversationId, Group, Key, MessageKind};
use crate::protocol::{ErrorCode, RequestId, SendTarget, ServerFrame};
use crate::server::core::Core;
use crate::server::flow::{Answer, LocalSession, Post, Posted};

/// The longest name of a group, and what may be said of it, in characters.
const MAX_NAME_CHARS: usize = 64;
const MAX_DESCRIPTION_CHARS: usize = 512;

/// Makes a group whose owner is its only member.
pub(crate) async fn create(
    core: &Core,
    session: &Arc<LocalSession>,
    id: Option<RequestId>,
    name: &str,
    description: &str,
) -> Result<ServerFrame, ServiceError> {
    let name = text("name", name, 1, MAX_NAME_CHARS)?;
    let description = text("description", description, 0, MAX_DESCRIPTION_CHARS)?;
    let group = core.store.group_create(session.user, name, description).await?;
    if core.timelines.attach(group.conversation, session, None) {
        session.outbox.fall_behind(group.conversation, group.head + 1);
    }
    core.repairs.adopt_users(group.conversation, [session.user]);
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
    let joined = change(core, session, conversation, MessageKind::Join).await;
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
    let mut group = found.ok_or_else(|| ServiceError::not_found("there is no such group"))?;
    if joined_seq > 0 {
        // Live messages begin above the join, whatever has been said since.
        group.head = joined_seq;
    }
    Ok(frame(id, group))
}

/// Ends a user's membership. The sessions of the user get the leave entry and nothing after it.
pub(crate) async fn leave(
    core: &Core,
    session: &Arc<LocalSession>,
    id: Option<RequestId>,
    conversation: ConversationId,
) -> Result<ServerFrame, ServiceError> {
    change(core, session, conversation, MessageKind::Leave).await?;
    Ok(ServerFrame::Ok { id })
}

async fn change(
    core: &Core,
    session: &Arc<LocalSession>,
    conversation: ConversationId,
    kind: MessageKind,
) -> Result<Posted, ServiceError> {
    let (caller, answer) = oneshot::channel();
    let post = Post {
        sender: session.user,
        name: session.name.clone(),
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
