//! What becomes of a transaction that fails half-way.

use futures_util::FutureExt;
use sqlx::Executor;

use super::super::SqliteStore;
use super::super::connections::{fetch_sets, file_options};
use super::super::failure::Failure;
use super::FileLog;
use crate::model::store::{Append, Outcome, Store, StoreErrorKind};
use crate::model::{ConversationId, Key, MessageKind, Name, UserId};

async fn two_users(store: &SqliteStore) -> (UserId, UserId) {
    let one = store.user_create(&Name::new("one").unwrap(), "hash").await.unwrap();
    (one, store.user_create(&Name::new("two").unwrap(), "hash").await.unwrap())
}

fn text(conversation: ConversationId, sender: UserId, key: &str) -> Append {
    let (key, kind) = (Key::new(key).unwrap(), MessageKind::Text);
    Append { conversation, sender, key, kind, body: "hello".to_owned(), friends_only: false }
}

#[tokio::test]
async fn an_entry_that_the_database_refuses_does_not_take_the_others_with_it() {
    let store = SqliteStore::in_memory().await.unwrap();
    let (one, two) = two_users(&store).await;
    let good = store.direct(&[(one, two)]).await.unwrap()[0].unwrap();
    let bad = store.group_create(one, "bad", "").await.unwrap().conversation;
    // The head is behind what is there, so that the next seq is taken.
    let ask = sqlx::query(
        "INSERT INTO messages (conversation, seq, sender, key, kind, body, at) VALUES ($1, 1, 1, 'x', 0, '', 0)",
    );
    store.connections.write("breaking the log", ask.bind(bad.get().cast_signed())).await.unwrap();

    let mut batch: Vec<Append> = (0..100).map(|n| text(good, one, &format!("{n}"))).collect();
    batch.insert(37, text(bad, one, "refused"));
    let outcomes = store.append(&batch).await.unwrap();
    assert_eq!(outcomes[37], Outcome::Refused);
    let seqs = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Stored { seq, .. } => Some(*seq),
        _ => None,
    });
    let seqs: Vec<_> = seqs.collect();
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
    assert_eq!(store.append(&[text(bad, one, "refused")]).await.unwrap(), [Outcome::Refused]);
}

#[tokio::test]
async fn a_failed_job_leaves_no_transaction_and_no_trace() {
    let log = FileLog::new();
    let store = SqliteStore::in_file(&log.path()).await.unwrap();
    let failed: Result<(), Failure> = store
        .connections
        .transaction(|connection| {
            async move {
                let half = "BEGIN IMMEDIATE; INSERT INTO users (name, folded, password_hash) VALUES ('a', 'a', '')";
                fetch_sets(connection, sqlx::query(half)).await?;
                fetch_sets(connection, sqlx::query("SELECT * FROM nowhere")).await?;
                Ok(())
            }
            .boxed()
        })
        .await;
    assert_eq!(failed.unwrap_err().into_store_error("a test").kind(), StoreErrorKind::Internal);
    assert!(store.user_by_name(&Name::new("a").unwrap()).await.unwrap().is_none());
    two_users(&store).await;
}

#[tokio::test]
async fn a_job_that_panics_takes_its_connection_with_it_and_the_store_goes_on() {
    let log = FileLog::new();
    let store = SqliteStore::in_file(&log.path()).await.unwrap();
    let failed: Result<(), Failure> = store
        .connections
        .transaction(|connection| {
            async move {
                let half = "BEGIN IMMEDIATE; INSERT INTO users (name, folded, password_hash) VALUES ('a', 'a', '')";
                fetch_sets(connection, sqlx::query(half)).await?;
                panic!("a test");
            }
            .boxed()
        })
        .await;
    assert_eq!(failed.unwrap_err().into_store_error("a test").kind(), StoreErrorKind::OutcomeUnknown);
    two_users(&store).await;
    assert!(store.user_by_name(&Name::new("a").unwrap()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_database_that_another_program_keeps_locked_is_unavailable() {
    use sqlx::ConnectOptions;

    let log = FileLog::new();
    let store = SqliteStore::in_file(&log.path()).await.unwrap();
    let (one, two) = two_users(&store).await;
    let mut other = file_options(&log.path()).connect().await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    store.connections.write("shortening the test", sqlx::query("PRAGMA busy_timeout = 1")).await.unwrap();
    let error = store.direct(&[(one, two)]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    other.execute("ROLLBACK").await.unwrap();
    assert!(store.direct(&[(one, two)]).await.unwrap()[0].is_some());
}

#[tokio::test]
async fn changes_are_stamped_with_the_time_at_which_the_lock_was_had() {
    use sqlx::ConnectOptions;

    let log = FileLog::new();
    let store = SqliteStore::in_file(&log.path()).await.unwrap();
    let (one, two) = two_users(&store).await;
    let place = store.group_create(one, "a group", "").await.unwrap().conversation;
    for round in 0..3 {
        let mut other = file_options(&log.path()).connect().await.unwrap();
        other.execute("BEGIN IMMEDIATE").await.unwrap();
        let release = async {
            // So long that whoever takes the time before it waits for the lock takes an earlier one.
            let begun = store.now().await.unwrap();
            while store.now().await.unwrap() < begun + 50 {}
            let held_until = store.now().await.unwrap();
            other.execute("ROLLBACK").await.unwrap();
            held_until
        };
        let write = async {
            match round {
                0 => store.append(&[text(place, one, "key")]).await.map(|_| place),
                1 => store.direct(&[(one, two)]).await.map(|found| found[0].unwrap()),
                _ => store.group_create(one, "another", "").await.map(|group| group.conversation),
            }
        };
        let (written, held_until) = tokio::join!(write, release);
        let (written, changes) = (written.unwrap(), store.changes(held_until).await.unwrap());
        assert!(changes.heads.iter().any(|head| head.conversation == written), "round {round}");
        assert_eq!(changes.members.iter().any(|(of, _)| *of == written), round > 0, "round {round}");
    }
}
