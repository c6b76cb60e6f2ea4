//! Databases that cannot be used, and what the error says.

use std::error::Error;
use std::path::Path;

use sqlx::{ConnectOptions, Executor};

use super::super::connections::file_options;
use crate::model::store::{StoreErrorKind, open};

async fn refusal(path: &Path) -> String {
    let error = open(&format!("sqlite://{}", path.display())).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Config, "{error:?}");
    assert!(error.source().is_some());
    let text = error.to_string();
    assert!(text.contains("store.url") && text.contains(path.to_str().unwrap()), "{text}");
    text
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let letter = "Dear diary, ".repeat(1000);
    std::fs::write(&path, &letter).unwrap();
    assert!(refusal(&path).await.contains("must be a SQLite database"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), letter);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert!(refusal(&folder.path().join("file/data/log.db")).await.contains("folder that this user may write"));
}

#[tokio::test]
async fn a_folder_in_place_of_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    refusal(folder.path()).await;
}

#[tokio::test]
async fn a_database_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let mut other = file_options(&path).create_if_missing(true).connect().await.unwrap();
    other.execute("CREATE TABLE books (id TEXT)").await.unwrap();
    assert!(refusal(&path).await.contains("nothing but a log of switchboard"));
    let tables = other.fetch_all("SELECT name FROM sqlite_schema").await.unwrap();
    assert_eq!(tables.len(), 1);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    open(&format!("sqlite://{}", path.display())).await.unwrap().close().await;
    let mut newer = file_options(&path).connect().await.unwrap();
    let applied = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9999, 'later', TRUE, x'00', 1)";
    newer.execute(applied).await.unwrap();
    assert!(refusal(&path).await.contains("another version of switchboard; run that version or a newer one"));
}
