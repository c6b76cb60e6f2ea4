//! The one sound order of a login: presence is committed and the user's subject heard > the session is registered > its
//! conversations are listed > its groups are heard > it is in their timelines, buffering > the log is read > what was
//! missed is sent > the buffers are released. Any other order loses or repeats a message.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::time::{Instant, timeout};

use super::account::authenticate;
use super::error::ServiceError;
use super::friend;
use super::picture::picture;
use crate::model::store::{NodeState, Range, StoreError};
use crate::model::{ConversationId, ConversationKind, Membership, Seq};
use crate::protocol::{
    CloseReason, ErrorCode, FriendRequestView, FriendView, Login, MemberMore, RequestId, ServerFrame,
};
use crate::server::core::Core;
use crate::server::flow::{Entry, Hold, LocalSession, PageSize, Release, come_back};
use crate::server::front::Outbox;
use crate::telemetry;

/// How many conversations `welcome` shows.
const WELCOME_CONVERSATIONS: usize = 200;

/// How many missed messages of one conversation a login sends; the client pages the rest.
const MISSED_PER_CONVERSATION: Seq = 1_000;

/// How long a login waits for the log.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a login waits for the bus, in all.
const BUS_PATIENCE: Duration = Duration::from_secs(1);

/// A logged-in user's place in the node. Dropping it, in whatever way the session ends, takes the session out of
/// everything.
#[derive(Debug)]
pub(crate) struct Member {
    core: Arc<Core>,
    session: Arc<LocalSession>,
    /// Keeps the user's subject subscribed.
    heard: Option<Hold>,
}

/// Why a login did not make a member.
#[derive(Debug)]
pub(crate) enum LoginFailure {
    /// The request is answered with an error.
    Refused(ServiceError),
    /// The connection is closed.
    Closed(CloseReason),
    /// The node lets go of its sessions.
    SentAway,
}

impl From<ServiceError> for LoginFailure {
    fn from(error: ServiceError) -> Self {
        Self::Refused(error)
    }
}

impl Member {
    /// Returns the session as the message path knows it.
    pub(crate) fn session(&self) -> &Arc<LocalSession> {
        &self.session
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.core.locals.remove(&self.session);
        self.core.timelines.end(&self.session);
        self.core.presence.depart(self.session.user);
        gauge!(telemetry::SESSIONS).decrement(1);
    }
}

/// Logs a user in: authenticates, sends `welcome`, what was missed and `caught_up`, and leaves the session live.
pub(crate) async fn login(
    core: &Arc<Core>,
    outbox: &Arc<Outbox>,
    id: Option<RequestId>,
    mut request: Login,
) -> Result<Member, LoginFailure> {
    let since = std::mem::take(&mut request.since);
    let user = authenticate(core, request).await?;
    let session =
        Arc::new(LocalSession::new(core.next_session(), user.id, user.name, user.token_version, Arc::clone(outbox)));
    if !core.locals.insert(&session, core.limits.sessions_per_user) {
        return Err(LoginFailure::Closed(CloseReason::TooManySessions));
    }
    let committed = core.presence.arrive(user.id);
    // At the same time: neither can be missing once the log is read.
    let heard = core.subscriptions.user(user.id, core.lease.database_now());
    let member = Member { core: Arc::clone(core), session, heard };
    gauge!(telemetry::SESSIONS).increment(1);
    // Whoever is not among the sessions that a stopping node sends away sees here that it stops.
    if core.lease.state() == NodeState::Draining {
        return Err(LoginFailure::SentAway);
    }
    let unavailable = || ServiceError::new(ErrorCode::Unavailable, "the log does not answer, try again");
    timeout(PATIENCE, committed).await.map_err(|_| unavailable())?;
    let until = Instant::now() + BUS_PATIENCE;
    core.subscriptions.effective(&member.heard, until).await;
    member.heard.iter().for_each(Hold::settle);
    let memberships = enter(core, &member.session, until).await?;
    let (friends, requests) = friend::views(core.reader.friends(user.id).await?);
    welcome(core, &member.session, id, &memberships, friends);
    let missed = Missed::of(&memberships, &since);
    if let Err(error) = missed.send(core, outbox).await {
        tracing::warn!(%error, user = %user.id, "a login could not read what was missed");
        return Err(LoginFailure::Closed(CloseReason::Shutdown));
    }
    outbox.reply(&ServerFrame::CaughtUp { more: missed.more });
    for membership in &memberships {
        let (conversation, head) = (membership.conversation, membership.head);
        match core.timelines.release(conversation, member.session.number, head) {
            Release::Live => {}
            Release::Again => outbox.fall_behind(conversation, head + 1),
            Release::Gone => come_back(core, &member.session, conversation),
        }
    }
    for FriendRequestView { user, name } in requests {
        outbox.reply(&ServerFrame::FriendRequest { user, name });
    }
    if core.health.welcome(&member.session) {
        picture(core, &member.session).await?;
    }
    counter!(telemetry::LOGINS).increment(1);
    Ok(member)
}

/// Puts the session into the timelines of its conversations and reads, after that, where these stand.
async fn enter(core: &Core, session: &Arc<LocalSession>, until: Instant) -> Result<Vec<Membership>, ServiceError> {
    let heads = core.reader.conversations_of(session.user).await?;
    let groups = heads.iter().filter(|head| head.kind == ConversationKind::Group).map(|head| head.conversation);
    let now = core.lease.database_now();
    let (groups, holds): (Vec<ConversationId>, Vec<Hold>) =
        groups.filter_map(|group| Some((group, core.subscriptions.group(group, now)?))).unzip();
    core.subscriptions.effective(&holds, until).await;
    let listed: HashSet<ConversationId> = heads.into_iter().map(|head| head.conversation).collect();
    for &conversation in &listed {
        core.timelines.attach(conversation, session, None);
    }
    groups.into_iter().zip(holds).for_each(|(group, hold)| core.timelines.keep(group, hold));
    let born = session.listed();
    let mut memberships = core.reader.memberships(session.user).await?;
    memberships.retain(|membership| listed.contains(&membership.conversation));
    let mut holes = false;
    for membership in &memberships {
        holes |= core.timelines.begin(membership.conversation, membership.head);
    }
    let still: HashSet<ConversationId> = memberships.iter().map(|membership| membership.conversation).collect();
    for &conversation in listed.difference(&still) {
        core.timelines.detach(conversation, session.number);
        // Unless they have come back meanwhile.
        core.repairs.adopt_users(conversation, [session.user]);
    }
    if holes {
        core.repairs.holes();
    }
    for conversation in born.into_iter().filter(|conversation| !still.contains(conversation)) {
        core.repairs.adopt_users(conversation, [session.user]);
    }
    Ok(memberships)
}

fn welcome(
    core: &Core,
    session: &LocalSession,
    id: Option<RequestId>,
    memberships: &[Membership],
    friends: Vec<FriendView>,
) {
    let shown = memberships.iter().take(WELCOME_CONVERSATIONS);
    session.outbox.reply(&ServerFrame::Welcome {
        id,
        user: session.user,
        name: session.name.to_string(),
        session: format!("{}.{}.{}", core.node, core.lease.epoch(), session.number),
        node: core.node.to_string(),
        token: core.tokens.issue(session.user, session.account()),
        friends,
        conversations: shown.map(|membership| membership.clone().into()).collect(),
    });
}

/// What a login has to send.
#[derive(Debug, Default)]
struct Missed {
    ranges: Vec<Range>,
    more: Vec<MemberMore>,
}

impl Missed {
    fn of(memberships: &[Membership], since: &BTreeMap<ConversationId, Seq>) -> Self {
        let mut missed = Self::default();
        for membership in memberships {
            let (conversation, head) = (membership.conversation, membership.head);
            let have = since.get(&conversation).copied().unwrap_or(membership.delivered);
            let after = have.max(membership.joined_seq).min(head);
            let until = head.min(after + MISSED_PER_CONVERSATION);
            if after < until {
                missed.ranges.push(Range { conversation, after, until });
            }
            if until < head {
                missed.more.push(MemberMore { conversation, next: until + 1, until: head });
            }
        }
        missed
    }

    /// Sends page by page, as fast as the client reads.
    async fn send(&self, core: &Core, outbox: &Outbox) -> Result<(), StoreError> {
        let mut ranges = self.ranges.clone();
        let mut page = PageSize::default();
        while !ranges.is_empty() {
            let asked = page.rows();
            let rows = core.store.messages(&ranges, asked).await?;
            page.learn(&rows);
            let last = rows.last().map(|message| (message.conversation, message.seq));
            let complete = rows.len() < asked;
            for message in rows {
                outbox.room().await;
                let (conversation, seq) = (message.conversation, message.seq);
                outbox.message_from_log(conversation, seq, Entry::encode(message).frame);
            }
            match last {
                Some((conversation, seq)) if !complete => {
                    let at = ranges.iter().position(|range| range.conversation == conversation).unwrap_or(0);
                    ranges.drain(..at);
                    ranges[0].after = seq;
                    ranges.retain(|range| range.after < range.until);
                }
                _ => ranges.clear(),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UserId;

    fn membership(joined_seq: Seq, delivered: Seq, head: Seq) -> Membership {
        let (user, conversation) = (UserId::new(1).unwrap(), ConversationId::new(1).unwrap());
        let kind = ConversationKind::Group;
        Membership { user, conversation, kind, name: String::new(), peer: None, head, joined_seq, delivered, read: 0 }
    }

    type Spans = Vec<(Seq, Seq)>;

    fn missed(membership: Membership, since: Option<Seq>) -> (Spans, Spans) {
        let since = since.map(|seq| (membership.conversation, seq)).into_iter().collect();
        let missed = Missed::of(&[membership], &since);
        let ranges = missed.ranges.iter().map(|range| (range.after, range.until)).collect();
        (ranges, missed.more.iter().map(|more| (more.next, more.until)).collect())
    }

    #[test]
    fn what_a_device_says_it_has_wins_over_the_cursor() {
        assert_eq!(missed(membership(0, 5, 9), None), (vec![(5, 9)], vec![]));
        assert_eq!(missed(membership(0, 5, 9), Some(2)), (vec![(2, 9)], vec![]));
        assert_eq!(missed(membership(0, 5, 9), Some(9)), (vec![], vec![]));
    }

    #[test]
    fn since_is_clamped_to_what_can_be() {
        assert_eq!(missed(membership(3, 0, 9), Some(1)), (vec![(3, 9)], vec![]), "below joined_seq");
        assert_eq!(missed(membership(3, 0, 9), Some(99)), (vec![], vec![]), "above the head");
    }

    #[test]
    fn beyond_the_oldest_thousand_the_client_pages() {
        assert_eq!(missed(membership(0, 0, 1_000), None), (vec![(0, 1_000)], vec![]));
        assert_eq!(missed(membership(0, 0, 2_500), Some(10)), (vec![(10, 1_010)], vec![(1_011, 2_500)]));
    }
}
