//! The message path against its interleavings: what one user sees must be what the log holds, whatever comes late,
//! twice, out of order or not at all.

mod delivery;
mod leaving;
mod reading;
mod sweeps;
mod timelines;

/// Whatever carries a message, its path is held to the same.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "the same tests, in another routing")]
mod per_user {
    use super::*;

    const ROUTING: Routing = Routing::PerUser;

    mod path;
    mod repair;
    mod routing;
    mod subjects;
}

#[path = "."]
#[allow(clippy::duplicate_mod, reason = "the same tests, in another routing")]
mod per_node {
    use super::*;

    const ROUTING: Routing = Routing::PerNode;

    mod path;
    mod repair;
    mod routing;
}

use std::sync::Arc;

use bytes::Bytes;

use super::local::{LocalSession, SessionNumber};
use super::timeline::Entry;
use crate::bus::Routing;
use crate::model::{ConversationId, MessageKind, Name, Seq, UserId};
use crate::server::front::Outbox;

fn conversation(number: u64) -> ConversationId {
    ConversationId::new(number).unwrap()
}

fn user(number: u64) -> UserId {
    UserId::new(number).unwrap()
}

/// A session whose outbox holds `limit` bytes.
fn session(number: SessionNumber, of: u64, limit: usize) -> Arc<LocalSession> {
    let outbox = Arc::new(Outbox::new(limit));
    Arc::new(LocalSession::new(number, user(of), Name::new(&format!("user-{of}")).unwrap(), 0, outbox))
}

/// A text that says where it belongs.
fn entry(conversation: ConversationId, seq: Seq) -> Entry {
    change(conversation, seq, MessageKind::Text, user(99))
}

fn change(conversation: ConversationId, seq: Seq, kind: MessageKind, from: UserId) -> Entry {
    Entry { seq, from, kind, frame: Bytes::from(format!("{conversation} {seq} {:>10}\n", "")) }
}

/// Writes what waits for a session, at most so many frames, and returns it as (conversation, seq).
fn written(session: &LocalSession, frames: usize) -> Vec<(u64, Seq)> {
    let mut taken = std::collections::VecDeque::new();
    session.outbox.take(&mut taken, frames, usize::MAX);
    session.outbox.written(taken.iter().map(Bytes::len).sum());
    let place = |frame: &Bytes| {
        let text = std::str::from_utf8(frame).unwrap();
        let mut words = text.split_ascii_whitespace().map(|word| word.parse().unwrap());
        (words.next().unwrap(), words.next().unwrap())
    };
    taken.iter().map(place).collect()
}
