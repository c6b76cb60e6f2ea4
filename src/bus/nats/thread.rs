//! Where a link lives.

use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ended;
use crate::bus::{BusError, BusErrorKind};

/// A thread with a runtime, on which a link has everything that it has: the tasks that the client library starts and
/// keeps to itself too. When it is dropped all of them end, whatever they are doing, and the socket is closed.
///
/// Its tasks run in the order in which they are woken. What the server has said first has therefore been noted when
/// somebody goes on with what it has said after that.
pub(super) struct LinkThread {
    runtime: Handle,
    _end: DropGuard,
}

impl LinkThread {
    pub(super) fn start() -> Result<Self, BusError> {
        let failed = |error| BusError::new(BusErrorKind::Disconnected, "no thread for NATS").caused_by(error);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (handle, end) = (runtime.handle().clone(), CancellationToken::new());
        let ended = end.clone();
        let live = move || {
            runtime.block_on(ended.cancelled());
            // A search for a name may still be under way, and is not waited for.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("nats".to_owned()).spawn(live).map_err(failed)?;
        Ok(Self { runtime: handle, _end: end.drop_guard() })
    }

    /// Runs something on the thread. It goes on when nobody waits for it any more, until the thread ends.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, BusError> {
        self.runtime.spawn(task).await.map_err(|error| ended().caused_by(error))
    }

    /// Starts something on the thread.
    pub(super) fn start_task(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_was_started_on_a_thread_and_kept_from_us_ends_with_it() {
        let thread = LinkThread::start().unwrap();
        let (held, ended) = oneshot::channel::<()>();
        let start = async move {
            tokio::spawn(async move {
                pending::<()>().await;
                drop(held);
            });
        };
        thread.run(start).await.unwrap();
        drop(thread);
        ended.await.unwrap_err();
    }
}
