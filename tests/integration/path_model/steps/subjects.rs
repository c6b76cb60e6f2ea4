//! Subjects: who holds them, the one task that subscribes, and the broker's barriers.

use super::Next;
use crate::path_model::Path;
use crate::path_model::rules::{LateBarrier, Order};
use crate::path_model::scene::Routing;
use crate::path_model::state::{Errand, Place, Subject, World};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The user's.
    User,
    /// The group's.
    Group,
}

impl Whose {
    fn name(self) -> &'static str {
        match self {
            Self::User => "the user's subject",
            Self::Group => "the group's subject",
        }
    }

    /// Returns the subject.
    pub(super) fn of(self, world: &mut World) -> &mut Subject {
        match self {
            Self::User => &mut world.user,
            Self::Group => &mut world.group,
        }
    }

    fn is_held(self, world: &World) -> bool {
        match self {
            Self::User => world.sessions.iter().any(|session| session.holds_user),
            Self::Group => {
                world.timeline.is_some_and(|timeline| timeline.holds)
                    || world.sessions.iter().any(|session| session.holds_group)
            }
        }
    }
}

impl Subject {
    fn order(&mut self, errand: Errand) {
        let free = self.orders.iter_mut().find(|order| order.is_none());
        *free.expect("two sessions make no more orders than this") = Some(errand);
    }

    fn next_order(&mut self) -> Option<Errand> {
        let first = self.orders[0].take();
        self.orders.rotate_left(1);
        first
    }
}

impl Path {
    /// Has a subject subscribed for whoever begins to hold it.
    pub(super) fn hold(&self, subject: &mut Subject) {
        if self.scene.routing == Routing::PerUser && subject.place == Place::Vacant {
            subject.place = Place::Joining;
            subject.order(Errand::Join);
        }
    }

    /// Tells whether whoever holds a subject need not wait for it.
    pub(super) fn is_heard(&self, subject: &Subject) -> bool {
        self.scene.routing == Routing::PerNode || subject.place == Place::Heard
    }

    /// Notes that somebody goes on, whether a subject is heard or not.
    pub(super) fn settle(&self, subject: &mut Subject) {
        subject.uncovered |= subject.place == Place::Joining;
    }

    /// Lets the user's subject go with its last session. Against the rules that is a task of its own.
    pub(super) fn leave_subject(&self, world: &mut World) {
        if self.rules.subscriptions == Order::EndsOvertakeBeginnings && !Whose::User.is_held(world) {
            world.user.place = Place::Vacant;
            world.user.straying_end = true;
        }
    }

    /// Subscribes, unsubscribes, and ends the lingering of subjects that nobody holds.
    pub(super) fn subjects(&self, world: &World, next: &mut Next<'_>) {
        for whose in [Whose::User, Whose::Group] {
            let (name, mut to) = (whose.name(), *world);
            let subject = whose.of(&mut to);
            if subject.place != Place::Vacant && !whose.is_held(world) {
                (subject.place, subject.uncovered) = (Place::Vacant, false);
                subject.order(Errand::Leave);
                next.will(format_args!("{name} has lingered long enough"), to);
            }
            let mut to = *world;
            let subject = whose.of(&mut to);
            if std::mem::take(&mut subject.straying_end) {
                subject.listed = false;
                next.will(format_args!("A LATE TASK unsubscribes {name}"), to);
            }
            let mut to = *world;
            let subject = whose.of(&mut to);
            if let Some(errand) = subject.next_order() {
                subject.listed = errand == Errand::Join;
                let done = if subject.listed { "subscribed" } else { "unsubscribed" };
                // A barrier of an earlier attempt says nothing of a later one.
                if subject.listed && subject.place == Place::Joining && !subject.orders.contains(&Some(errand)) {
                    self.land(&mut to, whose);
                }
                next.will(format_args!("{name} is {done}"), to);
            }
        }
    }

    fn land(&self, world: &mut World, whose: Whose) {
        let subject = whose.of(world);
        subject.place = Place::Heard;
        if std::mem::take(&mut subject.uncovered) && self.rules.late_barrier == LateBarrier::Swept {
            match whose {
                Whose::User => world.wanted.sweep = true,
                Whose::Group => self.doubt(world),
            }
        }
    }
}
