//! How far each subject has been read, across the links of one bus.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::bus::Subject;

/// How long a position counts after its link has ended: as long as topics keep messages.
const KEPT: Duration = Duration::from_secs(60);

/// The offset of the next message for each subject that is subscribed, or was when the last link ended.
#[derive(Debug, Default)]
pub(super) struct Positions(Mutex<HashMap<Subject, Position>>);

#[derive(Debug)]
struct Position {
    next: i64,
    /// Since when no link has read on.
    left: Option<Instant>,
}

impl Positions {
    /// Notes that the link before has ended, if there was one, and forgets what is too old to be of use.
    pub(super) fn begin_link(&self) {
        let now = Instant::now();
        self.lock().retain(|_, position| now - *position.left.get_or_insert(now) < KEPT);
    }

    /// Returns where an earlier link left a subject.
    pub(super) fn left_at(&self, subject: &Subject) -> Option<i64> {
        let positions = self.lock();
        positions.get(subject).filter(|position| position.left.is_some()).map(|position| position.next)
    }

    /// Notes where the reading of a subject begins on this link.
    pub(super) fn start(&self, subject: &Subject, next: i64) {
        self.lock().insert(subject.clone(), Position { next, left: None });
    }

    /// Delivers the message at `offset`, and passes it if its link still counted. The next link cannot look at the
    /// position between the two.
    pub(super) fn pass(&self, subject: &str, offset: i64, deliver: impl FnOnce() -> bool) {
        let mut positions = self.lock();
        if deliver()
            && let Some(position) = positions.get_mut(subject)
        {
            position.next = offset + 1;
        }
    }

    /// Forgets subjects that nobody wants any more.
    pub(super) fn forget(&self, subjects: &[Subject]) {
        let mut positions = self.lock();
        for subject in subjects {
            positions.remove(subject);
        }
    }

    /// Tells whether a subject is being read.
    pub(super) fn has(&self, subject: &str) -> bool {
        self.lock().get(subject).is_some_and(|position| position.left.is_none())
    }

    /// Returns a subject that is being read, if there is any.
    pub(super) fn any(&self) -> Option<Subject> {
        self.lock().iter().find(|(_, position)| position.left.is_none()).map(|(subject, _)| subject.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Subject, Position>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_link_goes_on_behind_what_was_delivered_and_not_behind_what_was_not() {
        let (positions, subject) = (Positions::default(), Subject::new("a").unwrap());
        positions.begin_link();
        assert_eq!(positions.left_at(&subject), None);
        positions.start(&subject, 7);
        assert_eq!(positions.left_at(&subject), None, "it has not been left");
        positions.pass("a", 7, || true);
        // The link was given up before this one arrived.
        positions.pass("a", 8, || false);
        positions.begin_link();
        assert_eq!(positions.left_at(&subject), Some(8));
        // A link that came to nothing changes nothing.
        positions.begin_link();
        assert_eq!(positions.left_at(&subject), Some(8));
        positions.start(&subject, 8);
        positions.forget(std::slice::from_ref(&subject));
        positions.begin_link();
        assert_eq!(positions.left_at(&subject), None);
    }
}
