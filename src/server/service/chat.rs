use std::sync::Arc;
use std::time::Duration;

use super::error::ServiceError;
use crate::model::store::{History, Page};
use crate::model::{ConversationId, Key, Message, MessageKind, Seq, UserId};
use crate::protocol::{ConversationView, ErrorCode, MAX_SERVER_FRAME, RequestId, SendTarget, ServerFrame};
use crate::server::core::Core;
use crate::server::flow::{Answer, LocalSession, Notice, Post, notify};

/// How many entries of a conversation, or conversations, one reply shows.
const DEFAULT_LIMIT: u64 = 50;
const MAX_LIMIT: u64 = 200;

/// A session is said to be typing at most this often.
const TYPING_EVERY: Duration = Duration::from_secs(1);

/// What became of a message that was given to the appender.
#[derive(Debug)]
pub(crate) enum Sending {
    /// It is on its way to the log; the answer comes from there.
    Queued,
    /// The appender's queue is full: give it again with [`Core`]'s appender, which waits.
    Full(Post),
}

/// Gives a message to the appender, without waiting.
pub(crate) fn send(
    core: &Core,
    session: &Arc<LocalSession>,
    id: Option<RequestId>,
    key: Key,
    target: SendTarget,
    body: String,
) -> Result<Sending, ServiceError> {
    if target == (SendTarget::User { to: session.user }) {
        return Err(ServiceError::new(ErrorCode::Conflict, "a message goes to somebody else"));
    }
    session.outbox.promise();
    let answer = Answer::Session(Arc::clone(session), id);
    let (sender, name, kind) = (session.user, session.name.clone(), MessageKind::Text);
    let post = Post { sender, name, key, target, kind, body, answer };
    Ok(match core.appender.try_post(post) {
        Ok(()) => Sending::Queued,
        Err(post) => Sending::Full(post),
    })
}

/// Takes a confirmation that everything up to `seq` has arrived. Conversations that the user is not in are ignored.
pub(crate) fn received(core: &Core, session: &LocalSession, conversation: ConversationId, seq: Seq) {
    if core.timelines.holds_user(conversation, session.user) {
        core.cursors.received(conversation, session.user, seq);
    }
}

/// Takes a confirmation that everything up to `seq` has been read.
pub(crate) fn read(core: &Core, session: &LocalSession, conversation: ConversationId, seq: Seq) {
    if core.timelines.holds_user(conversation, session.user) {
        core.cursors.read(conversation, session.user, seq);
    }
}

/// Tells the other members that a user writes; dropped when it was said a moment ago.
pub(crate) fn typing(core: &Core, session: &LocalSession, conversation: ConversationId) {
    if core.timelines.holds_user(conversation, session.user) && session.may_type(TYPING_EVERY) {
        let user = session.user;
        let frame = ServerFrame::Typing { conversation, user };
        notify(core, vec![Notice::conversation(conversation, Some(user), &frame)], None);
    }
}

/// Reads a page of a conversation.
pub(crate) async fn history(
    core: &Core,
    user: UserId,
    id: Option<RequestId>,
    conversation: ConversationId,
    (before, after): (Option<Seq>, Option<Seq>),
    limit: Option<u64>,
) -> Result<ServerFrame, ServiceError> {
    let page = match (before, after) {
        (Some(before), _) => Page::Before(before),
        (None, Some(after)) => Page::After(after),
        (None, None) => Page::Newest,
    };
    let limit = page_limit(limit);
    let history = core.store.history(user, conversation, page, limit).await?;
    let History { messages, more } = history.ok_or_else(ServiceError::not_member)?;
    let (messages, cut) = fit(messages, page);
    Ok(ServerFrame::History { id, conversation, messages, more: more || cut })
}

/// Keeps what fits into one frame, beginning where the page does, and tells whether anything was cut off.
fn fit(mut messages: Vec<Message>, page: Page) -> (Vec<Message>, bool) {
    let room = MAX_SERVER_FRAME - 1024;
    let mut bytes = 0;
    let mut fits = |message: &&Message| {
        // The comma between two of them is the one byte more.
        bytes += serde_json::to_vec(message).map_or(0, |json| json.len() + 1);
        bytes <= room
    };
    let all = messages.len();
    match page {
        Page::After(_) => {
            let kept = messages.iter().take_while(&mut fits).count();
            messages.truncate(kept);
        }
        Page::Newest | Page::Before(_) => {
            let kept = messages.iter().rev().take_while(&mut fits).count();
            messages.drain(..all - kept);
        }
    }
    let cut = messages.len() < all;
    (messages, cut)
}

/// Returns how many entries a reply shows.
pub(super) fn page_limit(asked: Option<u64>) -> usize {
    asked.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT) as usize
}

/// Reads a page of a user's list of conversations.
pub(crate) async fn conversations(
    core: &Core,
    user: UserId,
    id: Option<RequestId>,
    before: Option<ConversationId>,
    limit: Option<u64>,
) -> Result<ServerFrame, ServiceError> {
    let limit = page_limit(limit);
    let memberships = core.store.memberships(&[user], before, limit + 1).await?;
    let more = memberships.len() > limit;
    let conversations: Vec<ConversationView> = memberships.into_iter().take(limit).map(Into::into).collect();
    Ok(ServerFrame::Conversations { id, conversations, more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    #[test]
    fn a_page_that_does_not_fit_keeps_the_end_it_was_asked_from() {
        let message = |seq: Seq| Message {
            conversation: ConversationId::new(1).unwrap(),
            seq,
            from: UserId::new(1).unwrap(),
            name: Name::new("alice").unwrap(),
            key: Key::new("k").unwrap(),
            kind: MessageKind::Text,
            body: "\u{1}".repeat(60_000),
            at: 0,
        };
        let messages: Vec<Message> = (1..=5).map(message).collect();
        let seqs = |page| {
            let (kept, cut) = fit(messages.clone(), page);
            (kept.iter().map(|message| message.seq).collect::<Vec<_>>(), cut)
        };
        assert_eq!(seqs(Page::After(0)), (vec![1, 2], true), "six bytes of JSON for each byte");
        assert_eq!(seqs(Page::Before(6)), (vec![4, 5], true));
        assert!(!fit(messages[..1].to_vec(), Page::Newest).1);
    }
}
