//! Every step that can be taken: what happens between two points at which another task may run is one step.

mod catching_up;
mod faults;
mod logins;
mod presence;
mod repairs;
mod senders;
mod subjects;

use super::Path;
use super::checker::{Model, Steps};
use super::scene::Conversation;
use super::state::{SESSIONS, Seq, Stage, World, Wrong};

/// Takes the steps from one moment.
pub(super) type Next<'a> = Steps<'a, World>;

impl Model for Path {
    type State = World;

    fn initial(&self) -> World {
        World::new(self.scene.budget)
    }

    fn steps(&self, world: &World, next: &mut Next<'_>) {
        self.senders(world, next);
        self.wire(world, next);
        self.subjects(world, next);
        self.presence(world, next);
        self.repairs(world, next);
        self.logins(world, next);
        self.catching_up(world, next);
        self.faults(world, next);
    }

    fn wrong(&self, world: &World) -> Option<String> {
        world.wrong.map(|wrong| match wrong {
            Wrong::Gap(at, seq) => format!("session {at} got {seq} without what is before it"),
            Wrong::Repeat(at, seq) => format!("session {at} got {seq} again"),
            Wrong::Echo(at, seq) => format!("session {at} got {seq}, which it has sent itself"),
            Wrong::BehindTheLeave(at, seq) => format!("session {at} got {seq} after its user had left"),
        })
    }

    fn unfinished(&self, world: &World) -> Option<String> {
        (0..SESSIONS).filter(|&at| world.sessions[at].stage == Stage::Live).find_map(|at| {
            let given = world.sessions[at].given;
            let owed = self.owed(world, at)?;
            let lacks = (given + 1..=owed).any(|seq| !self.is_own(at, seq));
            lacks.then(|| format!("nothing moves, and session {at} has {given} of {owed}"))
        })
    }
}

impl Path {
    /// Tells whether the user is a member.
    fn is_member(&self, world: &World) -> bool {
        let has_left = self.scene.leave > 0 && world.head >= self.scene.leave;
        (self.scene.conversation == Conversation::Old || world.head >= 1) && !has_left
    }

    /// Returns the seq from which on the user is a member.
    fn joined(&self) -> Seq {
        Seq::from(self.scene.conversation == Conversation::JoinedGroup)
    }

    /// Returns the last seq that a session is to have in the end.
    fn owed(&self, world: &World, at: usize) -> Option<Seq> {
        match self.scene.leave {
            0 => Some(world.head),
            leave => world.sessions[at].member.then(|| world.head.min(leave)),
        }
    }
}
