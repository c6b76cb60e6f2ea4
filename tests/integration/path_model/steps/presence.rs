//! The user's row of presence, and the one task that writes it.

use super::Next;
use crate::path_model::Path;
use crate::path_model::rules::{Fence, Order};
use crate::path_model::state::{Presence, World};

impl Path {
    /// Counts a session. It waits for the row unless that is known to be there.
    pub(super) fn arrive(&self, world: &mut World, at: usize) {
        let Presence { written, dirty, .. } = world.presence;
        let session = &mut world.sessions[at];
        session.counted = true;
        if !written || dirty {
            session.awaits_row = true;
            world.presence.dirty = true;
        }
    }

    /// Uncounts a session.
    pub(super) fn depart(&self, world: &mut World, at: usize) {
        let session = &mut world.sessions[at];
        session.awaits_row = false;
        if !std::mem::take(&mut session.counted) || is_here(world) {
            return;
        }
        match self.rules.presence {
            Order::Kept => world.presence.dirty = true,
            Order::EndsOvertakeBeginnings => {
                world.presence.straying_end = true;
                world.presence.written = false;
            }
        }
    }

    /// Writes the row.
    pub(super) fn presence(&self, world: &World, next: &mut Next<'_>) {
        let presence = world.presence;
        if presence.straying_end {
            let mut to = *world;
            to.presence = Presence { straying_end: false, row: false, ..presence };
            next.will(format_args!("A LATE TASK deletes the row of presence"), to);
        }
        match presence.writing {
            None if presence.dirty => {
                let mut to = *world;
                to.presence.writing = Some(is_here(world));
                (to.presence.dirty, to.presence.written) = (false, false);
                next.will(format_args!("presence is to be written"), to);
            }
            // The epoch is over, so it changes nothing. The beat will see to it.
            Some(_) if world.fenced => {}
            Some(here) => {
                let mut to = *world;
                self.row_written(&mut to, here);
                let what = if here { "written" } else { "deleted" };
                next.will(format_args!("the row of presence is {what}"), to);
            }
            None => {}
        }
    }

    fn row_written(&self, world: &mut World, here: bool) {
        let still = is_here(world);
        let presence = &mut world.presence;
        (presence.row, presence.writing) = (here, None);
        if here == still {
            presence.dirty = false;
        }
        if here {
            presence.written = true;
            world.sessions.iter_mut().for_each(|session| session.awaits_row = false);
        }
        if std::mem::take(&mut presence.rewriting) {
            world.wanted.sweep |= self.rules.fence == Fence::RewritesThenSweeps;
        }
    }

    /// Writes the row anew under a new epoch: what is on its way was under the old one.
    pub(super) fn rewrite(&self, world: &mut World) {
        let here = is_here(world);
        let dirty = here || world.presence.dirty || world.presence.writing.is_some();
        world.presence = Presence { dirty, rewriting: here, row: world.presence.row, ..Presence::default() };
    }
}

fn is_here(world: &World) -> bool {
    world.sessions.iter().any(|session| session.counted)
}
