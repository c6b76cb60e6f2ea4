//! Who is subscribed to what: the truth that the broker's side is brought in line with.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tracing::warn;

use crate::bus::queue::Queue;
use crate::bus::{BusError, BusErrorKind, Subject, Subscription};

/// The answer to a `subscribe` that waits for its barrier.
pub(in crate::bus) type Barrier = oneshot::Receiver<Result<(), BusError>>;

/// The subjects of one bus. Written by subscribers and the owner task, read by the receive path.
///
/// Subscribers only change what is wanted; the owner asks for [`work`](Self::work) and tells what came of it. So the
/// last word on a subject always wins, however its subscribers come and go while the broker is answering.
#[derive(Debug)]
pub(in crate::bus) struct Table {
    inner: RwLock<Inner>,
    /// Wakes the owner: there is work.
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    /// The link whose messages count, if any.
    link: Option<u64>,
    /// Whether everything wanted has been effective on this link.
    connected: bool,
    closed: bool,
    routes: HashMap<Subject, Route>,
    /// Subjects whose stage may not be the wanted one; each at most once.
    todo: VecDeque<Subject>,
}

#[derive(Debug)]
struct Route {
    queues: Vec<Arc<Queue>>,
    waiting: Vec<oneshot::Sender<Result<(), BusError>>>,
    stage: Stage,
    in_todo: bool,
    /// It is to be subscribed anew, though it is effective.
    renew: bool,
}

/// Where a subject stands on the current link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Absent,
    Joining,
    Effective,
    Leaving,
}

/// What the owner has to do next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Wanted, and not on the link.
    pub(super) subscribe: Vec<Subject>,
    /// On the link, and wanted no more.
    pub(super) unsubscribe: Vec<Subject>,
}

impl Table {
    pub(in crate::bus) fn new() -> Self {
        Self {
            inner: RwLock::new(Inner {
                link: None,
                connected: false,
                closed: false,
                routes: HashMap::new(),
                todo: VecDeque::new(),
            }),
            changed: Notify::new(),
        }
    }

    /// Adds a subscriber. While connected there may be a barrier to wait for; else its first event is `Lost`.
    pub(super) fn add(self: &Arc<Self>, subject: &Subject) -> Result<(Subscription, Option<Barrier>), BusError> {
        let mut inner = self.write();
        if inner.closed {
            return Err(closed());
        }
        let queue = Arc::new(Queue::new(inner.connected));
        let barrier = inner.join(subject, &queue);
        drop(inner);
        self.changed.notify_one();
        Ok((Subscription::new(subject.clone(), queue, Arc::clone(self)), barrier))
    }

    /// Adds a subscriber to one more subject. While connected there may be a barrier to wait for; else the subject is
    /// effective with the next `Resumed`.
    pub(in crate::bus) fn join(&self, subject: &Subject, queue: &Arc<Queue>) -> Result<Option<Barrier>, BusError> {
        let mut inner = self.write();
        if inner.closed || queue.is_abandoned() {
            return Err(closed());
        }
        queue.share();
        let barrier = inner.join(subject, queue);
        drop(inner);
        self.changed.notify_one();
        Ok(barrier)
    }

    /// Has a subject of a subscriber subscribed anew.
    pub(in crate::bus) fn renew(&self, subject: &Subject, queue: &Arc<Queue>) -> Result<Option<Barrier>, BusError> {
        if let Some(route) = self.write().routes.get_mut(subject).filter(|route| route.stage == Stage::Effective) {
            route.renew = true;
        }
        self.join(subject, queue)
    }

    /// Removes a subscriber from a subject.
    pub(in crate::bus) fn release(&self, subject: &Subject, queue: &Arc<Queue>) {
        self.write().leave(subject, queue);
        self.changed.notify_one();
    }

    /// Removes a subscriber from everything. Only one that has shared its queue among subjects costs a walk.
    pub(in crate::bus) fn release_all(&self, first: &Subject, queue: &Arc<Queue>) {
        let mut inner = self.write();
        // From here on no subject is added.
        if queue.abandon() {
            let has = |(_, route): &(&Subject, &Route)| route.queues.iter().any(|other| Arc::ptr_eq(other, queue));
            let subjects: Vec<Subject> = inner.routes.iter().filter(has).map(|(subject, _)| subject.clone()).collect();
            subjects.iter().for_each(|subject| inner.leave(subject, queue));
        } else {
            inner.leave(first, queue);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Hands a message of a link to its subscribers; one of an earlier link is ignored. Tells whether it was of this one.
    pub(super) fn deliver(&self, link: u64, subject: &str, payload: Bytes) -> bool {
        let inner = self.read();
        if inner.link != Some(link) {
            return false;
        }
        let Some((last, others)) = inner.routes.get(subject).and_then(|route| route.queues.split_last()) else {
            return true;
        };
        let overflows = others.iter().filter(|queue| queue.push(payload.clone())).count();
        if overflows + usize::from(last.push(payload)) > 0 {
            warn!(subject, "bus subscriber does not keep up, messages are dropped");
        }
        true
    }

    /// Starts a link: everything wanted has to be subscribed on it.
    pub(super) fn begin(&self, link: u64) {
        let mut guard = self.write();
        let inner = &mut *guard;
        inner.link = Some(link);
        for (subject, route) in &mut inner.routes {
            route.enlist(subject, &mut inner.todo);
        }
    }

    /// Takes at most `limit` subjects to work on. When for the first time on a link there is nothing to do, everything
    /// wanted is effective: the link counts as connected from then on, `announce` is called, and every subscriber that
    /// was told `Lost` is told `Resumed`.
    pub(super) fn work(&self, limit: usize, announce: impl FnOnce()) -> Option<Work> {
        let mut guard = self.write();
        let inner = &mut *guard;
        let mut work = Work::default();
        while work.subscribe.len() + work.unsubscribe.len() < limit {
            let Some(subject) = inner.todo.pop_front() else { break };
            let Some(route) = inner.routes.get_mut(&subject) else { continue };
            route.in_todo = false;
            let unwanted = route.queues.is_empty();
            match (route.stage, unwanted) {
                (Stage::Absent, false) => {
                    route.stage = Stage::Joining;
                    work.subscribe.push(subject);
                }
                (Stage::Effective, _) if unwanted || route.renew => {
                    (route.stage, route.renew) = (Stage::Leaving, false);
                    work.unsubscribe.push(subject);
                }
                (Stage::Absent, true) => {
                    inner.routes.remove(&subject);
                }
                _ => {}
            }
        }
        if work != Work::default() {
            return Some(work);
        }
        if !inner.connected {
            inner.connected = true;
            announce();
            inner.routes.values().flat_map(|route| &route.queues).for_each(|queue| queue.link_resumed());
        }
        None
    }

    /// Waits until there may be work.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Notes that the broker confirmed subscriptions.
    pub(super) fn joined(&self, subjects: &[Subject]) {
        let mut guard = self.write();
        let inner = &mut *guard;
        for subject in subjects {
            let Some(route) = inner.routes.get_mut(subject) else { continue };
            route.stage = Stage::Effective;
            route.answer(|| Ok(()));
            if route.queues.is_empty() {
                route.enlist(subject, &mut inner.todo);
            }
        }
    }

    /// Notes that the broker refused subscriptions. Their subscribers are told; the subjects are left alone until
    /// somebody asks again.
    pub(super) fn refused(&self, subjects: &[Subject], error: &BusError) {
        let mut guard = self.write();
        for subject in subjects {
            let Some(route) = guard.routes.get_mut(subject) else { continue };
            route.stage = Stage::Absent;
            route.answer(|| Err(BusError::new(BusErrorKind::Rejected, format!("{subject}: {error}"))));
            if route.is_garbage() {
                guard.routes.remove(subject);
            }
        }
    }

    /// Notes that the broker confirmed the end of subscriptions.
    pub(super) fn left(&self, subjects: &[Subject]) {
        let mut guard = self.write();
        let inner = &mut *guard;
        for subject in subjects {
            let Some(route) = inner.routes.get_mut(subject) else { continue };
            route.stage = Stage::Absent;
            if route.is_garbage() {
                inner.routes.remove(subject);
            } else {
                route.enlist(subject, &mut inner.todo);
            }
        }
    }

    /// Ends a link: messages of it no longer count, every subscriber is told `Lost`, and whoever waits for a barrier is
    /// told to give up, and why.
    pub(super) fn end(&self, reason: &str) {
        let mut guard = self.write();
        let inner = &mut *guard;
        inner.link = None;
        inner.connected = false;
        inner.todo.clear();
        inner.routes.retain(|_, route| {
            route.stage = Stage::Absent;
            (route.in_todo, route.renew) = (false, false);
            let lost = || format!("the bus was lost while subscribing: {reason}");
            route.answer(|| Err(BusError::new(BusErrorKind::Disconnected, lost())));
            route.queues.iter().for_each(|queue| queue.link_lost());
            !route.is_garbage()
        });
    }

    /// Refuses new subscribers.
    pub(super) fn refuse(&self) {
        self.write().closed = true;
    }

    /// Ends every subscription.
    pub(super) fn close(&self) {
        let mut guard = self.write();
        guard.closed = true;
        guard.link = None;
        for (_, mut route) in guard.routes.drain() {
            route.answer(|| Err(closed()));
            route.queues.iter().for_each(|queue| queue.close());
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn join(&mut self, subject: &Subject, queue: &Arc<Queue>) -> Option<Barrier> {
        let route = self.routes.entry(subject.clone()).or_insert_with(Route::new);
        if !route.queues.iter().any(|other| Arc::ptr_eq(other, queue)) {
            route.queues.push(Arc::clone(queue));
        }
        let behind = route.stage != Stage::Effective || route.renew;
        if self.link.is_some() && (route.stage == Stage::Absent || route.renew) {
            route.enlist(subject, &mut self.todo);
        }
        (self.connected && behind).then(|| {
            let (answer, barrier) = oneshot::channel();
            route.waiting.push(answer);
            barrier
        })
    }

    fn leave(&mut self, subject: &Subject, queue: &Arc<Queue>) {
        let Some(route) = self.routes.get_mut(subject) else { return };
        route.queues.retain(|other| !Arc::ptr_eq(other, queue));
        if !route.queues.is_empty() {
            return;
        }
        if route.stage == Stage::Effective {
            route.enlist(subject, &mut self.todo);
        } else if route.is_garbage() {
            self.routes.remove(subject);
        }
    }
}

impl Route {
    fn new() -> Self {
        // Nearly always there is one.
        let queues = Vec::with_capacity(1);
        Self { queues, waiting: Vec::new(), stage: Stage::Absent, in_todo: false, renew: false }
    }

    fn enlist(&mut self, subject: &Subject, todo: &mut VecDeque<Subject>) {
        if !self.in_todo {
            self.in_todo = true;
            todo.push_back(subject.clone());
        }
    }

    fn answer(&mut self, answer: impl Fn() -> Result<(), BusError>) {
        for waiting in self.waiting.drain(..) {
            // A subscriber that stopped waiting has released its queue.
            drop(waiting.send(answer()));
        }
    }

    /// Nobody wants it, the broker does not have it, and it stands on no list.
    fn is_garbage(&self) -> bool {
        self.queues.is_empty() && self.stage == Stage::Absent && !self.in_todo
    }
}

/// The error after `close`.
pub(in crate::bus) fn closed() -> BusError {
    BusError::new(BusErrorKind::Closed, "the bus is closed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::BusEvent;

    #[tokio::test]
    async fn what_a_link_that_was_given_up_still_delivers_is_ignored() {
        let table = Arc::new(Table::new());
        let subject = Subject::new("a").unwrap();
        let (mut subscription, _) = table.add(&subject).unwrap();
        for link in [1, 2] {
            table.begin(link);
            let work = table.work(10, || {}).unwrap();
            assert_eq!(work.subscribe, std::slice::from_ref(&subject));
            table.joined(&work.subscribe);
            assert_eq!(table.work(10, || {}), None);
            table.deliver(1, "a", Bytes::from_static(b"from the first link"));
            table.deliver(2, "a", Bytes::from_static(b"from the second link"));
            if link == 1 {
                table.end("the broker has gone");
            }
        }
        table.close();
        let mut events = Vec::new();
        while let Some(event) = subscription.next().await {
            events.push(event);
        }
        let message = |text: &'static str| BusEvent::Message(text.into());
        let (first, second) = (message("from the first link"), message("from the second link"));
        assert_eq!(events, [BusEvent::Lost, BusEvent::Resumed, first, BusEvent::Lost, BusEvent::Resumed, second]);
    }
}
