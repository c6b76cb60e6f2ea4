//! Tells users who of their friends has come or gone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::model::UserId;
use crate::model::store::StoreError;
use crate::protocol::ServerFrame;
use crate::server::core::Core;
use crate::server::flow::{Notice, notify};

/// Somebody who comes back within this time was never gone, as far as friends are told.
const GONE_AFTER: Duration = Duration::from_secs(2);

/// The most users in one query.
const BATCH: usize = 500;

/// Users whose presence may have changed for their friends.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    changed: Mutex<Changed>,
    woken: Notify,
    /// Tells that there is nothing to tell.
    idle: Notify,
}

#[derive(Debug, Default)]
struct Changed {
    /// Came to this node, with no session on it before.
    arrived: HashSet<UserId>,
    /// Left a node, with none left on it, and when to look whether they are gone.
    left: HashMap<UserId, Instant>,
}

impl Changed {
    fn is_empty(&self) -> bool {
        self.arrived.is_empty() && self.left.is_empty()
    }
}

impl Announcer {
    /// Notes users whose first session on a node has come.
    pub(crate) fn arrived(&self, users: impl IntoIterator<Item = UserId>) {
        let mut changed = self.lock();
        for user in users {
            // Whoever comes back in time is not told of.
            if changed.left.remove(&user).is_none() {
                changed.arrived.insert(user);
            }
        }
        self.woken.notify_one();
    }

    /// Notes users whose last session on a node has gone.
    pub(crate) fn left(&self, users: impl IntoIterator<Item = UserId>) {
        let mut changed = self.lock();
        let at = Instant::now() + GONE_AFTER;
        for user in users {
            changed.arrived.remove(&user);
            changed.left.insert(user, at);
        }
        self.woken.notify_one();
    }

    /// Waits until friends are told of all who have come or gone so far. Cancel-safe.
    pub(crate) async fn told(&self) {
        let idle = self.idle.notified();
        self.woken.notify_one();
        idle.await;
    }

    /// Takes who is to be looked at now, and when to look again.
    fn take(&self) -> (Vec<UserId>, Vec<UserId>, Option<Instant>) {
        let mut changed = self.lock();
        let now = Instant::now();
        let arrived: Vec<UserId> = changed.arrived.iter().take(BATCH).copied().collect();
        arrived.iter().for_each(|user| _ = changed.arrived.remove(user));
        let due = changed.left.iter().filter(|(_, at)| **at <= now).map(|(user, _)| *user);
        let gone: Vec<UserId> = due.take(BATCH).collect();
        gone.iter().for_each(|user| _ = changed.left.remove(user));
        let next = if changed.arrived.is_empty() { changed.left.values().min().copied() } else { Some(now) };
        (arrived, gone, next)
    }

    fn lock(&self) -> MutexGuard<'_, Changed> {
        self.changed.lock().expect("no code panics while it holds it")
    }
}

/// Announces until the node stops.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut next = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = core.announcer.woken.notified() => {}
            () = async { match next { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => {}
        }
        let (arrived, gone, later) = core.announcer.take();
        next = later;
        if let Err(error) = announce(&core, &arrived, &gone).await {
            tracing::debug!(%error, "friends could not be told who has come or gone");
        }
        if core.announcer.lock().is_empty() {
            core.announcer.idle.notify_waiters();
        }
    }
}

async fn announce(core: &Core, arrived: &[UserId], gone: &[UserId]) -> Result<(), StoreError> {
    let users: Vec<UserId> = arrived.iter().chain(gone).copied().collect();
    let friends = core.store.friends(&users).await?;
    if friends.is_empty() {
        return Ok(());
    }
    let online: HashSet<UserId> = core.store.online(&users).await?.into_iter().collect();
    // Who was on another node already is no news, but of two nodes where somebody comes at once neither was the first.
    let came: HashSet<UserId> = arrived.iter().filter(|user| online.contains(user)).copied().collect();
    // Who is on another node still has not gone.
    let went: HashSet<UserId> = gone.iter().filter(|user| !online.contains(user)).copied().collect();
    let news = friends.into_iter().filter(|friend| friend.accepted).filter_map(|friend| {
        let online = if came.contains(&friend.user) {
            true
        } else if went.contains(&friend.user) {
            false
        } else {
            return None;
        };
        Some(Notice::user(friend.friend, &ServerFrame::Presence { user: friend.user, online }))
    });
    notify(core, news.collect(), None);
    Ok(())
}
