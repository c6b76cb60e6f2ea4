//! Compares timelines with the heads in the log.

use std::collections::HashSet;

use metrics::counter;
use tokio::time::{Duration, Instant};

use super::subscriptions::Address;
use super::timelines::MAX_PATIENCE;
use crate::model::store::{Head, StoreError};
use crate::model::{ConversationId, ConversationKind, Millis, Seq, UserId};
use crate::server::core::Core;
use crate::telemetry;

/// A transaction that stamped its heads before the last sweep began may have committed after it: look back this far, in
/// milliseconds ...
const OVERLAP: Millis = 500;
/// ... and now and then as far as an append transaction can last at all.
const LONG_OVERLAP: Millis = 5_000;
const LONG_EVERY: Duration = Duration::from_secs(2);

/// However many are wanted, sweeps begin at least this far apart.
const APART: Duration = Duration::from_millis(100);

/// Knows since when the log has not been looked at.
#[derive(Debug)]
pub(super) struct Sweeper {
    /// The database's clock at the start of the last sweep that succeeded.
    since: Millis,
    long_due: Instant,
    next: Instant,
    /// What an audit found behind its head, and when it is certain that the bus does not bring it.
    suspects: Vec<Head>,
    suspects_due: Option<Instant>,
    /// The bus was to bring them: while the log carries messages, an audit only comes before the next sweep.
    suspects_by_bus: bool,
    /// Whose sessions the last audit found in conversations that they are not in.
    strays: HashSet<(UserId, ConversationId)>,
}

impl Sweeper {
    /// Makes a sweeper for a node that started at this time of the database's clock.
    pub(super) fn new(since: Millis) -> Self {
        let now = Instant::now();
        Self {
            since,
            long_due: now,
            next: now,
            suspects: Vec::new(),
            suspects_due: None,
            suspects_by_bus: true,
            strays: HashSet::new(),
        }
    }

    /// Tells whether the last sweep is long enough ago.
    pub(super) fn ready(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Returns when the next sweep may begin.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Marks what has changed since the last sweep, or since an earlier time, and is not in its timeline.
    pub(super) async fn sweep(&mut self, core: &Core, since: Millis) -> Result<(), StoreError> {
        self.next = Instant::now() + APART;
        let long = Instant::now() >= self.long_due;
        let from = self.since.min(since) - if long { LONG_OVERLAP } else { OVERLAP };
        let changes = core.store.changes(from).await?;
        counter!(telemetry::SWEEPS).increment(1);
        for head in behind(core, &changes.heads).await? {
            core.timelines.due(head.conversation);
        }
        for (conversation, user) in changes.members {
            if core.locals.lacking(user, conversation) != (0, 0) {
                core.repairs.adopt_users(conversation, [user]);
            }
        }
        self.since = changes.at;
        if long {
            self.long_due = Instant::now() + LONG_EVERY;
        }
        Ok(())
    }

    /// Takes what an audit that began at this time of the database's clock found behind: most of it is only on its way.
    pub(super) fn audited(&mut self, core: &Core, at: Millis, behind: Vec<Head>) {
        self.since = self.since.max(at);
        self.suspects_by_bus = !core.repairs.carried_by_log();
        if !behind.is_empty() {
            self.suspects.extend(behind);
            self.suspects_due = Some(Instant::now() + MAX_PATIENCE);
        }
    }

    /// Takes whom an audit found where they are not members. Returns those who were there in the audit before, too.
    pub(super) fn still_astray(
        &mut self,
        found: HashSet<(UserId, ConversationId)>,
    ) -> HashSet<(UserId, ConversationId)> {
        let before = std::mem::replace(&mut self.strays, found);
        before.intersection(&self.strays).copied().collect()
    }

    /// Returns when to judge what the last audit found.
    pub(super) fn suspects_due(&self) -> Option<Instant> {
        self.suspects_due
    }

    /// Marks what the last audit found behind and what still is.
    pub(super) fn judge_suspects(&mut self, core: &Core) {
        if self.suspects_due.is_none_or(|due| Instant::now() < due) {
            return;
        }
        self.suspects_due = None;
        let still_behind = |suspect: &Head| {
            core.timelines.position(suspect.conversation).is_some_and(|position| position < suspect.head)
        };
        let lost: Vec<Head> = self.suspects.drain(..).filter(still_behind).collect();
        if !lost.is_empty() && self.suspects_by_bus && !core.repairs.carried_by_log() {
            tracing::warn!(conversations = lost.len(), "an audit found messages that nothing else had brought");
            counter!(telemetry::AUDIT_REPAIRED).increment(lost.len() as u64);
        }
        for suspect in &lost {
            core.timelines.due(suspect.conversation);
            renew_subjects(core, suspect);
        }
    }
}

/// Has the subjects subscribed anew on which a conversation should have been heard.
fn renew_subjects(core: &Core, suspect: &Head) {
    let addresses = match suspect.kind {
        _ if !core.subscriptions.per_user() => vec![Address::Inbox],
        ConversationKind::Group => vec![Address::Group(suspect.conversation)],
        ConversationKind::Direct => core.timelines.users(suspect.conversation).into_iter().map(Address::User).collect(),
    };
    addresses.into_iter().for_each(|address| core.subscriptions.renew(address, core.lease.database_now()));
}

/// Returns the heads that their timelines have not reached. Closes the sessions of timelines that are further: their
/// log went back.
pub(super) async fn behind(core: &Core, heads: &[Head]) -> Result<Vec<Head>, StoreError> {
    // What this node committed itself before the heads were read is in its timeline after this.
    core.commits.settled().await;
    let mut behind = Vec::new();
    let mut ahead: Vec<(ConversationId, Seq)> = Vec::new();
    for &head in heads {
        match core.timelines.position(head.conversation) {
            Some(position) if position < head.head => behind.push(head),
            Some(position) if position > head.head => ahead.push((head.conversation, position)),
            Some(_) => {}
            // A login may be about to begin it with what it read before.
            None => core.timelines.due(head.conversation),
        }
    }
    if !ahead.is_empty() {
        went_back(core, &ahead).await?;
    }
    Ok(behind)
}

/// Looks again at timelines that seemed further than their heads: usually a commit came between the two readings.
async fn went_back(core: &Core, ahead: &[(ConversationId, Seq)]) -> Result<(), StoreError> {
    let conversations: Vec<ConversationId> = ahead.iter().map(|(conversation, _)| *conversation).collect();
    let heads = core.store.heads(&conversations).await?;
    for &(conversation, position) in ahead {
        let head = heads.iter().find(|head| head.conversation == conversation).map_or(0, |head| head.head);
        if head < position {
            tracing::error!(%conversation, position, head, "the log went back: the database lost commits it had confirmed");
            core.timelines.reset(conversation);
        }
    }
    Ok(())
}
