use std::collections::HashMap;

use sqlx::migrate::{Migrate, MigrateError, Migrator};

use super::server::cannot_use;
use crate::model::store::StoreError;

/// The table in which sqlx keeps what was applied.
pub(in crate::model::store) const MIGRATED: &str = "_sqlx_migrations";

const OURS: &str = "it must be empty, or a log of switchboard, and this user must be its owner";
const OTHER_VERSION: &str = "it was written by another version of switchboard; run that version or a newer one";

/// Brings a database up to date, one process at a time. `tables` are those that it has.
pub(in crate::model::store) async fn migrate<C: Migrate>(
    connection: &mut C,
    place: &str,
    tables: &[String],
    migrations: &Migrator,
) -> Result<(), StoreError> {
    refuse_foreign(place, tables)?;
    migrations.run_direct(None, connection, false).await.map_err(|error| {
        let cure = match error {
            MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_) => OTHER_VERSION,
            MigrateError::Dirty(_) => {
                "an earlier migration broke off half-way; restore a backup, or begin with an empty database"
            }
            _ => OURS,
        };
        cannot_use(place, cure, error)
    })
}

/// Tells how many migrations a database has and how many it lacks, without changing it.
pub(in crate::model::store) async fn look<C: Migrate>(
    connection: &mut C,
    place: &str,
    tables: &[String],
    migrations: &Migrator,
) -> Result<(usize, usize), StoreError> {
    refuse_foreign(place, tables)?;
    let mut known: HashMap<i64, &[u8]> =
        migrations.iter().map(|migration| (migration.version, &*migration.checksum)).collect();
    if tables.is_empty() {
        return Ok((0, known.len()));
    }
    let refuse = |error| cannot_use(place, OURS, error);
    if let Some(version) = connection.dirty_version(MIGRATED).await.map_err(refuse)? {
        return Err(cannot_use(place, OTHER_VERSION, format!("migration {version} broke off half-way")));
    }
    let applied = connection.list_applied_migrations(MIGRATED).await.map_err(refuse)?;
    for migration in &applied {
        if known.remove(&migration.version) != Some(&*migration.checksum) {
            let what = format!("migration {} is not as this version has it", migration.version);
            return Err(cannot_use(place, OTHER_VERSION, what));
        }
    }
    Ok((applied.len(), known.len()))
}

/// Another program's database must not get our tables.
fn refuse_foreign(place: &str, tables: &[String]) -> Result<(), StoreError> {
    match tables.first() {
        Some(table) if !tables.iter().any(|table| table == MIGRATED) => {
            Err(cannot_use(place, OURS, format!("it holds a table `{table}` of another program")))
        }
        _ => Ok(()),
    }
}
