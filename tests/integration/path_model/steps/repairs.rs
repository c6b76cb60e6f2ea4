//! The one task that reads the log for the node: it adopts sessions, sweeps, audits, and mends holes.

use super::Next;
use crate::path_model::Path;
use crate::path_model::rules::{Adoption, Audit, Gate, Leave, Sweep};
use crate::path_model::scene::Conversation;
use crate::path_model::state::{Repair, SESSIONS, Sending, Seq, Session, Stage, World};

impl Path {
    /// Does what is wanted, one thing at a time.
    pub(super) fn repairs(&self, world: &World, next: &mut Next<'_>) {
        let mut to = *world;
        to.repair = Repair::Idle;
        match world.repair {
            Repair::Idle => {
                self.adopt(world, next);
                self.sweep(world, next);
                self.audit(world, next);
                self.mend(world, next);
            }
            Repair::Adopting => {
                self.attach_newcomers(&mut to);
                to.repair = Repair::Adopted;
                next.will(format_args!("newcomers are attached"), to);
            }
            Repair::Adopted if self.is_member(world) => {
                to.repair = Repair::Beginning(world.head);
                next.will(format_args!("the head is read for newcomers: {}", world.head), to);
            }
            Repair::Adopted => next.will(format_args!("the newcomers have left again"), to),
            Repair::Beginning(head) => {
                self.begin(&mut to, head);
                next.will(format_args!("newcomers take {head} for the position of a new timeline"), to);
            }
            Repair::Sweeping(head) if self.is_settled(world) => {
                self.compare(&mut to, head);
                next.will(format_args!("a sweep compares the timeline with {head}"), to);
            }
            Repair::Auditing(head) if self.is_settled(world) => {
                self.compare(&mut to, head);
                self.look_for_sessions(&mut to, head);
                next.will(format_args!("an audit compares the timeline with {head}"), to);
            }
            Repair::Mending(after, until) if self.is_settled(world) || self.rules.gate == Gate::OpenForHoles => {
                (after + 1..=until).for_each(|seq| _ = self.feed(&mut to, seq));
                if let Some(timeline) = &mut to.timeline {
                    timeline.waits = !timeline.parked.is_empty();
                }
                next.will(format_args!("what was read behind {after} reaches the timeline"), to);
            }
            Repair::Sweeping(_) | Repair::Auditing(_) | Repair::Mending(..) => {}
        }
    }

    fn adopt(&self, world: &World, next: &mut Next<'_>) {
        if !world.wanted.adopt {
            return;
        }
        let mut to = *world;
        to.wanted.adopt = false;
        if self.has_sessions(world) && self.is_member(world) {
            to.repair = Repair::Adopting;
            next.will(format_args!("the user is found to be a member"), to);
        } else {
            next.will(format_args!("nobody is to be adopted"), to);
        }
    }

    fn attach_newcomers(&self, world: &mut World) {
        let first = self.joined() + 1;
        for at in 0..SESSIONS {
            let session = &mut world.sessions[at];
            let has_left = session.parted && self.rules.adoption == Adoption::OfWhoHasNotLeft;
            if !session.registered || has_left {
                continue;
            }
            if !session.listed {
                session.born = true;
            } else if self.attach(world, at) {
                let session = &mut world.sessions[at];
                session.member = true;
                session.behind = Some(session.behind.map_or(first, |behind| behind.min(first)));
            }
        }
        if self.scene.conversation == Conversation::JoinedGroup
            && let Some(mut timeline) = world.timeline
        {
            self.hold(&mut world.group);
            self.settle(&mut world.group);
            timeline.holds = true;
            world.timeline = Some(timeline);
        }
    }

    fn sweep(&self, world: &World, next: &mut Next<'_>) {
        let mut to = *world;
        if world.wanted.sweep {
            to.wanted.sweep = false;
            to.repair = Repair::Sweeping(world.head);
            next.will(format_args!("a sweep reads the head: {}", world.head), to);
        } else if let Some(clock) = self.scene.clock {
            let open = |seq: &Seq| world.sendings[usize::from(*seq) - 1] == Sending::Open;
            let stamp = |seq: &Seq| world.stamps[usize::from(*seq) - 1];
            let cut = clock.cut && (1..=self.scene.messages).filter(open).any(|seq| stamp(&seq) + 1 < world.tick);
            // The clock stops once it has shown what it can, so that the world comes to rest.
            if cut || world.tick >= 5 || (world.tick >= 3 && !self.lags(world)) {
                return;
            }
            let since = world.swept_at.saturating_sub(clock.overlap);
            let seen = (1..=world.head).filter(|seq| stamp(seq) >= since).max().unwrap_or(0);
            (to.swept_at, to.tick) = (world.tick, world.tick + 1);
            to.repair = Repair::Sweeping(seen);
            next.will(format_args!("a sweep reads what was stamped since tick {since}: {seen}"), to);
        }
    }

    fn audit(&self, world: &World, next: &mut Next<'_>) {
        let looks = match self.rules.audit {
            Audit::Heads => true,
            Audit::PresenceRows => world.presence.row,
            Audit::Never => false,
        };
        // An audit that finds nothing changes nothing.
        if looks && self.lags(world) {
            let to = World { repair: Repair::Auditing(world.head), ..*world };
            next.will(format_args!("an audit reads the head: {}", world.head), to);
        }
    }

    fn mend(&self, world: &World, next: &mut Next<'_>) {
        let mut to = *world;
        let Some(timeline) = &mut to.timeline else { return };
        let Some(ahead) = timeline.next.filter(|_| timeline.due || timeline.waits) else { return };
        timeline.due = false;
        to.repair = Repair::Mending(ahead - 1, world.head);
        next.will(format_args!("the hole behind {} is read up to {}", ahead - 1, world.head), to);
    }

    /// Compares the timeline with a head that was read.
    fn compare(&self, world: &mut World, head: Seq) {
        let position = world.timeline.and_then(|timeline| timeline.next).map(|next| next - 1);
        if position.is_none_or(|position| position < head) {
            self.doubt(world);
        }
        // Who was a member all along is found by whoever lists: to note it as well would only make more states.
        let is_new = self.scene.conversation != Conversation::Old;
        let sees_all = is_new && self.rules.sweep == Sweep::OfWhoIsRegistered;
        let lacks = |session: &Session| session.registered && session.attachment.is_none();
        let lacking = world.sessions.iter().any(|session| lacks(session) && (session.listed || sees_all));
        world.wanted.adopt |= self.is_member(world) && lacking;
    }

    /// Lets sessions go whose user was found to have left, against the rules not before.
    fn look_for_sessions(&self, world: &mut World, head: Seq) {
        if self.rules.leave == Leave::WithTheNextAudit && self.scene.leave > 0 && head >= self.scene.leave {
            (0..SESSIONS).for_each(|at| self.detach(world, at));
        }
    }

    /// Tells whether an audit would find anything.
    fn lags(&self, world: &World) -> bool {
        let behind = world.timeline.and_then(|timeline| timeline.next).is_some_and(|next| next <= world.head);
        let is_out = |session: &Session| session.stage == Stage::Live && session.attachment.is_none();
        behind || (self.is_member(world) && world.sessions.iter().any(is_out))
    }
}
