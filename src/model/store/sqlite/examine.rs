use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, SqliteConnection};
use tokio::time::timeout;

use super::connections::{close, fetch_sets, file_options};
use super::decode::{integer, number, text};
use super::failure::store_error;
use super::file_lock::FileLock;
use super::open::{MIGRATIONS, refused};
use crate::model::store::{Examination, StoreError, StoreErrorKind};

/// How long another process may hold the lock of the file before something must be wrong with it.
const LOCKED_FOR: Duration = Duration::from_secs(10);

/// Written and taken back in one transaction: it reaches the disk like any other and leaves nothing behind.
const WRITE: &str = "
    BEGIN IMMEDIATE;
    INSERT INTO meta (key, value) VALUES ('examined', x'00');
    DELETE FROM meta WHERE key = 'examined';
    COMMIT";

/// Looks at the log in a file.
pub(in crate::model::store) async fn examine(path: &Path) -> Result<Examination, StoreError> {
    if tokio::fs::metadata(path).await.is_err() {
        can_be_made(path).await?;
        return Ok(Examination::Missing);
    }
    let cure = "it must be a SQLite database that this user may read and write";
    let connecting = file_options(path).create_if_missing(false).connect().await;
    let mut connection = connecting.map_err(|error| refused(path.display(), cure, error))?;
    let found = look(&mut connection, path).await;
    close(connection).await;
    found
}

async fn look(connection: &mut SqliteConnection, path: &Path) -> Result<Examination, StoreError> {
    let cure = "it must be a log of switchboard; correct store.url, or move it away to start with a new log";
    let refuse = |error| refused(path.display(), cure, error);
    let ask = sqlx::query(
        "SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations';
         SELECT count(*) FROM sqlite_schema WHERE type = 'table'",
    );
    let sets = fetch_sets(connection, ask).await.map_err(refuse)?;
    if integer(&sets[0][0], 0)? == 0 {
        let tables = integer(&sets[1][0], 0)?;
        if tables > 0 {
            return Err(refused(path.display(), cure, format!("it holds {tables} tables of another program")));
        }
        return Ok(Examination::Old { applied: 0, pending: MIGRATIONS.iter().count() });
    }
    let ask = sqlx::query("SELECT version, lower(hex(checksum)), success FROM _sqlx_migrations");
    let sets = fetch_sets(connection, ask).await.map_err(refuse)?;
    let mut known: HashMap<i64, String> =
        MIGRATIONS.iter().map(|migration| (migration.version, hex(&migration.checksum))).collect();
    let applied = sets[0].len();
    for row in &sets[0] {
        let (version, checksum, done) = (integer(row, 0)?, text(row, 1)?, integer(row, 2)? != 0);
        if known.remove(&version) != Some(checksum) || !done {
            let cure = "it was written by another version of switchboard; run that version or a newer one";
            return Err(refused(path.display(), cure, format!("migration {version} is not as this version has it")));
        }
    }
    if !known.is_empty() {
        return Ok(Examination::Old { applied, pending: known.len() });
    }
    let commit = write(connection, path).await?;
    let ask = sqlx::query(
        "SELECT count(*) FROM users;
         SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER)",
    );
    let sets = fetch_sets(connection, ask).await.map_err(|error| store_error("reading the log", error))?;
    Ok(Examination::Current { applied, users: number(&sets[0][0], 0)?, now: integer(&sets[1][0], 0)?, commit })
}

/// Writes as every writer does, under the lock of the file.
async fn write(connection: &mut SqliteConnection, path: &Path) -> Result<Duration, StoreError> {
    let path = tokio::fs::canonicalize(path).await.unwrap_or_else(|_| path.to_owned());
    let lock_path = FileLock::path_for(&path);
    let cannot_lock = |error| {
        let cure = "the lock beside the database must be writable by this user";
        refused(lock_path.display(), cure, error)
    };
    let lock = FileLock::open(&lock_path).map_err(cannot_lock)?;
    let held = timeout(LOCKED_FOR, lock.acquire()).await.map_err(|_| {
        let context = format!(
            "another process has held {} for {LOCKED_FOR:?}; look for a node that is stopped or hangs, and end it",
            lock_path.display()
        );
        StoreError::new(StoreErrorKind::Unavailable, context)
    })?;
    let held = held.map_err(cannot_lock)?;
    let began = Instant::now();
    let written = fetch_sets(connection, sqlx::query(WRITE)).await;
    let took = began.elapsed();
    drop(held);
    let cure = "it must be writable by this user, on a disk that has room";
    written.map_err(|error| refused(path.display(), cure, error)).map(|_| took)
}

/// Checks that a file can be made where the nearest folder exists.
async fn can_be_made(path: &Path) -> Result<(), StoreError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.ancestors().skip(1).find(|folder| folder.exists()).map_or_else(PathBuf::new, Path::to_owned);
    let probe = folder.join(format!(".switchboard-{}-{:08x}", std::process::id(), rand::random::<u32>()));
    let made = match tokio::fs::File::create_new(&probe).await {
        Ok(_) => tokio::fs::remove_file(&probe).await,
        Err(error) => Err(error),
    };
    let cure = format!("it does not exist yet, and {} must be a folder that this user may write", folder.display());
    made.map_err(|error| refused(path.display(), &cure, error))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::store::open;

    fn url(path: &Path) -> String {
        format!("sqlite://{}", path.display())
    }

    async fn raw(path: &Path, sql: &'static str) {
        let mut connection = file_options(path).create_if_missing(true).connect().await.unwrap();
        fetch_sets(&mut connection, sqlx::query(sql)).await.unwrap();
        close(connection).await;
    }

    #[tokio::test]
    async fn a_log_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/log.db");
        assert_eq!(examine(&path).await.unwrap(), Examination::Missing);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_current_log_is_read_and_written_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let store = open(&url(&path)).await.unwrap();
        let name = crate::model::Name::new("alice").unwrap();
        store.user_create(&name, "hash").await.unwrap();
        let found = examine(&path).await.unwrap();
        let Examination::Current { applied, users, now, .. } = found else { panic!("{found:?}") };
        assert_eq!((applied, users), (MIGRATIONS.iter().count(), 1));
        assert!(store.now().await.unwrap() >= now);
        assert_eq!(examine(&path).await.map(|_| ()).unwrap_or_else(|e| panic!("{e:?}")), (), "a second look");
        store.close().await;
    }

    #[tokio::test]
    async fn an_older_log_is_not_migrated_and_a_newer_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        raw(&path, "PRAGMA user_version = 0").await;
        let all = MIGRATIONS.iter().count();
        assert_eq!(examine(&path).await.unwrap(), Examination::Old { applied: 0, pending: all });
        open(&url(&path)).await.unwrap().close().await;
        raw(&path, "UPDATE _sqlx_migrations SET version = 999 WHERE version = 1").await;
        let error = examine(&path).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Config);
        assert!(error.to_string().contains("another version"), "{error}");
    }

    #[tokio::test]
    async fn another_programs_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.db");
        raw(&path, "CREATE TABLE songs (title TEXT)").await;
        assert_eq!(examine(&path).await.unwrap_err().kind(), StoreErrorKind::Config);
        std::fs::write(&path, "no database at all, but long enough to be told from one").unwrap();
        assert_eq!(examine(&path).await.unwrap_err().kind(), StoreErrorKind::Config);
    }
}
