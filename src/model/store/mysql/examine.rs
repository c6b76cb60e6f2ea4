use std::time::{Duration, Instant};

use sqlx::{Connection, MySql, MySqlConnection, Row};

use super::connect::{MIGRATIONS, connect, tables};
use super::heads::NOW;
use super::remote::{cannot_use, look, store_error};
use crate::model::store::decode::broken;
use crate::model::store::{Examination, StoreError, shown};

/// How long the server may take to let us in.
const WAIT: Duration = Duration::from_secs(5);

/// Looks at the log on a server.
pub(in crate::model::store) async fn examine(url: &str) -> Result<Examination, StoreError> {
    let mut connection = connect(url, WAIT).await?;
    let place = shown(url);
    let tables = tables(&mut connection, &place).await?;
    let (applied, pending) = look(&mut connection, &place, &tables, &MIGRATIONS).await?;
    if pending > 0 {
        return Ok(Examination::Old { applied, pending });
    }
    let cure = "it must be writable by this user, and not a standby";
    let commit = write(&mut connection).await.map_err(|error| cannot_use(&place, cure, error))?;
    let cannot_read = |error| store_error::<MySql>("reading the log", error);
    let users: i64 =
        sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(&mut connection).await.map_err(cannot_read)?;
    let now = sqlx::query(NOW).fetch_one(&mut connection).await.map_err(cannot_read)?.get(0);
    let users = u64::try_from(users).map_err(|_| broken("fewer users than none"))?;
    Ok(Examination::Current { applied, users, now, commit })
}

/// Writes a row and takes it back in one transaction: it reaches the disk like any other and leaves nothing behind.
async fn write(connection: &mut MySqlConnection) -> Result<Duration, sqlx::Error> {
    let began = Instant::now();
    let mut transaction = connection.begin().await?;
    sqlx::query("INSERT INTO meta (name, value) VALUES ('examined', '')").execute(&mut *transaction).await?;
    sqlx::query("DELETE FROM meta WHERE name = 'examined'").execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(began.elapsed())
}
