use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A lock that one process at a time holds, on a file beside the database.
///
/// SQLite's own lock is taken by polling, so that a busy process can keep another one out for seconds. Here the
/// operating system queues whoever waits.
#[derive(Debug)]
pub(super) struct FileLock {
    file: Arc<File>,
}

/// The lock while it is held; dropping it releases it.
#[derive(Debug)]
pub(super) struct Held {
    file: Arc<File>,
}

impl FileLock {
    /// Returns the path of the lock of a database.
    pub(super) fn path_for(database: &Path) -> PathBuf {
        let mut path = database.as_os_str().to_owned();
        path.push(".lock");
        path.into()
    }

    /// Opens the file, and creates it when it is missing.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        Ok(Self { file: Arc::new(file) })
    }

    /// Waits for the lock, off the runtime when somebody else has it. One task of a process may wait at a time: the
    /// lock belongs to the open file, so a second one would get it as well.
    pub(super) async fn acquire(&self) -> io::Result<Held> {
        let file = Arc::clone(&self.file);
        match file.try_lock() {
            Ok(()) => Ok(Held { file }),
            Err(TryLockError::WouldBlock) => {
                // The closure returns the guard, so that a lock that is got after its task has gone is released too.
                let waiting = tokio::task::spawn_blocking(move || file.lock().map(|()| Held { file }));
                waiting.await.map_err(io::Error::other)?
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::error!(%error, "cannot release the lock of the database");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_lock_is_free_again_once_its_guard_is_dropped_even_by_an_abandoned_waiter() {
        let folder = tempfile::tempdir().unwrap();
        let path = FileLock::path_for(&folder.path().join("log.db"));
        let (one, two) = (FileLock::open(&path).unwrap(), FileLock::open(&path).unwrap());
        let held = one.acquire().await.unwrap();
        let waiter = tokio::spawn(async move { two.acquire().await.map(drop) });
        tokio::task::yield_now().await;
        waiter.abort();
        drop(held);
        let three = FileLock::open(&path).unwrap();
        drop(tokio::time::timeout(std::time::Duration::from_secs(30), three.acquire()).await.unwrap().unwrap());
    }
}
