//! What goes wrong with the node's lease and its connection to the broker, and how it comes back.

use super::Next;
use crate::path_model::Path;
use crate::path_model::rules::{Fence, Resumed};
use crate::path_model::state::{Bus, Seqs, Stage, World};

impl Path {
    /// Breaks, notices and comes back.
    pub(super) fn faults(&self, world: &World, next: &mut Next<'_>) {
        self.lease(world, next);
        self.bus(world, next);
        self.outboxes(world, next);
        if world.dirty {
            let mut to = *world;
            (to.dirty, to.wanted.sweep) = (false, true);
            next.will(format_args!("the node table says that publishes may be lost"), to);
        }
    }

    fn lease(&self, world: &World, next: &mut Next<'_>) {
        if world.budget.expiries > 0 && self.has_sessions(world) {
            let mut to = *world;
            to.budget.expiries -= 1;
            to.presence.row = false;
            to.fenced = self.rules.fence != Fence::GoesOn;
            next.may(format_args!("A NEIGHBOUR EXPIRES THE NODE'S LEASE and deletes its presence"), to);
        }
        if world.fenced {
            let mut to = *world;
            to.fenced = false;
            self.rewrite(&mut to);
            to.wanted.sweep |= self.rules.fence != Fence::RewritesOnly;
            next.will(format_args!("the node takes a new lease"), to);
        }
    }

    fn bus(&self, world: &World, next: &mut Next<'_>) {
        let mut to = *world;
        match world.bus {
            Bus::Hears if world.budget.disconnections > 0 => {
                to.budget.disconnections -= 1;
                (to.bus, to.wire) = (Bus::Lost, Seqs::default());
                next.may(format_args!("THE NODE LOSES THE BROKER"), to);
            }
            Bus::Hears => {}
            Bus::Lost if self.rules.resumed == Resumed::BeforeTheBarriers => {
                (to.bus, to.wanted.sweep) = (Bus::Deaf, true);
                next.will(format_args!("the bus has resumed, without its subjects"), to);
            }
            Bus::Lost => {
                (to.bus, to.wanted.sweep) = (Bus::Hears, true);
                next.will(format_args!("every subject is heard again, the bus has resumed"), to);
            }
            Bus::Deaf => {
                to.bus = Bus::Hears;
                next.will(format_args!("every subject is heard again"), to);
            }
        }
    }

    fn outboxes(&self, world: &World, next: &mut Next<'_>) {
        if !world.may_overflow() {
            return;
        }
        for (at, session) in world.sessions.iter().enumerate().filter(|(_, session)| session.stage == Stage::Live) {
            let mut to = *world;
            to.sessions[at].taken = session.given;
            next.will(format_args!("the client of session {at} has read up to {}", session.given), to);
            if world.budget.overflows == 0 {
                continue;
            }
            let mut to = *world;
            to.budget.overflows -= 1;
            if self.has_queued(world, at) {
                let mut to = to;
                self.drop_queued(&mut to, at);
                next.may(format_args!("ANOTHER FRAME DOES NOT FIT, what waits for session {at} is dropped"), to);
            }
            if !session.full {
                to.sessions[at].full = true;
                next.may(format_args!("THE OUTBOX of session {at} IS FULL"), to);
            }
        }
    }
}

impl World {
    /// Tells whether an outbox can still overflow: else it does not matter what its client has read.
    pub(super) fn may_overflow(&self) -> bool {
        self.budget.overflows > 0 || self.sessions.iter().any(|session| session.full)
    }
}
