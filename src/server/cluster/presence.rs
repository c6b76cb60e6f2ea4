//! Which users have a session on this node, in the log, so that senders on other nodes know.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::model::UserId;
use crate::model::store::PresenceChange;
use crate::server::core::Core;

/// The most changes in one transaction.
const BATCH: usize = 1000;

/// After the log could not be written, or the lease was lost.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The presence rows of this node, wanted and written. One task writes them, so that an old change never overtakes a
/// new one.
#[derive(Debug, Default)]
pub(crate) struct PresenceBook {
    book: Mutex<Book>,
    changed: Notify,
    /// Tells that nothing is to be written.
    idle: Notify,
    /// Tells that a rewrite is committed.
    rewritten: Notify,
}

#[derive(Debug, Default)]
struct Book {
    /// Sessions per user.
    here: HashMap<UserId, usize>,
    /// Users whose row is in the log.
    written: HashSet<UserId>,
    /// Users whose row may differ from what is wanted.
    dirty: HashSet<UserId>,
    waiting: HashMap<UserId, Vec<oneshot::Sender<()>>>,
    /// Counts the rewrites: what was taken before one was written under an epoch that is over.
    generation: u64,
    /// Users whose row is missing until the rewrite is committed.
    rewriting: HashSet<UserId>,
}

/// Changes on their way to the log.
#[derive(Debug)]
struct Batch {
    generation: u64,
    changes: Vec<PresenceChange>,
}

impl PresenceBook {
    /// Counts a session at once; the future waits until its user's row is committed. Dropping it does not uncount the
    /// session, [`depart`](Self::depart) does.
    pub(crate) fn arrive(&self, user: UserId) -> impl Future<Output = ()> + use<> {
        let committed = {
            let mut book = self.lock();
            *book.here.entry(user).or_insert(0) += 1;
            if book.written.contains(&user) && !book.dirty.contains(&user) {
                None
            } else {
                let (done, committed) = oneshot::channel();
                book.dirty.insert(user);
                book.waiting.entry(user).or_default().push(done);
                Some(committed)
            }
        };
        self.changed.notify_one();
        async move {
            if let Some(committed) = committed {
                // The other end goes only with the node.
                committed.await.unwrap_or(());
            }
        }
    }

    /// Uncounts a session.
    pub(crate) fn depart(&self, user: UserId) {
        let mut book = self.lock();
        let left = book.here.get_mut(&user).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            book.here.remove(&user);
            book.dirty.insert(user);
            drop(book);
            self.changed.notify_one();
        }
    }

    /// Writes every row anew: the node has a new epoch. Until [`rewritten`](Self::rewritten) senders on other nodes do not
    /// see the sessions here.
    pub(crate) fn rewrite(&self) {
        let mut guard = self.lock();
        let book = &mut *guard;
        book.generation += 1;
        book.written.clear();
        book.rewriting = book.here.keys().copied().collect();
        book.dirty.extend(&book.rewriting);
        drop(guard);
        self.changed.notify_one();
    }

    /// Waits until every row of the last rewrite is committed, or its user has gone. Cancel-safe.
    pub(crate) async fn rewritten(&self) {
        loop {
            let rewritten = self.rewritten.notified();
            if self.lock().rewriting.is_empty() {
                return;
            }
            rewritten.await;
        }
    }

    /// Waits until all that has changed so far is in the log. Cancel-safe.
    pub(crate) async fn written(&self) {
        let idle = self.idle.notified();
        self.changed.notify_one();
        idle.await;
    }

    fn take(&self) -> Batch {
        let mut book = self.lock();
        let users: Vec<UserId> = book.dirty.iter().take(BATCH).copied().collect();
        let changes =
            users.iter().map(|user| PresenceChange { user: *user, here: book.here.contains_key(user) }).collect();
        for user in &users {
            book.dirty.remove(user);
            // Until it is committed the row is what it was; whoever arrives meanwhile waits.
            book.written.remove(user);
        }
        Batch { generation: book.generation, changes }
    }

    /// Notes that a batch is in the log.
    fn committed(&self, batch: &Batch) {
        let mut book = self.lock();
        if batch.generation != book.generation {
            // The rows went with the epoch they were written under.
            book.dirty.extend(batch.changes.iter().map(|change| change.user));
            return;
        }
        for &PresenceChange { user, here } in &batch.changes {
            if here == book.here.contains_key(&user) {
                book.dirty.remove(&user);
            }
            let waiting = book.waiting.remove(&user).unwrap_or_default();
            if here {
                book.written.insert(user);
                // Whoever waited may have given up.
                waiting.into_iter().for_each(|done| done.send(()).unwrap_or(()));
            } else if book.here.contains_key(&user) {
                // They came while the row was being deleted, and have made the user dirty again.
                book.waiting.insert(user, waiting);
            }
            book.rewriting.remove(&user);
        }
        if book.rewriting.is_empty() {
            self.rewritten.notify_waiters();
        }
    }

    fn give_back(&self, batch: &Batch) {
        self.lock().dirty.extend(batch.changes.iter().map(|change| change.user));
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no code panics while it holds the presence book")
    }
}

/// Writes presence until the node stops and nothing is left to write.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    loop {
        let batch = core.presence.take();
        if batch.changes.is_empty() {
            core.presence.idle.notify_waiters();
            if stop.is_cancelled() {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = core.presence.changed.notified() => {}
            }
            continue;
        }
        match core.store.presence_change(&core.node, core.lease.epoch(), &batch.changes).await {
            Ok(true) => {
                core.presence.committed(&batch);
                let (here, gone): (Vec<&PresenceChange>, Vec<&PresenceChange>) =
                    batch.changes.iter().partition(|change| change.here);
                core.announcer.arrived(here.into_iter().map(|change| change.user));
                core.announcer.left(gone.into_iter().map(|change| change.user));
                continue;
            }
            // Fenced: the beat takes a new epoch and asks for a rewrite.
            Ok(false) => core.lease.beat_now(),
            Err(error) => tracing::warn!(%error, "presence cannot be written, trying again"),
        }
        core.presence.give_back(&batch);
        if stop.is_cancelled() {
            return;
        }
        sleep(RETRY_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: u64) -> UserId {
        UserId::new(number).unwrap()
    }

    #[tokio::test]
    async fn a_second_session_waits_for_the_row_of_the_first() {
        let book = PresenceBook::default();
        let mut first = std::pin::pin!(book.arrive(user(1)));
        assert!(futures_util::poll!(&mut first).is_pending());
        let changes = book.take();
        assert_eq!(changes.changes, [PresenceChange { user: user(1), here: true }]);
        let mut second = std::pin::pin!(book.arrive(user(1)));
        assert!(futures_util::poll!(&mut second).is_pending(), "the row is not committed yet");
        book.committed(&changes);
        first.await;
        second.await;
        // The second session asked before the row was known to be there, so it is written once more.
        book.committed(&book.take());
        book.arrive(user(1)).await;
    }

    #[tokio::test]
    async fn the_row_goes_with_the_last_session_and_comes_back_with_the_next() {
        let book = PresenceBook::default();
        let arrived = book.arrive(user(1));
        let mut arrived = std::pin::pin!(arrived);
        assert!(futures_util::poll!(&mut arrived).is_pending());
        book.committed(&book.take());
        arrived.await;
        book.depart(user(1));
        let leaving = book.take();
        assert_eq!(leaving.changes, [PresenceChange { user: user(1), here: false }]);
        let mut again = std::pin::pin!(book.arrive(user(1)));
        assert!(futures_util::poll!(&mut again).is_pending(), "the deletion is on its way");
        book.committed(&leaving);
        assert!(futures_util::poll!(&mut again).is_pending(), "the row is deleted, not written");
        book.committed(&book.take());
        again.await;
    }

    #[tokio::test]
    async fn what_was_written_under_an_epoch_that_is_over_does_not_count() {
        let book = PresenceBook::default();
        let mut arrived = std::pin::pin!(book.arrive(user(1)));
        assert!(futures_util::poll!(&mut arrived).is_pending());
        let old = book.take();
        book.rewrite();
        book.committed(&old);
        assert!(futures_util::poll!(&mut arrived).is_pending(), "the new epoch began without it");
        let new = book.take();
        assert_eq!(new.changes, [PresenceChange { user: user(1), here: true }]);
        book.committed(&new);
        arrived.await;
        book.arrive(user(1)).await;
    }

    #[tokio::test]
    async fn a_rewrite_is_done_once_the_last_row_is_written_or_its_user_has_gone() {
        let book = PresenceBook::default();
        let arrived = [book.arrive(user(1)), book.arrive(user(2))];
        book.committed(&book.take());
        for arrived in arrived {
            arrived.await;
        }
        book.rewritten().await;
        book.rewrite();
        let failed = book.take();
        book.give_back(&failed);
        book.rewrite();
        book.depart(user(2));
        let mut rewritten = std::pin::pin!(book.rewritten());
        assert!(futures_util::poll!(&mut rewritten).is_pending());
        book.committed(&book.take());
        rewritten.await;
        book.depart(user(1));
        book.rewrite();
        book.rewritten().await;
    }

    #[tokio::test]
    async fn who_gives_up_waiting_is_forgotten() {
        let book = PresenceBook::default();
        drop(book.arrive(user(1)));
        book.depart(user(1));
        book.committed(&book.take());
        let book = book.lock();
        assert!(book.waiting.is_empty() && book.here.is_empty() && book.written.is_empty() && book.dirty.is_empty());
    }
}
