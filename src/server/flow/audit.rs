//! Compares all conversations of all local users with the log, whatever the clock says: a message that was accepted and
//! silently dropped, with nothing behind it in its conversation, is found by nothing else.

use std::collections::{HashMap, HashSet};

use super::subscriptions::Address;
use super::sweep::{Sweeper, behind};
use crate::model::store::{Head, StoreError, User};
use crate::model::{ConversationId, UserId};
use crate::protocol::CloseReason;
use crate::server::core::Core;
use crate::telemetry;
use metrics::counter;

/// Users per query.
const SLICE: usize = 500;

/// Runs one audit.
pub(super) async fn audit(core: &Core, sweeper: &mut Sweeper) -> Result<(), StoreError> {
    let started = core.store.now().await?;
    let (mut lost, mut missing, mut strays) = (Vec::new(), 0, HashSet::new());
    for slice in core.locals.users().chunks(SLICE) {
        revoke(core, slice).await?;
        // Sessions that come to be while this runs list their conversations themselves.
        let attached: Vec<(UserId, Vec<ConversationId>)> = slice
            .iter()
            .map(|&user| (user, core.locals.of(user).iter().flat_map(|s| s.conversations()).collect()))
            .collect();
        let listed = core.store.conversations_of(slice).await?;
        let heads: HashMap<ConversationId, Head> = listed.iter().map(|(_, head)| (head.conversation, *head)).collect();
        let heads: Vec<Head> = heads.into_values().collect();
        lost.extend(behind(core, &heads).await?);
        for (user, head) in &listed {
            let (listing, lacking) = core.locals.lacking(*user, head.conversation);
            if listing + lacking > 0 {
                if lacking > 0 {
                    missing += lacking as u64;
                    let address = if core.subscriptions.per_user() { Address::User(*user) } else { Address::Inbox };
                    core.subscriptions.renew(address, core.lease.database_now());
                }
                core.repairs.adopt_users(head.conversation, [*user]);
            }
        }
        let members: HashSet<_> = listed.iter().map(|(user, head)| (*user, head.conversation)).collect();
        for (user, conversations) in attached {
            for conversation in
                conversations.into_iter().filter(|conversation| !members.contains(&(user, *conversation)))
            {
                // The hole holds the leave, with which their sessions go.
                core.timelines.due(conversation);
                strays.insert((user, conversation));
            }
        }
    }
    // Nothing behind the leave is for them, and it has not come for half a minute.
    for (user, conversation) in sweeper.still_astray(strays) {
        core.timelines.detach_user(conversation, user);
    }
    if missing > 0 {
        tracing::warn!(missing, "an audit found sessions that were not in the timelines of their conversations");
        counter!(telemetry::AUDIT_REPAIRED).increment(missing);
    }
    sweeper.audited(core, started, lost);
    Ok(())
}

/// Closes the sessions of accounts that have changed since they logged in: their node was not told.
async fn revoke(core: &Core, users: &[UserId]) -> Result<(), StoreError> {
    for User { id, token_version, .. } in core.store.users(users).await? {
        for session in core.locals.of(id).iter().filter(|session| session.account() < token_version) {
            session.outbox.close(CloseReason::Revoked, 0, None);
        }
    }
    Ok(())
}
