use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::error::DatabaseError;
use sqlx::migrate::Migrator;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError};
use sqlx::{ConnectOptions, MySql, MySqlConnection};
use tokio::time::timeout;

use super::MysqlStore;
use super::remote::{Limits, Pool, Refusal, Server, cannot_use, identity, migrate, store_error};
use crate::model::store::{Meta, StoreError, StoreErrorKind, shown};

/// What brings a database up to date.
pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/mysql");

/// What every session gets. The limits are the server's part of keeping a stopped or vanished node from holding a lock
/// for long. MariaDB alone, which alone reads the comment, can end a transaction in which nothing happens; its limit for
/// transactions that write would not count one that has only locked so far. Elsewhere an idle session ends, and the pool
/// opens another.
const SESSION: [&str; 2] = [
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION autocommit = 1, innodb_lock_wait_timeout = 2, lock_wait_timeout = 5, wait_timeout = 30,
        sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION' /*M! , idle_transaction_timeout = 2 */",
];

pub(super) const TABLES: &str = "
    SELECT CAST(table_name AS CHAR) FROM information_schema.tables
        WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' ORDER BY table_name";

/// The identity of the cluster is made when the database is new.
const FOUND: &str = "
    INSERT INTO meta (name, value) VALUES ('cluster_id', ?), ('token_key', ?) ON DUPLICATE KEY UPDATE name = name";

/// How long a node waits for another one's migration.
const MIGRATING: Duration = Duration::from_secs(300);

/// Names of locks are the whole server's, and shorter than a database's may be.
const LOCK: &str = "SELECT GET_LOCK(CONCAT('switchboard.', LEFT(SHA1(DATABASE()), 32)), ?)";
const UNLOCK: &str = "DO RELEASE_LOCK(CONCAT('switchboard.', LEFT(SHA1(DATABASE()), 32)))";

impl Server for MySql {
    fn prepare(connection: &mut MySqlConnection) -> BoxFuture<'_, Result<(), sqlx::Error>> {
        async move {
            for sql in SESSION {
                sqlx::raw_sql(sql).execute(&mut *connection).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn refusal(error: &dyn DatabaseError) -> Refusal {
        // https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html
        match error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number) {
            1062 | 1586 => Refusal::Taken,
            1020 | 1213 => Refusal::Collision,
            1205 => Refusal::Locked,
            1044 | 1045 | 1049 | 1142 | 1143 | 1227 | 1698 => Refusal::Barred,
            1048
            | 1153
            | 1216
            | 1217
            | 1264
            | 1292
            | 1364
            | 1366
            | 1406
            | 1451
            | 1452
            | 3140..=3160
            | 3819
            | 4025
            | 4037..=4044 => Refusal::Misfit,
            1021
            | 1040
            | 1041
            | 1053
            | 1114
            | 1152
            | 1154..=1161
            | 1184
            | 1203
            | 1226
            | 1290
            | 1317
            | 1792
            | 1836
            | 1927
            | 1969
            | 3024
            | 4031 => Refusal::Away,
            _ => Refusal::Wrong,
        }
    }
}

/// Checks a URL without connecting.
pub(in crate::model::store) fn check(url: &str) -> Result<(), StoreError> {
    options(url).map(drop)
}

const URL: &str = "write mysql://user:password@host:port/database";

fn options(url: &str) -> Result<MySqlConnectOptions, StoreError> {
    let options = MySqlConnectOptions::from_str(url).map_err(|error| cannot_use(&shown(url), URL, error))?;
    if options.get_database().is_none_or(str::is_empty) {
        return Err(cannot_use(&shown(url), URL, "it names no database"));
    }
    Ok(options.charset("utf8mb4").disable_statement_logging())
}

/// Opens the log on a server and brings it up to date.
pub(in crate::model::store) async fn open(url: &str, limits: Limits) -> Result<MysqlStore, StoreError> {
    let mut connection = connect(url, limits.wait).await?;
    let place = shown(url);
    lock(&mut connection, &place).await?;
    let tables = tables(&mut connection, &place).await?;
    migrate(&mut connection, &place, &tables, &MIGRATIONS).await?;
    let meta = found(&mut connection).await?;
    unlock(&mut connection).await?;
    Ok(MysqlStore { meta, pool: Arc::new(Pool::new(options(url)?, limits)) })
}

/// Keeps other nodes from bringing the database up to date at the same time. The migrator has a lock of its own, but asks
/// for it with a timeout below zero, by which MySQL means for ever and MariaDB not at all.
async fn lock(connection: &mut MySqlConnection, place: &str) -> Result<(), StoreError> {
    let taken: Result<Option<i64>, _> =
        sqlx::query_scalar(LOCK).bind(MIGRATING.as_secs().cast_signed()).fetch_one(connection).await;
    match taken.map_err(|error| store_error::<MySql>("locking the database", error))? {
        Some(1) => Ok(()),
        _ => {
            let context =
                format!("another node has been migrating {place} for {MIGRATING:?}; try again when it is done");
            Err(StoreError::new(StoreErrorKind::Unavailable, context))
        }
    }
}

async fn unlock(connection: &mut MySqlConnection) -> Result<(), StoreError> {
    let done = sqlx::raw_sql(UNLOCK).execute(connection).await;
    done.map(drop).map_err(|error| store_error::<MySql>("unlocking the database", error))
}

/// Connects as the pool does not: without its limits, because a migration may take its time.
pub(super) async fn connect(url: &str, wait: Duration) -> Result<MySqlConnection, StoreError> {
    let place = shown(url);
    let options = options(url)?;
    let away = || StoreError::new(StoreErrorKind::Unavailable, format!("{place} does not answer (store.url)"));
    let connecting = timeout(wait, options.connect()).await.map_err(|_| away())?;
    let mut connection = connecting.map_err(|error| match &error {
        sqlx::Error::Io(_) => away().caused_by(error),
        sqlx::Error::Database(database) => match MySql::refusal(database.as_ref()) {
            Refusal::Away => away().caused_by(error),
            _ => cannot_use(&place, "create the database and its user, and check the password", error),
        },
        sqlx::Error::Tls(_) => cannot_use(&place, "this build has no TLS: leave ssl-mode out, or use a tunnel", error),
        _ => cannot_use(&place, URL, error),
    })?;
    let ask = sqlx::query_scalar("SELECT CAST(VERSION() AS CHAR)").fetch_one(&mut connection).await;
    let version: String = ask.map_err(|error| store_error::<MySql>("asking for the version", error))?;
    if is_too_old(&version) {
        let cure = "use MySQL 8.0 or newer, or MariaDB 10.6 or newer";
        return Err(cannot_use(&place, cure, format!("its version is {version}")));
    }
    Ok(connection)
}

/// Tells whether a server lacks something that the statements use.
fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    let version_number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version_number < if version.contains("MariaDB") { (10, 6) } else { (8, 0) }
}

/// Returns the tables that are where ours would be.
pub(super) async fn tables(connection: &mut MySqlConnection, place: &str) -> Result<Vec<String>, StoreError> {
    let tables = sqlx::query_scalar(TABLES).fetch_all(connection).await;
    tables.map_err(|error| cannot_use(place, "this user must be able to read the database's tables", error))
}

async fn found(connection: &mut MySqlConnection) -> Result<Meta, StoreError> {
    let broken = |error| store_error::<MySql>("reading the identity of the cluster", error);
    let cluster_id = format!("{:016x}", rand::random::<u64>());
    let make = sqlx::query(FOUND).bind(cluster_id.as_bytes()).bind(&rand::random::<[u8; 32]>()[..]);
    make.execute(&mut *connection).await.map_err(broken)?;
    let ask = sqlx::query_as("SELECT CONVERT(name USING utf8mb4), value FROM meta");
    identity(ask.fetch_all(connection).await.map_err(broken)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_checked_before_anything_is_opened() {
        assert!(check("mysql://ann:secret@127.0.0.1:3306/log").is_ok());
        assert!(check("mariadb://ann@127.0.0.1/log").is_ok());
        for url in ["mysql://ann:secret@127.0.0.1:port/log", "mysql://ann:secret@127.0.0.1"] {
            let error = check(url).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Config);
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn servers_without_json_tables_are_too_old() {
        for version in ["8.0.36", "8.4.0", "9.1.0", "10.6.0-MariaDB", "11.4.2-MariaDB-log"] {
            assert!(!is_too_old(version), "{version}");
        }
        for version in ["5.7.44-log", "10.5.9-MariaDB", ""] {
            assert!(is_too_old(version), "{version}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_unavailable_and_not_a_wrong_config() {
        let limits = Limits { connections: 2, wait: Duration::from_secs(5) };
        let error = open("mysql://ann:secret@127.0.0.1:9/log", limits).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}
