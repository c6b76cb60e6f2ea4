//! What becomes of each entry of a batch, decided in memory from what the log holds, as if the entries came one after
//! the other.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::model::store::{Append, Outcome};
use crate::model::{ConversationId, ConversationKind, Key, MessageKind, Millis, Seq, UserId};

/// A place in a conversation's membership.
pub(super) type Seat = (ConversationId, UserId);

/// What the log holds about a batch, read under its lock.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// The database's clock.
    pub(super) at: Millis,
    /// Kind and head of each conversation that exists.
    pub(super) conversations: HashMap<ConversationId, (ConversationKind, Seq)>,
    /// Those (conversation, sender) of the batch that are no member.
    pub(super) outsiders: HashSet<Seat>,
    /// Those who want to join and are no user.
    pub(super) strangers: HashSet<UserId>,
    /// Those (conversation, sender) of the batch whom the other user of a direct conversation has blocked.
    pub(super) blocked: HashSet<Seat>,
    /// Those, of the ones with an entry for friends only and not blocked, who are no friend of that other user.
    pub(super) friendless: HashSet<Seat>,
    /// The entries that have a (sender, key) of the batch already.
    pub(super) taken: HashMap<(UserId, Key), Taken>,
}

/// An entry of the log whose key a batch uses again.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) conversation: ConversationId,
    pub(super) seq: Seq,
    pub(super) kind: MessageKind,
    pub(super) body: String,
    pub(super) at: Millis,
}

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// One per entry.
    pub(super) outcomes: Vec<Outcome>,
    /// The entries to insert, by their place in the batch, and the seq of each.
    pub(super) rows: Vec<(usize, Seq)>,
    /// The new heads.
    pub(super) heads: BTreeMap<ConversationId, Seq>,
    /// Who has written, and their last seq.
    pub(super) read: BTreeMap<Seat, Seq>,
    /// Everybody who joined or left: the seq they have joined at, when they are a member in the end.
    pub(super) moved: BTreeMap<Seat, Option<Seq>>,
    /// Everybody who left, whether they came back or not.
    pub(super) left: HashSet<Seat>,
}

impl Plan {
    /// Decides about a batch.
    pub(super) fn resolve(entries: &[Append], mut log: Snapshot) -> Self {
        let mut plan = Self::default();
        let mut stored_here: HashMap<(UserId, &str), (usize, Seq)> = HashMap::new();
        for (place, entry) in entries.iter().enumerate() {
            let earlier = stored_here.get(&(entry.sender, entry.key.as_str()));
            let outcome = if let Some((first, seq)) = earlier {
                let first = &entries[*first];
                let same = first.conversation == entry.conversation && first.kind == entry.kind;
                repeat(same && first.body == entry.body, *seq, log.at)
            } else if let Some(taken) = log.taken.get(&(entry.sender, entry.key.clone())) {
                let same = taken.conversation == entry.conversation && taken.kind == entry.kind;
                repeat(same && taken.body == entry.body, taken.seq, taken.at)
            } else {
                plan.admit(entry, &mut log)
            };
            if let Outcome::Stored { seq, .. } = outcome {
                stored_here.insert((entry.sender, entry.key.as_str()), (place, seq));
                plan.rows.push((place, seq));
            }
            plan.outcomes.push(outcome);
        }
        plan
    }

    fn admit(&mut self, entry: &Append, log: &mut Snapshot) -> Outcome {
        let seat = (entry.conversation, entry.sender);
        let Some((kind, head)) = log.conversations.get_mut(&entry.conversation) else { return Outcome::NotFound };
        let is_member = !log.outsiders.contains(&seat);
        match entry.kind {
            MessageKind::Join | MessageKind::Leave if *kind == ConversationKind::Direct => return Outcome::NotFound,
            MessageKind::Join if log.strangers.contains(&entry.sender) => return Outcome::NotFound,
            MessageKind::Join if is_member => return Outcome::AlreadyMember,
            MessageKind::Text | MessageKind::Leave if !is_member => return Outcome::NotMember,
            MessageKind::Text if log.blocked.contains(&seat) => return Outcome::Forbidden,
            MessageKind::Text if entry.friends_only && log.friendless.contains(&seat) => return Outcome::Forbidden,
            _ => {}
        }
        *head += 1;
        let seq = *head;
        self.heads.insert(entry.conversation, seq);
        match entry.kind {
            MessageKind::Text => {
                self.read.insert(seat, seq);
            }
            MessageKind::Join => {
                log.outsiders.remove(&seat);
                self.moved.insert(seat, Some(seq));
            }
            MessageKind::Leave => {
                log.outsiders.insert(seat);
                self.moved.insert(seat, None);
                self.left.insert(seat);
            }
        }
        Outcome::Stored { seq, at: log.at }
    }
}

fn repeat(same: bool, seq: Seq, at: Millis) -> Outcome {
    if same { Outcome::Repeat { seq, at } } else { Outcome::Conflict }
}
