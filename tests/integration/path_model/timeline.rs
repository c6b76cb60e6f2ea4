//! The node's timeline: each function is what happens under its lock.

use super::Path;
use super::rules::{Birth, Doubt, Floor, Leave, Release};
use super::scene::Conversation;
use super::state::{Attachment, Buffer, Reading, Reference, SESSIONS, Seq, Timeline, World};

/// What a session finds that has read the log and wants to be live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Released {
    /// It is live.
    Live,
    /// More came in between than was kept: it reads again.
    Again,
    /// It is not in the timeline any more.
    Gone,
}

impl Buffer {
    fn opened(next: Option<Seq>) -> Self {
        Self { from: next, ..Self::default() }
    }
}

impl Path {
    /// Puts a session into the timeline, which keeps what passes for it; makes the timeline when there is none.
    /// `false`: it is there already.
    pub(super) fn attach(&self, world: &mut World, at: usize) -> bool {
        if world.sessions[at].attachment.is_some() {
            return false;
        }
        let next = world.timeline.get_or_insert_default().next;
        let buffer = Some(Buffer::opened(next));
        world.sessions[at].attachment = Some(Attachment { buffer, ..Attachment::default() });
        true
    }

    /// Takes a session out of the timeline, which is disposed of with the last one.
    pub(super) fn detach(&self, world: &mut World, at: usize) {
        world.sessions[at].attachment = None;
        if (0..SESSIONS).any(|other| self.is_fed(world, other)) {
            return;
        }
        world.timeline = None;
        for session in &mut world.sessions {
            if session.reference == Reference::Fed {
                session.reference = Reference::Orphan;
            }
        }
    }

    /// Takes a session out of the timeline that has been given the leave.
    pub(super) fn let_go(&self, world: &mut World, at: usize) {
        world.sessions[at].parted = true;
        self.detach(world, at);
    }

    /// Tells whether a session is in the timeline.
    pub(super) fn is_fed(&self, world: &World, at: usize) -> bool {
        world.sessions[at].attachment.is_some_and(|attachment| !attachment.orphan)
    }

    /// Says that the log may go on behind the timeline's position.
    pub(super) fn doubt(&self, world: &mut World) {
        if let Some(timeline) = &mut world.timeline {
            timeline.due |= timeline.next.is_some();
            timeline.doubted = timeline.next.is_none() && self.rules.doubt == Doubt::Remembered;
        }
    }

    /// Takes a head that was read from the log after somebody attached.
    pub(super) fn begin(&self, world: &mut World, head: Seq) {
        let Some(timeline) = &mut world.timeline else { return };
        let hole = if let Some(next) = timeline.next {
            next <= head
        } else {
            timeline.next = Some(head + 1);
            timeline.parked.keep_above(head);
            for attachment in world.sessions.iter_mut().filter_map(|session| session.attachment.as_mut()) {
                if let Some(buffer) = attachment.buffer.as_mut().filter(|_| !attachment.orphan) {
                    buffer.from.get_or_insert(head + 1);
                }
            }
            timeline.waits || timeline.doubted
        };
        if hole {
            self.doubt(world);
        }
    }

    /// Takes an entry, wherever it comes from. `false`: there is no timeline.
    pub(super) fn feed(&self, world: &mut World, seq: Seq) -> bool {
        let Some(timeline) = &mut world.timeline else { return false };
        let moves = seq == self.scene.leave || (seq == 1 && self.scene.conversation == Conversation::JoinedGroup);
        match timeline.next {
            Some(next) if seq < next => world.wanted.adopt |= moves,
            Some(next) if seq == next => self.pass(world, seq),
            _ => {
                world.wanted.adopt |= moves && timeline.next.is_none();
                timeline.waits = true;
                if timeline.parked.len() < self.scene.parked {
                    timeline.parked.insert(seq);
                } else {
                    timeline.parked = Default::default();
                    timeline.due |= timeline.next.is_some();
                }
            }
        }
        true
    }

    fn pass(&self, world: &mut World, first: Seq) {
        let mut seq = first;
        loop {
            if let Some(timeline) = &mut world.timeline {
                timeline.next = Some(seq + 1);
            }
            (0..SESSIONS).for_each(|at| self.take(world, at, seq));
            if seq == self.scene.leave {
                (0..SESSIONS).for_each(|at| self.part(world, at));
            }
            world.wanted.adopt |= seq == 1 && self.scene.conversation == Conversation::JoinedGroup;
            let Some(timeline) = &mut world.timeline else { return };
            seq += 1;
            if !timeline.parked.remove(seq) {
                break;
            }
        }
        if let Some(timeline) = world.timeline.as_mut().filter(|timeline| timeline.parked.is_empty()) {
            timeline.waits = false;
        }
    }

    /// Gives an entry that is next to one session, or keeps it.
    fn take(&self, world: &mut World, at: usize, seq: Seq) {
        if !self.is_fed(world, at) {
            return;
        }
        let session = &mut world.sessions[at];
        let Some(attachment) = &mut session.attachment else { return };
        if seq <= attachment.floor || attachment.left {
            return;
        }
        let own = attachment.own.remove(seq);
        match &mut attachment.buffer {
            Some(buffer) => {
                if own {
                    session.own.insert(seq);
                }
                if buffer.entries.len() >= self.scene.kept {
                    *buffer = Buffer { from: buffer.from, overflowed: true, ..Buffer::default() };
                } else if !buffer.overflowed {
                    buffer.entries.insert(seq);
                    if own {
                        buffer.own.insert(seq);
                    }
                }
            }
            None if own => self.pass_over(world, at, seq),
            None if self.rules.release == Release::ByAFlag && session.reading != Reading::Idle => {}
            None => self.live(world, at, seq),
        }
    }

    /// Lets a session go whose user has left; one that reads the log, or will, stays until it has read the leave.
    fn part(&self, world: &mut World, at: usize) {
        let session = &mut world.sessions[at];
        let Some(attachment) = &mut session.attachment else { return };
        let reads = attachment.buffer.is_some() || session.behind.is_some();
        match self.rules.leave {
            Leave::WithTheNextAudit => {}
            Leave::WithTheEntry if reads => attachment.left = true,
            Leave::WithTheEntry | Leave::AtOnce => self.let_go(world, at),
        }
    }

    /// Marks a seq as one that the first session has sent itself. `false`: it is not in the timeline.
    pub(super) fn mark_own(&self, world: &mut World, seq: Seq) -> bool {
        let next = world.timeline.and_then(|timeline| timeline.next);
        let ahead = next.is_none_or(|next| seq >= next);
        let session = &mut world.sessions[0];
        let Some(attachment) = session.attachment.as_mut().filter(|attachment| !attachment.orphan) else {
            session.own.insert(seq);
            return false;
        };
        if ahead && seq > attachment.floor {
            attachment.own.insert(seq);
        }
        if attachment.buffer.is_some() {
            session.own.insert(seq);
        } else if !ahead {
            self.pass_over(world, 0, seq);
        }
        true
    }

    /// Keeps what passes from here on for a session that is about to read the log. `false`: it is not there.
    pub(super) fn open_buffer(&self, world: &mut World, at: usize) -> bool {
        let next = world.timeline.and_then(|timeline| timeline.next);
        let session = &mut world.sessions[at];
        let Some(attachment) = &mut session.attachment else { return false };
        if self.rules.release != Release::ByAFlag {
            attachment.buffer = Some(Buffer::opened(next));
        }
        attachment.own.iter().for_each(|seq| session.own.insert(seq));
        true
    }

    /// Makes a session live that was given everything up to `floor` from the log.
    pub(super) fn release(&self, world: &mut World, at: usize, floor: Seq) -> Released {
        if self.is_fed(world, at) && world.timeline.is_some_and(|timeline| timeline.next.is_none()) {
            self.begin(world, floor);
        }
        if self.rules.floor == Floor::TimelineComesAlong
            && let Some(behind) = world.timeline.and_then(|timeline| timeline.next)
        {
            (behind..=floor).for_each(|seq| _ = self.feed(world, seq));
        }
        let session = &mut world.sessions[at];
        let Some(attachment) = &mut session.attachment else { return Released::Gone };
        let lasting = matches!(self.rules.floor, Floor::AsLongAsAttached);
        attachment.floor = if lasting { floor } else { 0 };
        attachment.own.keep_above(floor);
        let buffer = attachment.buffer.unwrap_or(Buffer::opened(Some(0)));
        let follows = attachment.orphan || buffer.from.is_some_and(|from| from <= floor + 1);
        let goes_on = follows || self.rules.release == Release::WhereverKeepingBegan;
        if !goes_on || (buffer.overflowed && self.rules.release != Release::DespiteOverflow) {
            return Released::Again;
        }
        attachment.buffer = None;
        let left = attachment.left;
        if session.behind.is_none() {
            session.own = Default::default();
        }
        let repeats = self.rules.floor == Floor::Nowhere;
        for seq in buffer.entries.iter().filter(|&seq| seq > floor || repeats) {
            if buffer.own.contains(seq) {
                self.pass_over(world, at, seq);
            } else {
                self.live(world, at, seq);
            }
        }
        if left {
            self.let_go(world, at);
            return Released::Gone;
        }
        Released::Live
    }

    /// Makes a timeline out of an envelope, with every session that is listed or about to be. Against the rules.
    pub(super) fn make_from_envelope(&self, world: &mut World, seq: Seq) {
        if self.rules.birth != Birth::FromTheEnvelope || world.timeline.is_some() {
            return;
        }
        for session in world.sessions.iter_mut().filter(|session| session.registered) {
            session.attachment = Some(Attachment::default());
            world.timeline = Some(Timeline { next: Some(seq), ..Timeline::default() });
        }
    }
}
