//! The write-ahead log does not grow without bound, and whoever empties it stops with its store.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{ConnectOptions, Executor};

use super::super::connections::file_options;
use super::super::{SqliteStore, checkpoint};
use super::FileLog;
use crate::model::Name;
use crate::model::store::Store;

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("{what} within 30 s"));
}

#[tokio::test]
async fn what_is_written_reaches_the_database_file_while_the_store_is_open() {
    let log = FileLog::new();
    let store = SqliteStore::in_file(&log.path()).await.unwrap();
    let size = || std::fs::metadata(log.path()).unwrap().len();
    let before = size();
    for number in 0..200 {
        store.user_create(&Name::new(&format!("user-{number}")).unwrap(), &"x".repeat(400)).await.unwrap();
    }
    eventually("a checkpoint", || size() > before + 200 * 400).await;
}

#[tokio::test]
async fn a_write_ahead_log_above_its_bound_is_begun_anew() {
    let log = FileLog::new();
    let store = SqliteStore::in_file(&log.path()).await.unwrap();
    let mut own = checkpoint::connect(&log.path()).await.unwrap();
    let ahead = format!("{}-wal", log.path().display());
    let size = || std::fs::metadata(&ahead).unwrap().len();
    let mut sizes = Vec::new();
    for number in 0..5 {
        store.user_create(&Name::new(&format!("user-{number}")).unwrap(), &"x".repeat(20_000)).await.unwrap();
        checkpoint::checkpoint(&store.connections, &mut own, 0).await.unwrap();
        sizes.push(size());
    }
    // The first may hold what the migrations wrote.
    assert!(sizes.iter().all(|&size| (1..=sizes[0].max(60_000)).contains(&size)), "{sizes:?}");
}

#[tokio::test]
async fn a_write_ahead_log_above_its_bound_waits_for_who_reads_its_end() {
    let log = FileLog::new();
    let store = SqliteStore::in_file(&log.path()).await.unwrap();
    store.user_create(&Name::new("one").unwrap(), "hash").await.unwrap();
    let mut own = checkpoint::connect(&log.path()).await.unwrap();
    let mut reader = file_options(&log.path()).connect().await.unwrap();
    reader.execute("BEGIN; SELECT count(*) FROM users").await.unwrap();
    let reads = Cell::new(true);
    let read = async {
        let begun = store.now().await.unwrap();
        while store.now().await.unwrap() < begun + 50 {}
        reads.set(false);
        reader.execute("COMMIT").await.unwrap();
    };
    let begin_anew = async {
        checkpoint::checkpoint(&store.connections, &mut own, 0).await.unwrap();
        assert!(!reads.get(), "the next writer would have gone on at the end");
    };
    tokio::join!(begin_anew, read);
}

#[tokio::test]
async fn the_checkpointer_stops_when_the_store_is_dropped() {
    let log = FileLog::new();
    let store = SqliteStore::in_file(&log.path()).await.unwrap();
    let connections = Arc::downgrade(&store.connections);
    drop(store);
    eventually("the end of the task", || connections.strong_count() == 0).await;
}
