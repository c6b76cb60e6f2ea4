use sqlx::Connection;
use testcontainers::ImageExt;
use tokio::sync::OnceCell;

use super::images;
use super::recipe::Recipe;

/// PostgreSQL. The data is gone with the run: what a disk does to it is no matter.
#[cfg(feature = "postgres")]
pub(crate) static POSTGRES: Recipe = Recipe {
    image: images::POSTGRES,
    port: 5432,
    run: |request, _| {
        request
            .with_env_var("POSTGRES_USER", "switchboard")
            .with_env_var("POSTGRES_PASSWORD", "switchboard")
            .with_cmd(["postgres", "-c", "fsync=off", "-c", "max_connections=400"])
    },
    url: |place| format!("postgres://switchboard:switchboard@{place}/switchboard"),
    answers: |url| Box::pin(async move { sqlx::PgConnection::connect(&url).await.is_ok() }),
    shared: OnceCell::const_new(),
};

/// MariaDB.
#[cfg(feature = "mysql")]
pub(crate) static MARIADB: Recipe = Recipe {
    image: images::MARIADB,
    port: 3306,
    run: |request, _| {
        request.with_env_var("MARIADB_ROOT_PASSWORD", "switchboard").with_cmd([
            "mariadbd",
            "--innodb-flush-log-at-trx-commit=2",
            "--max-connections=400",
        ])
    },
    url: |place| format!("mysql://root:switchboard@{place}/mysql"),
    answers: |url| Box::pin(async move { sqlx::MySqlConnection::connect(&url).await.is_ok() }),
    shared: OnceCell::const_new(),
};
