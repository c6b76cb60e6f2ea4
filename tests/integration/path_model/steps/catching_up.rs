//! A session whose conversation is behind reads the log, page by page, until it is live again.

use super::Next;
use crate::path_model::Path;
use crate::path_model::rules::{CatchUp, Gate};
use crate::path_model::state::{Reading, SESSIONS, Seq, Stage, World};
use crate::path_model::timeline::Released;

impl Path {
    /// Catches up.
    pub(super) fn catching_up(&self, world: &World, next: &mut Next<'_>) {
        for at in (0..SESSIONS).filter(|&at| world.sessions[at].stage == Stage::Live) {
            self.catch_up(world, next, at);
        }
    }

    fn catch_up(&self, world: &World, next: &mut Next<'_>, at: usize) {
        let mut to = *world;
        let session = &mut to.sessions[at];
        let open = self.rules.gate == Gate::OpenForCatchingUp;
        match session.reading {
            Reading::Idle if session.behind.is_none() => {}
            Reading::Idle if self.rules.catch_up == CatchUp::KeepsLast => {
                session.reading = session.behind.take().map_or(Reading::Idle, Reading::Unkept);
                next.will(format_args!("session {at} is behind no more and will read"), to);
            }
            Reading::Unkept(from) => {
                session.reading = Reading::Asking(from);
                self.open_buffer(&mut to, at);
                next.will(format_args!("the timeline keeps what passes for session {at}"), to);
            }
            Reading::Idle => {
                let here = self.open_buffer(&mut to, at);
                to.sessions[at].reading = Reading::Keeping(here);
                next.will(format_args!("the timeline keeps what passes for session {at}"), to);
            }
            Reading::Keeping(here) => {
                let reads = here || (session.parted && self.rules.catch_up != CatchUp::OnlyOfMembers);
                let from = session.behind.take().filter(|_| reads);
                session.reading = from.map_or(Reading::Idle, Reading::Asking);
                next.will(format_args!("session {at} is behind no more and will read from {from:?}"), to);
            }
            Reading::Asking(from) => {
                let until = world.head.min(from + self.scene.page - 1);
                let full = until + 1 - from == self.scene.page;
                session.reading = Reading::Read(from, until, full);
                next.will(format_args!("session {at} reads {from} to {until} from the log"), to);
            }
            Reading::Read(from, until, full) if self.is_settled(world) || open => {
                let reading = self.queue_rows(&mut to, at, (from, until), full);
                to.sessions[at].reading = reading;
                next.will(format_args!("session {at} queues {from} to {until}"), to);
            }
            Reading::Read(..) => {}
            Reading::Queued(until, true) => {
                session.reading = Reading::Asking(until + 1);
                self.open_buffer(&mut to, at);
                next.will(format_args!("session {at} reads on, what was kept comes with that"), to);
            }
            Reading::Queued(until, false) => match self.release(&mut to, at, until) {
                Released::Live => {
                    to.sessions[at].reading = Reading::Idle;
                    next.will(format_args!("session {at} is live behind {until}"), to);
                }
                Released::Gone => {
                    to.sessions[at].reading = Reading::Idle;
                    to.wanted.adopt = true;
                    next.will(format_args!("session {at} is not in the timeline any more"), to);
                }
                Released::Again => {
                    to.sessions[at].reading = Reading::Asking(until + 1);
                    self.open_buffer(&mut to, at);
                    next.will(format_args!("session {at} lacks something behind {until} and reads again"), to);
                }
            },
        }
    }

    fn queue_rows(&self, world: &mut World, at: usize, (from, until): (Seq, Seq), full: bool) -> Reading {
        for seq in from..=until {
            if !self.put_from_log(world, at, seq) {
                return Reading::Idle;
            }
            if seq == self.scene.leave {
                self.let_go(world, at);
                world.wanted.adopt = true;
                return Reading::Idle;
            }
        }
        Reading::Queued(until, full)
    }
}
