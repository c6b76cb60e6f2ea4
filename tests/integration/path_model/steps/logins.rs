//! Sessions that come, and the first one that goes.

use super::Next;
use crate::path_model::Path;
use crate::path_model::rules::{Disposal, LoginOrder, Registration};
use crate::path_model::scene::Conversation;
use crate::path_model::state::{Reading, Reference, Session, Stage, World};
use crate::path_model::timeline::Released;

/// A step of a login, up to the next point at which something else may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Its row of presence is committed.
    Row,
    /// The user's subject is heard.
    User,
    /// Its conversations are listed.
    List,
    /// The subject of the group among them is heard.
    Group,
    /// It is in the timelines.
    Attach,
    /// The heads are read.
    Read,
    /// They are the positions of new timelines.
    Begin,
    /// What was missed is sent, and what was kept is released.
    Release,
}

/// Returns the steps of a login, in order.
fn steps(order: LoginOrder) -> [Step; 8] {
    use Step::{Attach, Begin, Group, List, Read, Release, Row, User};
    match order {
        LoginOrder::Sound => [Row, User, List, Group, Attach, Read, Begin, Release],
        LoginOrder::PresenceAfterTheRead => [User, List, Group, Attach, Read, Begin, Row, Release],
        LoginOrder::SubjectAfterTheRead => [Row, List, Group, Attach, Read, Begin, User, Release],
        LoginOrder::ReadBeforeAttach => [Row, User, List, Group, Read, Attach, Begin, Release],
    }
}

impl Path {
    /// Logs in and out.
    pub(super) fn logins(&self, world: &World, next: &mut Next<'_>) {
        for at in 0..self.scene.sessions {
            match world.sessions[at].stage {
                // The second one is no other than the first, so it comes later.
                Stage::Away if at == 0 || world.sessions[0].stage != Stage::Away => {
                    let mut to = *world;
                    self.register(&mut to, at);
                    next.may(format_args!("session {at} begins to log in"), to);
                }
                Stage::LoggingIn(done) => self.log_in(world, next, at, usize::from(done)),
                Stage::Away | Stage::Live | Stage::Gone => {}
            }
        }
        let leaves = matches!(world.sessions[0].stage, Stage::LoggingIn(_) | Stage::Live);
        if leaves && world.budget.logouts > 0 {
            let mut to = *world;
            to.budget.logouts -= 1;
            self.log_out(&mut to);
            let rest = if to.timeline.is_none() { ", there is no timeline" } else { "" };
            next.may(format_args!("session 0 ends{rest}"), to);
        }
    }

    fn register(&self, world: &mut World, at: usize) {
        let session = &mut world.sessions[at];
        session.stage = Stage::LoggingIn(0);
        session.registered = self.rules.registration == Registration::BeforeListing;
        session.given = self.joined();
        session.taken = session.given;
        if self.rules.login != LoginOrder::PresenceAfterTheRead {
            self.arrive(world, at);
        }
        if self.rules.login != LoginOrder::SubjectAfterTheRead {
            world.sessions[at].holds_user = true;
            self.hold(&mut world.user);
        }
    }

    fn log_out(&self, world: &mut World) {
        if world.sessions[0].attachment.is_some() {
            self.detach(world, 0);
        }
        self.depart(world, 0);
        let held = world.sessions[0].holds_user;
        world.sessions[0] = Session { stage: Stage::Gone, ..Session::default() };
        if held {
            self.leave_subject(world);
        }
    }

    fn log_in(&self, world: &World, next: &mut Next<'_>, at: usize, done: usize) {
        let (steps, session) = (steps(self.rules.login), &world.sessions[at]);
        let mut to = *world;
        to.sessions[at].stage = if done + 1 < steps.len() { Stage::LoggingIn(done as u8 + 1) } else { Stage::Live };
        match steps[done] {
            Step::Row if !session.counted => {
                to.sessions[at].stage = session.stage;
                self.arrive(&mut to, at);
                next.will(format_args!("session {at} asks for its row of presence"), to);
            }
            Step::Row if session.awaits_row => {}
            Step::Row => self.log_in(world, next, at, done + 1),
            Step::User if !session.holds_user => {
                (to.sessions[at].stage, to.sessions[at].holds_user) = (session.stage, true);
                self.hold(&mut to.user);
                next.will(format_args!("session {at} asks for its user's subject"), to);
            }
            // Waiting for what is there already is no step.
            Step::User if self.is_heard(&world.user) => self.log_in(world, next, at, done + 1),
            Step::User => self.go_on(next, at, to),
            Step::List => {
                to.sessions[at].member = self.is_member(world);
                let found = if to.sessions[at].member { "the conversation" } else { "none" };
                next.will(format_args!("session {at} lists its conversations: {found}"), to);
            }
            Step::Group if self.scene.conversation != Conversation::JoinedGroup || !session.member => {
                self.log_in(world, next, at, done + 1);
            }
            Step::Group if !session.holds_group => {
                (to.sessions[at].stage, to.sessions[at].holds_group) = (session.stage, true);
                self.hold(&mut to.group);
                next.will(format_args!("session {at} asks for its group's subject"), to);
            }
            Step::Group if self.is_heard(&world.group) => self.log_in(world, next, at, done + 1),
            Step::Group => self.go_on(next, at, to),
            Step::Attach => self.enter(world, next, at, to),
            Step::Read => {
                to.sessions[at].read = world.head;
                next.will(format_args!("session {at} reads the head: {}", world.head), to);
            }
            Step::Begin => {
                self.positions(&mut to, at);
                next.will(format_args!("session {at} takes {} for the position of a new timeline", session.read), to);
            }
            Step::Release => {
                let released = self.let_live(&mut to, at);
                let (first, last) = (session.given + 1, session.read);
                next.will(format_args!("session {at} is sent {first} to {last} and released: {released:?}"), to);
            }
        }
    }

    /// Goes on without waiting for a barrier.
    fn go_on(&self, next: &mut Next<'_>, at: usize, mut to: World) {
        if to.budget.slow_barriers > 0 {
            to.budget.slow_barriers -= 1;
            self.settle(&mut to.user);
            next.may(format_args!("THE BARRIER TAKES TOO LONG, session {at} goes on without it"), to);
        }
    }

    fn enter(&self, world: &World, next: &mut Next<'_>, at: usize, mut to: World) {
        let session = &mut to.sessions[at];
        if !session.member {
            (session.listed, session.registered) = (true, true);
            next.will(format_args!("session {at} has nothing to attach to"), to);
            return;
        }
        let racy = self.rules.disposal == Disposal::BesideAReference;
        if racy && session.reference == Reference::None && world.timeline.is_some() && session.attachment.is_none() {
            (session.stage, session.reference) = (world.sessions[at].stage, Reference::Fed);
            next.will(format_args!("session {at} looks the timeline up"), to);
            return;
        }
        let orphan = std::mem::take(&mut session.reference) == Reference::Orphan;
        (session.listed, session.registered) = (true, true);
        if !orphan {
            self.attach(&mut to, at);
        } else {
            to.sessions[at].attachment = Some(Default::default());
            if let Some(attachment) = &mut to.sessions[at].attachment {
                attachment.orphan = true;
            }
        }
        if std::mem::take(&mut to.sessions[at].holds_group)
            && let Some(timeline) = &mut to.timeline
        {
            timeline.holds = true;
            self.settle(&mut to.group);
        }
        let which = match world.timeline {
            _ if orphan => "a timeline that is fed no more",
            Some(_) => "the timeline",
            None => "a new timeline",
        };
        next.will(format_args!("session {at} attaches to {which}"), to);
    }

    fn positions(&self, world: &mut World, at: usize) {
        let read = world.sessions[at].read;
        let session = &mut world.sessions[at];
        // What it read may say that it is a member now, or is one no more.
        let still = session.member && !(self.scene.leave > 0 && read >= self.scene.leave);
        let born = std::mem::take(&mut session.born);
        if session.member && !still {
            session.member = false;
            self.detach(world, at);
            world.wanted.adopt = true;
            return;
        }
        world.wanted.adopt |= born && !still;
        if !still || !self.is_fed(world, at) {
            return;
        }
        self.begin(world, read);
    }

    fn let_live(&self, world: &mut World, at: usize) -> Released {
        let Session { member, read, .. } = world.sessions[at];
        if !member {
            return Released::Live;
        }
        (world.sessions[at].given + 1..=read).for_each(|seq| _ = self.put_from_log(world, at, seq));
        let released = self.release(world, at, read);
        match released {
            Released::Live => {}
            Released::Again => _ = world.sessions[at].behind.get_or_insert(read + 1),
            Released::Gone => world.wanted.adopt = true,
        }
        debug_assert!(world.sessions[at].reading == Reading::Idle, "it catches up once it is live");
        released
    }
}
