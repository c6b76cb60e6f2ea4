use tokio::sync::{RwLock, RwLockWriteGuard};

/// Orders this node's own commits before what it reads from the log.
///
/// A row becomes visible at commit, a moment before its timeline has it. Whoever reads rows waits here before using
/// them: then every commit that was visible to the read has passed its timeline, which knows whose own message it is.
#[derive(Debug, Default)]
pub(crate) struct CommitGate(RwLock<()>);

impl CommitGate {
    /// Held by the appender from before a commit until its entries are in their timelines.
    pub(super) async fn commit(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().await
    }

    /// Waits until every commit that began before has reached its timelines.
    pub(crate) async fn settled(&self) {
        drop(self.0.read().await);
    }
}
