use std::path::PathBuf;
use std::sync::Arc;

#[cfg(feature = "mysql")]
use super::mysql;
#[cfg(feature = "postgres")]
use super::postgres;
use super::sqlite::{self, SqliteStore};
use super::{Examination, Store, StoreConfig, StoreError, StoreErrorKind};

/// Which database a `store.url` names. The only place that knows which of them are compiled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// SQLite in memory.
    Memory,
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL server.
    #[cfg(feature = "postgres")]
    Postgres,
    /// A MySQL or MariaDB server.
    #[cfg(feature = "mysql")]
    Mysql,
}

impl Location {
    /// Reads a `store.url`.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        if url == "memory:" {
            return Ok(Self::Memory);
        }
        match url.split_once("://") {
            // A file name with a question mark is more likely the options of another program's URL.
            Some(("sqlite", path)) if !path.is_empty() && !path.contains('?') => Ok(Self::File(path.into())),
            #[cfg(feature = "postgres")]
            Some(("postgres" | "postgresql", _)) => postgres::check(url).map(|()| Self::Postgres),
            #[cfg(not(feature = "postgres"))]
            Some(("postgres" | "postgresql", _)) => Err(not_compiled(url, "PostgreSQL", "postgres")),
            #[cfg(feature = "mysql")]
            Some(("mysql" | "mariadb", _)) => mysql::check(url).map(|()| Self::Mysql),
            #[cfg(not(feature = "mysql"))]
            Some(("mysql" | "mariadb", _)) => Err(not_compiled(url, "MySQL and MariaDB", "mysql")),
            _ => Err(StoreError::new(
                StoreErrorKind::Config,
                format!(
                    "store.url = \"{}\": use sqlite://path/to/file.db, postgres://user:password@host/database, \
                     mysql://user:password@host/database, or memory: for a log that is gone with the process",
                    shown(url)
                ),
            )),
        }
    }

    /// Opens the log.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "mysql")),
        expect(unused_variables, reason = "a file says all of it by its path")
    )]
    pub(super) async fn open(self, config: &StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::Memory => Arc::new(SqliteStore::in_memory().await?),
            Self::File(path) => Arc::new(SqliteStore::in_file(&path).await?),
            #[cfg(feature = "postgres")]
            Self::Postgres => Arc::new(postgres::open(&config.url, config.limits()).await?),
            #[cfg(feature = "mysql")]
            Self::Mysql => Arc::new(mysql::open(&config.url, config.limits()).await?),
        })
    }

    /// Looks at the log.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "mysql")),
        expect(unused_variables, reason = "a file says all of it by its path")
    )]
    pub(super) async fn examine(self, url: &str) -> Result<Examination, StoreError> {
        match self {
            Self::Memory => Ok(Examination::Fleeting),
            Self::File(path) => sqlite::examine(&path).await,
            #[cfg(feature = "postgres")]
            Self::Postgres => postgres::examine(url).await,
            #[cfg(feature = "mysql")]
            Self::Mysql => mysql::examine(url).await,
        }
    }
}

#[cfg(not(all(feature = "postgres", feature = "mysql")))]
fn not_compiled(url: &str, name: &str, feature: &str) -> StoreError {
    StoreError::new(
        StoreErrorKind::Config,
        format!(
            "store.url = \"{}\": this build has no {name}; build it with --features {feature}, or use \
             sqlite://path/to/file.db",
            shown(url)
        ),
    )
}

/// Returns a `store.url` as it may be shown: with its password masked.
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // A password may hold an unescaped `/` or `@`, so everything up to the last `@` may belong to it.
    let rest = match rest.rsplit_once('@') {
        Some((credentials, host)) if scheme != "sqlite" => {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            let mask = if password.is_empty() { "" } else { ":***" };
            format!("{user}{mask}@{host}")
        }
        _ => rest.to_owned(),
    };
    // The other place for one, which both clients know.
    let rest = match rest.split_once("password=") {
        Some((before, after)) => {
            let behind = after.find('&').map_or("", |end| &after[end..]);
            format!("{before}password=***{behind}")
        }
        None => rest,
    };
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (url, safe) in [
            ("postgres://ann:secret@host/log", "postgres://ann:***@host/log"),
            ("mysql://ann:se@cr/et@host:3306/log?x=1", "mysql://ann:***@host:3306/log?x=1"),
            ("postgres://host/log?user=ann&password=secret&x=1", "postgres://host/log?user=ann&password=***&x=1"),
            ("postgres://ann@host/log", "postgres://ann@host/log"),
            ("sqlite://a:b@c.db", "sqlite://a:b@c.db"),
            ("memory:", "memory:"),
        ] {
            assert_eq!(shown(url), safe);
        }
        let error = Location::parse("oracle://ann:secret@host").unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("ann:***@host"), "{error}");
    }

    #[cfg(not(feature = "postgres"))]
    #[test]
    fn a_database_that_is_not_compiled_in_is_a_config_error_that_names_the_feature() {
        let error = Location::parse("postgres://ann:secret@host/log").unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Config);
        let text = error.to_string();
        assert!(text.contains("--features postgres") && !text.contains("secret"), "{text}");
    }

    #[cfg(not(feature = "mysql"))]
    #[test]
    fn mysql_that_is_not_compiled_in_is_a_config_error_that_names_the_feature() {
        for url in ["mysql://host/log", "mariadb://host/log"] {
            let error = Location::parse(url).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Config);
            assert!(error.to_string().contains("--features mysql"), "{error}");
        }
    }
}
