//! Puts sessions into the timeline of a conversation that is new to their user.

use std::collections::{HashMap, HashSet};

use super::repair::Newcomers;
use super::timeline::Adoption;
use crate::model::store::StoreError;
use crate::model::{ConversationId, ConversationKind, UserId};
use crate::protocol::{ConversationView, ServerFrame};
use crate::server::core::Core;

/// Attaches the sessions of new members. Each catches up from its user's `joined_seq` by itself.
pub(super) async fn adopt(core: &Core, newcomers: &HashMap<ConversationId, Newcomers>) -> Result<(), StoreError> {
    let mut users: HashSet<UserId> = HashSet::new();
    for wanted in newcomers.values() {
        match wanted {
            Newcomers::Users(named) => users.extend(named.iter().filter(|user| core.locals.has(**user))),
            Newcomers::Anybody => users.extend(core.locals.users()),
        }
    }
    if users.is_empty() {
        return Ok(());
    }
    let conversations: Vec<ConversationId> = newcomers.keys().copied().collect();
    let users: Vec<UserId> = users.into_iter().collect();
    for membership in core.store.memberships_in(&conversations, &users).await? {
        let (conversation, from) = (membership.conversation, membership.joined_seq + 1);
        for session in core.locals.of(membership.user) {
            if session.note_born(conversation) {
                continue;
            }
            let view: ConversationView = membership.clone().into();
            // A group is news at once; a direct conversation when it has a message for this session.
            let at_once = view.kind == ConversationKind::Group && session.is_welcomed();
            let later = (!at_once).then(|| Box::new(view.clone()));
            let adoption = Adoption { joined_seq: membership.joined_seq, news: later };
            if core.timelines.attach(conversation, &session, Some(adoption)) {
                if at_once {
                    session.outbox.reply(&ServerFrame::Conversation(view));
                }
                session.outbox.fall_behind(conversation, from);
            }
        }
        if membership.kind == ConversationKind::Group
            && let Some(hold) = core.subscriptions.group(conversation, core.lease.database_now())
        {
            core.timelines.keep(conversation, hold);
        }
    }
    // Read again now that they are attached: the head gives a new timeline its position. Whoever left meanwhile goes
    // with the leave, which they find in the log or which is on its way.
    for membership in core.store.memberships_in(&conversations, &users).await? {
        core.timelines.begin(membership.conversation, membership.head);
    }
    Ok(())
}
