use std::str::FromStr;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::error::DatabaseError;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection, Postgres, Row};
use tokio::time::timeout;

use super::PostgresStore;
use super::remote::{Limits, Pool, Refusal, Server, cannot_use, identity, migrate, store_error};
use crate::model::store::{Meta, StoreError, StoreErrorKind, shown};

/// What brings a database up to date.
pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/postgres");

/// The oldest version whose SQL has all that the statements use.
const OLDEST: i32 = 120_000;

/// What every session gets. The limits are the server's part of keeping a stopped or vanished node from holding a lock
/// for long. A statement has no limit: it would also end the wait of a commit for a standby, and the server would then say
/// that all is well. A database that is set to forget commits at a crash must not be believed. Every statement looks rows up by an index: a plan that was made while a table was small must not walk
/// through it when it has grown.
const SESSION: &str = "
    SELECT set_config('lock_timeout', '2s', false), set_config('idle_in_transaction_session_timeout', '2s', false),
        set_config('statement_timeout', '0', false),
        set_config('default_transaction_isolation', 'read committed', false),
        set_config('synchronous_commit',
            CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit')
            END, false),
        set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),
        set_config('enable_mergejoin', 'off', false), set_config('jit', 'off', false),
        set_config('plan_cache_mode', 'force_generic_plan', false)";

pub(super) const TABLES: &str = "
    SELECT table_name::text FROM information_schema.tables
        WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' ORDER BY table_name";

/// The identity of the cluster is made when the database is new.
const FOUND: &str = "
    INSERT INTO meta (key, value) VALUES ('cluster_id', $1), ('token_key', $2) ON CONFLICT (key) DO NOTHING";

impl Server for Postgres {
    fn prepare(connection: &mut PgConnection) -> BoxFuture<'_, Result<(), sqlx::Error>> {
        async move { sqlx::query(SESSION).persistent(false).execute(connection).await.map(drop) }.boxed()
    }

    fn refusal(error: &dyn DatabaseError) -> Refusal {
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        let code = error.code().unwrap_or_default();
        match &*code {
            "23505" => Refusal::Taken,
            "40001" | "40P01" => Refusal::Collision,
            "55P03" => Refusal::Locked,
            "3D000" | "42501" => Refusal::Barred,
            // The server's own limits: a statement or a transaction that took too long.
            "57014" | "25P03" | "25P04" | "25006" => Refusal::Away,
            _ => match code.get(..2) {
                Some("22" | "23") => Refusal::Misfit,
                Some("28") => Refusal::Barred,
                Some("08" | "53" | "57" | "58") => Refusal::Away,
                _ => Refusal::Wrong,
            },
        }
    }
}

/// Checks a URL without connecting.
pub(in crate::model::store) fn check(url: &str) -> Result<(), StoreError> {
    options(url).map(drop)
}

fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let cure = "write postgres://user:password@host:port/database";
    let options = PgConnectOptions::from_str(url).map_err(|error| cannot_use(&shown(url), cure, error))?;
    Ok(options.application_name("switchboard").disable_statement_logging())
}

/// Opens the log on a server and brings it up to date.
pub(in crate::model::store) async fn open(url: &str, limits: Limits) -> Result<PostgresStore, StoreError> {
    let mut connection = connect(url, limits.wait).await?;
    let place = shown(url);
    let tables = tables(&mut connection, &place).await?;
    migrate(&mut connection, &place, &tables, &MIGRATIONS).await?;
    let meta = found(&mut connection).await?;
    drop(connection);
    Ok(PostgresStore { meta, pool: Arc::new(Pool::new(options(url)?, limits)) })
}

/// Connects as the pool does not: without its limits, because a migration may take its time.
pub(super) async fn connect(url: &str, wait: std::time::Duration) -> Result<PgConnection, StoreError> {
    let place = shown(url);
    let options = options(url)?;
    let away = || StoreError::new(StoreErrorKind::Unavailable, format!("{place} does not answer (store.url)"));
    let connecting = timeout(wait, options.connect()).await.map_err(|_| away())?;
    let mut connection = connecting.map_err(|error| match &error {
        sqlx::Error::Io(_) => away().caused_by(error),
        sqlx::Error::Database(database) => match Postgres::refusal(database.as_ref()) {
            Refusal::Away => away().caused_by(error),
            _ => cannot_use(&place, "create the database and its user, and check the password", error),
        },
        sqlx::Error::Tls(_) => cannot_use(&place, "this build has no TLS: leave sslmode out, or use a tunnel", error),
        _ => cannot_use(&place, "write postgres://user:password@host:port/database", error),
    })?;
    let ask = "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
        current_schema() IS NOT NULL";
    let row = sqlx::query(ask).fetch_one(&mut connection).await;
    let row = row.map_err(|error| store_error::<Postgres>("asking for the version", error))?;
    let (version, encoding, has_schema): (i32, String, bool) = (row.get(0), row.get(1), row.get(2));
    if version < OLDEST {
        return Err(cannot_use(&place, "use PostgreSQL 12 or newer", format!("its version is {version}")));
    }
    if encoding != "UTF8" {
        let cure = "create the database with ENCODING 'UTF8' TEMPLATE template0";
        return Err(cannot_use(&place, cure, format!("its encoding is {encoding}")));
    }
    if !has_schema {
        let cure = "create the schema that search_path names, and let this user use it";
        return Err(cannot_use(&place, cure, "no schema of its search_path exists"));
    }
    Ok(connection)
}

/// Returns the tables that are where ours would be.
pub(super) async fn tables(connection: &mut PgConnection, place: &str) -> Result<Vec<String>, StoreError> {
    let tables = sqlx::query_scalar(TABLES).fetch_all(connection).await;
    tables.map_err(|error| cannot_use(place, "this user must be able to read the database's schema", error))
}

async fn found(connection: &mut PgConnection) -> Result<Meta, StoreError> {
    let broken = |error| store_error::<Postgres>("reading the identity of the cluster", error);
    let cluster_id = format!("{:016x}", rand::random::<u64>());
    let make = sqlx::query(FOUND).bind(cluster_id.as_bytes()).bind(&rand::random::<[u8; 32]>()[..]);
    make.execute(&mut *connection).await.map_err(broken)?;
    let rows = sqlx::query_as("SELECT key, value FROM meta").fetch_all(connection).await.map_err(broken)?;
    identity(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_checked_before_anything_is_opened() {
        assert!(check("postgres://ann:secret@127.0.0.1:5432/log").is_ok());
        let error = check("postgres://ann:secret@127.0.0.1:port/log").unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Config);
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_unavailable_and_not_a_wrong_config() {
        let error = open(
            "postgres://ann:secret@127.0.0.1:9/log",
            Limits { connections: 2, wait: std::time::Duration::from_secs(5) },
        );
        let error = error.await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}
