//! Messages on their way from their senders, through the log and the broker, to the node.

use super::Next;
use crate::path_model::Path;
use crate::path_model::rules::{Failure, Local};
use crate::path_model::scene::{Conversation, Routing, Said};
use crate::path_model::state::{Bus, SESSIONS, Sending, Seq, Stage, Subject, World};

impl Path {
    /// Says, commits, addresses and publishes.
    pub(super) fn senders(&self, world: &World, next: &mut Next<'_>) {
        for seq in 1..=self.scene.messages {
            match self.said(seq) {
                Said::Elsewhere => self.elsewhere(world, next, seq),
                Said::Here | Said::ByFirstSession => self.here(world, next, seq),
            }
        }
    }

    fn elsewhere(&self, world: &World, next: &mut Next<'_>, seq: Seq) {
        match world.sendings[index(seq)] {
            Sending::Unsaid if world.head + 1 == seq && self.scene.clock.is_some() => {
                let mut to = world.at(seq, Sending::Open);
                to.stamps[index(seq)] = world.tick;
                next.will(format_args!("the transaction of {seq} stamps the head at tick {}", world.tick), to);
            }
            Sending::Unsaid if world.head + 1 != seq => {}
            Sending::Unsaid | Sending::Open => {
                let mut to = world.at(seq, Sending::Committed);
                to.head = seq;
                next.will(format_args!("a sender commits {seq}"), to);
            }
            Sending::Committed if world.presence.row => {
                next.will(format_args!("the sender of {seq} sees the node"), world.at(seq, Sending::Addressed));
            }
            Sending::Committed => {
                next.will(format_args!("the sender of {seq} sees nobody"), world.at(seq, Sending::Done));
            }
            Sending::Addressed => self.publish(world, next, seq),
            Sending::Done => {}
        }
        if world.budget.deaths > 0 && matches!(world.sendings[index(seq)], Sending::Committed | Sending::Addressed) {
            let mut to = world.at(seq, Sending::Done);
            to.budget.deaths -= 1;
            to.dirty |= self.rules.failure == Failure::OthersSweep;
            next.may(format_args!("THE SENDER'S NODE DIES, {seq} is committed and not published"), to);
        }
    }

    fn publish(&self, world: &World, next: &mut Next<'_>, seq: Seq) {
        let mut failed = world.at(seq, Sending::Done);
        failed.dirty |= self.rules.failure == Failure::OthersSweep;
        if self.hears(world, seq) {
            let mut to = world.at(seq, Sending::Done);
            to.wire.insert(seq);
            next.will(format_args!("the broker takes {seq}"), to);
        } else if self.scene.counted {
            next.will(format_args!("the broker takes {seq} and counts nobody who hears it"), failed);
        } else {
            next.will(format_args!("the broker takes {seq}, nobody hears it"), world.at(seq, Sending::Done));
        }
        if world.budget.losses > 0 {
            let mut to = world.at(seq, Sending::Done);
            to.budget.losses -= 1;
            next.may(format_args!("THE BROKER TAKES {seq} AND DROPS IT"), to);
        }
        if world.budget.refusals > 0 {
            failed.budget.refusals -= 1;
            next.may(format_args!("THE BROKER DOES NOT TAKE {seq}"), failed);
        }
    }

    fn here(&self, world: &World, next: &mut Next<'_>, seq: Seq) {
        let own = self.said(seq) == Said::ByFirstSession;
        match world.sendings[index(seq)] {
            Sending::Unsaid if world.head + 1 == seq => {
                let mut to = world.at(seq, Sending::Committed);
                to.head = seq;
                if !own {
                    next.will(format_args!("this node commits {seq}"), to);
                } else if world.sessions[0].stage == Stage::Live {
                    next.may(format_args!("this node commits {seq} of session 0"), to);
                }
            }
            Sending::Committed => {
                let mut to = world.at(seq, Sending::Done);
                if self.rules.local == Local::AroundTheTimeline {
                    let is_live = |at: &usize| world.sessions[*at].stage == Stage::Live;
                    (0..SESSIONS).filter(is_live).for_each(|at| self.live(&mut to, at, seq));
                } else {
                    let stranger = own && !self.mark_own(&mut to, seq);
                    let fed = self.feed(&mut to, seq);
                    let born = seq == 1 && self.scene.conversation == Conversation::BornDirect;
                    to.wanted.adopt |= (stranger || born || !fed) && self.has_sessions(world);
                }
                next.will(format_args!("{seq} reaches the timeline from the appender"), to);
            }
            _ => {}
        }
    }

    /// Brings envelopes from the broker.
    pub(super) fn wire(&self, world: &World, next: &mut Next<'_>) {
        for seq in world.wire.iter() {
            let mut to = *world;
            self.deliver(&mut to, seq);
            if world.budget.repeats > 0 {
                let mut to = to;
                to.budget.repeats -= 1;
                next.may(format_args!("THE BUS BRINGS {seq}, AND WILL AGAIN"), to);
            }
            to.wire.remove(seq);
            next.will(format_args!("the bus brings {seq}"), to);
        }
    }

    fn deliver(&self, world: &mut World, seq: Seq) {
        self.make_from_envelope(world, seq);
        let fed = self.feed(world, seq);
        let listeners = self.scene.conversation == Conversation::JoinedGroup && seq > 1;
        let born = seq == 1 && self.scene.conversation == Conversation::BornDirect;
        if born || (!fed && !listeners) {
            world.wanted.adopt |= self.has_sessions(world);
        }
    }

    /// Tells whether the node hears the subject on which a message goes out.
    fn hears(&self, world: &World, seq: Seq) -> bool {
        let heard = |subject: &Subject| subject.listed;
        let subscribed = match (self.scene.routing, self.scene.conversation) {
            (Routing::PerNode, _) => true,
            (Routing::PerUser, Conversation::JoinedGroup) if seq > 1 => heard(&world.group),
            (Routing::PerUser, _) => heard(&world.user),
        };
        subscribed && world.bus == Bus::Hears
    }

    /// Tells whether every commit of this node has reached its timeline.
    pub(super) fn is_settled(&self, world: &World) -> bool {
        let on_its_way =
            |seq: Seq| self.said(seq) != Said::Elsewhere && world.sendings[index(seq)] == Sending::Committed;
        !(1..=self.scene.messages).any(on_its_way)
    }

    /// Tells whether the node has sessions of the user in its list.
    pub(super) fn has_sessions(&self, world: &World) -> bool {
        world.sessions.iter().any(|session| session.registered)
    }

    fn said(&self, seq: Seq) -> Said {
        self.scene.said[index(seq)]
    }
}

impl World {
    /// Returns this moment with a message further on.
    fn at(&self, seq: Seq, sending: Sending) -> Self {
        let mut to = *self;
        to.sendings[index(seq)] = sending;
        to
    }
}

fn index(seq: Seq) -> usize {
    usize::from(seq) - 1
}
