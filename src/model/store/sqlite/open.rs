use std::path::{Path, PathBuf};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{ConnectOptions, SqliteConnection};

use super::connections::{fetch_sets, memory_options, writer_options};
use super::decode::{broken, text};
use super::file_lock::FileLock;
use crate::model::store::{Meta, StoreError, StoreErrorKind};

/// What brings a database up to date.
pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/sqlite");

/// Opens a new database in memory.
pub(super) async fn in_memory() -> Result<(SqliteConnection, Meta), StoreError> {
    #[cfg(test)]
    let _clock = super::standstill::Standstill::begin();
    let cannot = |error| refused("memory:", "check that this machine has memory left", error);
    let mut connection = memory_options().connect().await.map_err(cannot)?;
    let meta = prepare(&mut connection, Path::new("memory:")).await?;
    Ok((connection, meta))
}

/// Opens a file and brings it up to date, one process at a time. Creates it, and its folder, when they are missing.
pub(super) async fn in_file(path: &Path) -> Result<(SqliteConnection, Meta, PathBuf, FileLock), StoreError> {
    #[cfg(test)]
    let _clock = super::standstill::Standstill::begin();
    let shown = path.display();
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        let cure = "choose a folder that this user may write, or create it";
        tokio::fs::create_dir_all(folder).await.map_err(|error| refused(&shown, cure, error))?;
    }
    // By whatever link a process reaches the file, it must meet the others at the same lock.
    let path = tokio::fs::canonicalize(path).await.unwrap_or_else(|_| path.to_owned());
    let lock_path = FileLock::path_for(&path);
    let cannot_lock = |error| {
        let cure = "the lock beside the database must be writable; choose a folder that this user may write";
        refused(lock_path.display(), cure, error)
    };
    let lock = FileLock::open(&lock_path).map_err(cannot_lock)?;
    let held = lock.acquire().await.map_err(cannot_lock)?;
    let connecting = writer_options(&path).connect().await;
    let mut connection = connecting.map_err(|error| {
        refused(&shown, "it must be a SQLite database, or not exist yet, in a folder that this user may write", error)
    })?;
    let meta = prepare(&mut connection, &path).await?;
    drop(held);
    Ok((connection, meta, path, lock))
}

async fn prepare(connection: &mut SqliteConnection, path: &Path) -> Result<Meta, StoreError> {
    migrate(connection, path).await?;
    identity(connection).await.map_err(|error| refused(path.display(), "move it away to start with a new log", error))
}

async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    const OURS: &str =
        "it must be writable and hold nothing but a log of switchboard; move it away to start with a new log";
    // Another program's database must not get our tables.
    let ask = sqlx::query(
        "SELECT name FROM sqlite_schema WHERE type = 'table'
            AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations')",
    );
    let foreign = fetch_sets(connection, ask).await.map_err(|error| refused(path.display(), OURS, error))?;
    if let Some(row) = foreign[0].first() {
        return Err(refused(path.display(), OURS, format!("it holds a table `{}`", text(row, 0)?)));
    }
    MIGRATIONS.run_direct(None, connection, false).await.map_err(|error| {
        let cure = match error {
            MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) => {
                "it was written by another version of switchboard; run that version or a newer one, or move it away"
            }
            _ => OURS,
        };
        refused(path.display(), cure, error)
    })
}

/// Reads the identity of the cluster, and makes it when the database is new.
async fn identity(connection: &mut SqliteConnection) -> Result<Meta, Box<dyn std::error::Error + Send + Sync>> {
    let cluster_id = format!("{:016x}", rand::random::<u64>());
    let ask = sqlx::query(
        "INSERT INTO meta (key, value) VALUES ('cluster_id', $1), ('token_key', $2) ON CONFLICT DO NOTHING;
         SELECT CAST(value AS TEXT) FROM meta WHERE key = 'cluster_id';
         SELECT hex(value) FROM meta WHERE key = 'token_key'",
    );
    let ask = ask.bind(cluster_id.into_bytes()).bind(rand::random::<[u8; 32]>().to_vec());
    let sets = fetch_sets(connection, ask).await?;
    let (cluster_id, token_key) = (text(&sets[1][0], 0)?, text(&sets[2][0], 0)?);
    let is_hex = cluster_id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if cluster_id.len() != 16 || !is_hex {
        return Err(broken("an invalid cluster id").into());
    }
    if token_key.len() != 64 {
        return Err(broken("an invalid token key").into());
    }
    let byte = |at| u8::from_str_radix(&token_key[at..at + 2], 16);
    let token_key = (0..64).step_by(2).map(byte).collect::<Result<_, _>>()?;
    Ok(Meta { cluster_id, token_key })
}

/// Says that a place cannot be the log, and what to do about it.
pub(super) fn refused(
    place: impl std::fmt::Display,
    cure: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::new(StoreErrorKind::Config, format!("cannot use {place} as the log (store.url): {cure}"))
        .caused_by(error)
}
