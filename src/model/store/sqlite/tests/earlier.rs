//! A log that an earlier version has written.

use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions, Executor};

use super::super::connections::file_options;
use super::super::open::MIGRATIONS;
use crate::model::store::open;

#[tokio::test]
async fn the_node_table_of_the_first_version_is_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let mut earlier = file_options(&path).create_if_missing(true).connect().await.unwrap();
    let first: Vec<_> = MIGRATIONS.iter().take(1).cloned().collect();
    let first = Migrator { migrations: first.into(), ..Migrator::DEFAULT };
    first.run_direct(None, &mut earlier, false).await.unwrap();
    let row =
        "INSERT INTO nodes (node, epoch, holder, tcp, http, weight, state, bus_ok, sessions, beat_at, lease_until)
        VALUES ('a', 7, 'a process', 't:1', 'h:1', 1, 'ready', 1, 3, 5, 9000000000000)";
    earlier.execute(row).await.unwrap();
    let store = open(&format!("sqlite://{}", path.display())).await.unwrap();
    let (_, rows) = store.nodes().await.unwrap();
    assert_eq!((rows[0].epoch, rows[0].drain_asked_at), (7, None));
    assert!(store.node_drain(&rows[0].node, 7).await.unwrap());
    assert!(store.nodes().await.unwrap().1[0].drain_asked_at.is_some());
    store.close().await;
}
