//! What a batch of entries asks the log before it is written, as columns, and what the log answers.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::store::decode::{
    Cells, conversation, conversation_kind, integer, message_kind, number, seq, text, user_id,
};
use crate::model::store::resolve::{Snapshot, Taken};
use crate::model::store::{Append, StoreError};
use crate::model::{ConversationId, Key, MessageKind, UserId};

/// The distinct (conversation, sender) of a batch, and whether one of their entries is for friends only.
#[derive(Debug, Default)]
pub(in crate::model::store) struct Seats {
    pub(in crate::model::store) conversations: Vec<i64>,
    pub(in crate::model::store) senders: Vec<i64>,
    pub(in crate::model::store) friends_only: Vec<bool>,
}

impl Seats {
    pub(in crate::model::store) fn of(entries: &[Append]) -> Self {
        let mut all: BTreeMap<(ConversationId, UserId), bool> = BTreeMap::new();
        for entry in entries {
            *all.entry((entry.conversation, entry.sender)).or_default() |= entry.friends_only;
        }
        let mut seats = Self::default();
        for ((conversation, sender), friends_only) in all {
            seats.conversations.push(conversation.get().cast_signed());
            seats.senders.push(sender.get().cast_signed());
            seats.friends_only.push(friends_only);
        }
        seats
    }
}

/// The distinct (sender, key) of a batch, ascending.
#[derive(Debug)]
pub(in crate::model::store) struct Keys<'a>(pub(in crate::model::store) Vec<(UserId, &'a Key)>);

impl<'a> Keys<'a> {
    pub(in crate::model::store) fn of(entries: &'a [Append]) -> Self {
        let all: BTreeSet<(UserId, &Key)> = entries.iter().map(|entry| (entry.sender, &entry.key)).collect();
        Self(all.into_iter().collect())
    }
}

/// Returns the conversations of a batch, ascending: the order in which they are locked.
pub(in crate::model::store) fn conversations(entries: &[Append]) -> Vec<i64> {
    let all: BTreeSet<i64> = entries.iter().map(|entry| entry.conversation.get().cast_signed()).collect();
    all.into_iter().collect()
}

/// Returns those who want to join.
pub(in crate::model::store) fn joiners(entries: &[Append]) -> Vec<i64> {
    let joins = entries.iter().filter(|entry| entry.kind == MessageKind::Join);
    let all: BTreeSet<i64> = joins.map(|entry| entry.sender.get().cast_signed()).collect();
    all.into_iter().collect()
}

// What a row of the answer is.
const CLOCK: i64 = 0;
const OUTSIDER: i64 = 1;
const TAKEN: i64 = 2;
const STRANGER: i64 = 3;
const BLOCKED: i64 = 4;
const FRIENDLESS: i64 = 5;

/// Reads the locked heads (id, kind, head), and the answer: what a row is, its place from 1 in the seats or the keys (a
/// user's id for a stranger), then of an entry that is there already conversation, seq, kind, time (of the clock too)
/// and body.
pub(in crate::model::store) fn snapshot<R: Cells>(
    heads: &[R],
    answer: &[R],
    seats: &Seats,
    keys: &Keys<'_>,
) -> Result<Snapshot, StoreError> {
    let mut snapshot = Snapshot::default();
    for row in heads {
        snapshot.conversations.insert(conversation(row, 0)?, (conversation_kind(row, 1)?, seq(row, 2)?));
    }
    for row in answer {
        let what = integer(row, 0)?;
        match what {
            CLOCK => snapshot.at = integer(row, 5)?,
            TAKEN => {
                let (sender, key) = keys.0[number::<usize>(row, 1)? - 1];
                let taken = Taken {
                    conversation: conversation(row, 2)?,
                    seq: seq(row, 3)?,
                    kind: message_kind(row, 4)?,
                    at: integer(row, 5)?,
                    body: text(row, 6)?,
                };
                snapshot.taken.insert((sender, key.clone()), taken);
            }
            STRANGER => {
                snapshot.strangers.insert(user_id(integer(row, 1)?)?);
            }
            _ => {
                let place = number::<usize>(row, 1)? - 1;
                let conversation = crate::model::store::decode::conversation_id(seats.conversations[place])?;
                let seat = (conversation, user_id(seats.senders[place])?);
                match what {
                    OUTSIDER => snapshot.outsiders.insert(seat),
                    BLOCKED => snapshot.blocked.insert(seat),
                    FRIENDLESS => snapshot.friendless.insert(seat),
                    other => return Err(crate::model::store::decode::broken(format_args!("an answer {other}"))),
                };
            }
        }
    }
    Ok(snapshot)
}
