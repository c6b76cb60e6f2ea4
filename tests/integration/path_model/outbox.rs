//! A session's outbox, and what its client sees: each message of others once, in order.

use super::Path;
use super::rules::Behind;
use super::scene::Said;
use super::state::{Seq, World, Wrong};

impl Path {
    /// Tells whether a session has sent a message itself.
    pub(super) fn is_own(&self, at: usize, seq: Seq) -> bool {
        at == 0 && self.scene.said[usize::from(seq) - 1] == Said::ByFirstSession
    }

    /// Queues a live message, or notes where the conversation fell behind.
    pub(super) fn live(&self, world: &mut World, at: usize, seq: Seq) {
        if world.sessions[at].behind.is_some() {
            return;
        }
        if !world.sessions[at].full {
            self.put(world, at, seq);
            return;
        }
        world.sessions[at].full = false;
        self.drop_queued(world, at);
        let behind = &mut world.sessions[at].behind;
        match self.rules.behind {
            Behind::FirstDropped | Behind::WhereItWasAlready => _ = behind.get_or_insert(seq),
            Behind::WhatDidNotFit => *behind = Some(seq),
        }
    }

    /// Queues a message that was read from the log, but for the session's own. `false`: the conversation has fallen
    /// behind again.
    pub(super) fn put_from_log(&self, world: &mut World, at: usize, seq: Seq) -> bool {
        let session = &mut world.sessions[at];
        if session.behind.is_some() {
            return false;
        }
        if session.own.remove(seq) {
            session.given = session.given.max(seq);
        } else {
            self.put(world, at, seq);
        }
        true
    }

    /// Notes that the session's own message has passed.
    pub(super) fn pass_over(&self, world: &mut World, at: usize, seq: Seq) {
        let session = &mut world.sessions[at];
        if session.behind.is_some() {
            session.own.insert(seq);
        } else {
            session.own.remove(seq);
            session.given = session.given.max(seq);
        }
    }

    /// Drops what the client has not taken yet, and notes where the conversation fell behind.
    pub(super) fn drop_queued(&self, world: &mut World, at: usize) {
        let session = &mut world.sessions[at];
        let queued = session.taken + 1..=session.given;
        let Some(first) = queued.clone().find(|&seq| !self.is_own(at, seq)) else { return };
        queued.filter(|&seq| seq > first && self.is_own(at, seq)).for_each(|seq| session.own.insert(seq));
        session.given = first - 1;
        let behind = session.behind.get_or_insert(first);
        if self.rules.behind != Behind::WhereItWasAlready {
            *behind = first.min(*behind);
        }
    }

    /// Tells whether anything is queued that an overflow could drop.
    pub(super) fn has_queued(&self, world: &World, at: usize) -> bool {
        let session = &world.sessions[at];
        (session.taken + 1..=session.given).any(|seq| !self.is_own(at, seq))
    }

    fn put(&self, world: &mut World, at: usize, seq: Seq) {
        let session = &mut world.sessions[at];
        let missing = (session.given + 1..seq).any(|before| !self.is_own(at, before));
        let wrong = if self.is_own(at, seq) {
            Wrong::Echo(at, seq)
        } else if self.scene.leave > 0 && seq > self.scene.leave {
            Wrong::BehindTheLeave(at, seq)
        } else if seq <= session.given {
            Wrong::Repeat(at, seq)
        } else if missing {
            Wrong::Gap(at, seq)
        } else {
            session.given = seq;
            return;
        };
        world.wrong.get_or_insert(wrong);
    }
}
