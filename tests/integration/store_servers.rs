//! The log on real database servers: the contract, and what is particular to databases that several machines share.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use switchboard::model::store::contract::FreshLog;
use switchboard::model::store::{
    Append, CursorUpdate, Examination, Outcome, Range, Store, StoreConfig, StoreErrorKind, examine, exists, open,
};
use switchboard::model::{ConversationId, Key, MessageKind, Name, Seq, UserId};

use crate::harness::{DEADLINE, eventually};
use crate::store::Peer;

fn entry(conversation: ConversationId, sender: UserId, key: &str, kind: MessageKind) -> Append {
    let body = if kind == MessageKind::Text { format!("says {key}") } else { String::new() };
    Append { conversation, sender, key: Key::new(key).unwrap(), kind, body, friends_only: false }
}

fn text(conversation: ConversationId, sender: UserId, key: &str) -> Append {
    entry(conversation, sender, key, MessageKind::Text)
}

async fn user(store: &dyn Store, name: &str) -> UserId {
    store.user_create(&Name::new(name).unwrap(), "hash").await.unwrap()
}

/// Makes groups that both users are in.
async fn groups(store: &dyn Store, one: UserId, other: UserId, count: usize) -> Vec<ConversationId> {
    let mut groups = Vec::new();
    for number in 0..count {
        let group = store.group_create(one, "a group", "").await.unwrap().conversation;
        store.append(&[entry(group, other, &format!("join {number}"), MessageKind::Join)]).await.unwrap();
        groups.push(group);
    }
    groups
}

async fn keys_in_order(store: &dyn Store, group: ConversationId) -> Vec<String> {
    let range = Range { conversation: group, after: 0, until: Seq::MAX >> 1 };
    let entries = store.messages(&[range], 1_000_000).await.unwrap();
    let seqs: Vec<Seq> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=entries.len() as Seq).collect::<Vec<_>>(), "a hole or a double");
    assert_eq!(store.heads(&[group]).await.unwrap()[0].head, entries.len() as Seq);
    entries.into_iter().map(|entry| entry.key.as_str().to_owned()).collect()
}

/// Four writers on two stores, two of each, all with the same groups in other orders and the same keys, while both
/// readers move their cursors and a third user comes and goes.
async fn nodes_that_write_the_same_keys_to_the_same_groups_leave_no_hole_and_no_double(log: &impl FreshLog) {
    let stores = [log.open().await.unwrap(), log.open().await.unwrap()];
    let (one, other, guest) =
        (user(&*stores[0], "one").await, user(&*stores[0], "other").await, user(&*stores[0], "guest").await);
    let groups = groups(&*stores[0], one, other, 5).await;
    let writers = (0..4).map(|writer| {
        let (store, groups) = (Arc::clone(&stores[writer % 2]), groups.clone());
        tokio::spawn(async move {
            for round in 0..25 {
                let mut batch = Vec::new();
                for place in 0..30 {
                    // Each writer goes through the groups, and through the shared keys, in its own order.
                    let turned = if writer < 2 { place } else { 29 - place };
                    let group = groups[turned % groups.len()];
                    batch.push(text(group, one, &format!("shared {round} {turned}")));
                    batch.push(text(group, other, &format!("own {writer} {round} {turned}")));
                }
                for outcome in store.append(&batch).await.expect("no deadlock reaches a caller") {
                    assert!(matches!(outcome, Outcome::Stored { .. } | Outcome::Repeat { .. }), "{outcome:?}");
                }
            }
        })
    });
    let readers = [(0, one), (1, other)].map(|(store, user)| {
        let (store, groups) = (Arc::clone(&stores[store]), groups.clone());
        tokio::spawn(async move {
            for seq in 1..40 {
                let move_to = |&conversation| CursorUpdate { conversation, user, delivered: seq * 5, read: seq * 4 };
                store.cursors(&groups.iter().rev().map(move_to).collect::<Vec<_>>()).await.unwrap();
            }
        })
    });
    let (store, group) = (Arc::clone(&stores[1]), groups[0]);
    let passer_by = tokio::spawn(async move {
        for round in 0..20 {
            let come = entry(group, guest, &format!("come {round}"), MessageKind::Join);
            let go = entry(group, guest, &format!("go {round}"), MessageKind::Leave);
            for step in [come, go] {
                assert!(matches!(store.append(&[step]).await.unwrap()[0], Outcome::Stored { .. }));
            }
        }
    });
    for task in writers.chain(readers).chain([passer_by]) {
        task.await.unwrap();
    }
    let found = join_all(groups.iter().map(|group| keys_in_order(&*stores[1], *group))).await.concat();
    let distinct: HashSet<&String> = found.iter().collect();
    // Five joins, 25 rounds of 30 shared keys and of 30 of each of four writers, and the guest.
    assert_eq!((found.len(), distinct.len()), (5 + 750 + 4 * 750 + 40, found.len()));
}

/// Stops another process in the middle of its writing, as often as it takes to meet it inside of a transaction.
async fn a_node_that_is_stopped_in_its_transaction_holds_nobody_up_for_long(log: &impl FreshLog, url: &str) {
    let store = log.open().await.unwrap();
    let (one, other) = (user(&*store, "one").await, user(&*store, "other").await);
    let group = groups(&*store, one, other, 1).await[0];
    for round in 0..3 {
        let mut peer = Peer::start(url, &format!("{round} {one}"));
        peer.hear("ready").await;
        let before = store.heads(&[group]).await.unwrap()[0].head;
        peer.say("go").await;
        eventually("the peer writes", DEADLINE, || async {
            store.heads(&[group]).await.unwrap()[0].head > before + round
        })
        .await;
        let pid = Pid::from_raw(peer.id().cast_signed()).expect("a process id is not 0");
        kill_process(pid, Signal::STOP).unwrap();
        let key = format!("beside {round}");
        eventually("the log goes on", DEADLINE, || async {
            matches!(store.append(&[text(group, other, &key)]).await.as_deref(), Ok([Outcome::Stored { .. }]))
        })
        .await;
    }
    keys_in_order(&*store, group).await;
}

/// Looks at a database before, while and after it is a log.
async fn a_log_is_examined_without_being_changed(log: &impl FreshLog, url: &str) {
    assert!(matches!(examine(url).await.unwrap(), Examination::Old { applied: 0, pending: 1.. }));
    assert!(!exists(url).await.unwrap());
    let store = log.open().await.unwrap();
    user(&*store, "one").await;
    let Examination::Current { users, now, .. } = examine(url).await.unwrap() else { panic!("not up to date") };
    assert_eq!(users, 1);
    assert!(store.now().await.unwrap() >= now);
    assert!(matches!(examine(url).await.unwrap(), Examination::Current { .. }), "a second look");
    assert!(exists(url).await.unwrap());
}

/// Opens a database that another program uses, and one that does not exist.
async fn what_is_no_log_is_a_config_error(urls: [&str; 2]) {
    for url in urls {
        for error in [open(url).await.map(drop).unwrap_err(), examine(url).await.map(drop).unwrap_err()] {
            assert_eq!(error.kind(), StoreErrorKind::Config, "{error:?}");
            assert!(error.to_string().contains("store.url"), "{error}");
        }
    }
}

/// Starts several stores on an empty database at once.
async fn nodes_that_start_at_once_on_an_empty_database_found_one_cluster(log: &impl FreshLog) {
    let stores = join_all((0..4).map(|_| log.open())).await;
    let ids: HashSet<String> = stores.into_iter().map(|store| store.unwrap().meta().cluster_id.clone()).collect();
    assert_eq!(ids.len(), 1);
}

/// Ends the server under a writer, and starts it again.
async fn a_server_that_dies_and_comes_back_has_what_was_acknowledged(
    log: &impl FreshLog,
    kill: impl FnOnce(),
    start: impl Future<Output = ()>,
) {
    let store = log.open().await.unwrap();
    let (one, other) = (user(&*store, "one").await, user(&*store, "other").await);
    let group = groups(&*store, one, other, 1).await[0];
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                let key = format!("{number}");
                match store.append(&[text(group, one, &key)]).await {
                    Ok(_) => acknowledged.push(key),
                    Err(error) => {
                        assert!(error.is_retryable(), "{error:?}");
                        return (acknowledged, key);
                    }
                }
            }
            unreachable!("the server ends sooner")
        }
    });
    let head = async || store.heads(&[group]).await.unwrap()[0].head;
    eventually("something is written", DEADLINE, || async { head().await > 20 }).await;
    kill();
    let (acknowledged, in_doubt) =
        tokio::time::timeout(DEADLINE, writer).await.expect("the writer hears of it").unwrap();
    let error = store.heads(&[group]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
    start.await;
    eventually("the log is back", DEADLINE, || async { store.append(&[text(group, one, &in_doubt)]).await.is_ok() })
        .await;
    let found = keys_in_order(&*store, group).await;
    assert!(acknowledged.iter().all(|key| found.contains(key)));
    assert_eq!(found.iter().filter(|key| **key == in_doubt).count(), 1);
}

/// Holds every conversation's row, so that each call that appends waits, and its connection with it.
async fn a_lock_that_is_never_given_back_stops_no_call_for_long(url: &str, lock: impl Future<Output = ()>) {
    let wait = Duration::from_secs(1);
    let config = StoreConfig { url: url.to_owned(), connections: 2, connection_wait: wait, ..StoreConfig::default() };
    // The first connection of a busy server may take longer than such a pool allows.
    let store = eventually_open(&config).await;
    let (one, other) = (user(&*store, "one").await, user(&*store, "other").await);
    let groups = groups(&*store, one, other, 2).await;
    lock.await;
    let waiting = groups.into_iter().map(|group| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.append(&[text(group, one, &format!("to {group}"))]).await })
    });
    let waiting: Vec<_> = waiting.collect();
    eventually("both connections are taken", DEADLINE, || async {
        store.now().await.is_err_and(|error| {
            error.kind() == StoreErrorKind::Unavailable && error.to_string().contains("store.connections")
        })
    })
    .await;
    for call in waiting {
        let error = tokio::time::timeout(DEADLINE, call).await.expect("an answer in time").unwrap().unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        assert!(error.to_string().contains("holds a lock"), "{error}");
    }
    eventually("the connections are free again", DEADLINE, || async { store.now().await.is_ok() }).await;
}

async fn eventually_open(config: &StoreConfig) -> Arc<dyn Store> {
    let opened = std::sync::Mutex::new(None);
    eventually("the log opens", DEADLINE, || async {
        let store = config.open().await.ok();
        let is_open = store.is_some();
        *opened.lock().unwrap() = store;
        is_open
    })
    .await;
    opened.into_inner().unwrap().expect("it is open")
}

/// Appends batches of some sizes and counts what the server was asked for each. A batch with members who come or go
/// takes a few more.
async fn a_batch_takes_as_many_statements_whatever_its_size(
    store: &dyn Store,
    expected: (usize, usize),
    mut statements: impl AsyncFnMut() -> Vec<String>,
) {
    let (one, other) = (user(store, "one").await, user(store, "other").await);
    let groups = groups(store, one, other, 7).await;
    for size in [1, 50, 500] {
        let batch = (0..size).map(|place| text(groups[place % 7], one, &format!("{size} {place}")));
        let batch: Vec<Append> = batch.collect();
        statements().await;
        store.append(&batch).await.unwrap();
        let asked = statements().await;
        assert_eq!(asked.len(), expected.0, "{size}: {asked:#?}");
    }
    let moves = groups.iter().map(|group| entry(*group, other, &format!("leave {group}"), MessageKind::Leave));
    let moves: Vec<Append> = moves.collect();
    statements().await;
    store.append(&moves).await.unwrap();
    let asked = statements().await;
    assert_eq!(asked.len(), expected.1, "{asked:#?}");
}

/// Stamps cases of the chat on two nodes with a store each.
macro_rules! chat_on_server {
    ($log:ident; $($promise:ident :: $case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some(log) = $log::new().await else { return };
                let stores = vec![log.open().await.unwrap(), log.open().await.unwrap()];
                crate::harness::cluster::run_on(stores, crate::$promise::$case).await;
            }
        )*
    };
}

macro_rules! on_server {
    ($name:ident, $log:ident, $server:ident) => {
        mod $name {
            use switchboard::model::store::contract::FreshLog;

            use crate::harness::$name::{$log, $server};

            switchboard::store_contract!(
                contract,
                match $log::new().await {
                    Some(log) => log,
                    None => return,
                }
            );

            chat_on_server! { $log;
                groups::everybody_sees_one_order_while_members_of_both_nodes_speak
                keys::the_same_key_on_both_nodes_at_the_same_moment_is_one_message
                races::first_messages_that_cross_make_one_conversation
                resume::a_login_under_traffic_misses_and_repeats_nothing
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn nodes_that_write_the_same_keys_to_the_same_groups_leave_no_hole_and_no_double() {
                let Some(log) = $log::new().await else { return };
                super::nodes_that_write_the_same_keys_to_the_same_groups_leave_no_hole_and_no_double(&log).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_node_that_is_stopped_in_its_transaction_holds_nobody_up_for_long() {
                let Some(log) = $log::new().await else { return };
                super::a_node_that_is_stopped_in_its_transaction_holds_nobody_up_for_long(&log, log.url()).await;
            }

            #[tokio::test]
            async fn a_log_is_examined_without_being_changed() {
                let Some(log) = $log::new().await else { return };
                super::a_log_is_examined_without_being_changed(&log, log.url()).await;
            }

            #[tokio::test]
            async fn what_is_no_log_is_a_config_error() {
                let Some(log) = $log::new().await else { return };
                let foreign = sqlx::raw_sql("CREATE TABLE songs (title INTEGER)");
                foreign.execute(&mut log.connect().await).await.unwrap();
                super::what_is_no_log_is_a_config_error([log.url(), &log.nowhere()]).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_lock_that_is_never_given_back_stops_no_call_for_long() {
                let Some(log) = $log::new().await else { return };
                let mut operator = log.connect().await;
                let lock = async {
                    for sql in ["BEGIN", "SELECT id FROM conversations FOR UPDATE"] {
                        sqlx::raw_sql(sql).execute(&mut operator).await.unwrap();
                    }
                };
                super::a_lock_that_is_never_given_back_stops_no_call_for_long(log.url(), lock).await;
            }

            #[tokio::test]
            async fn nodes_that_start_at_once_on_an_empty_database_found_one_cluster() {
                let Some(log) = $log::new().await else { return };
                super::nodes_that_start_at_once_on_an_empty_database_found_one_cluster(&log).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_server_that_dies_and_comes_back_has_what_was_acknowledged() {
                let Some(server) = $server::start_new().await else { return };
                let log = $log::on(&server.url()).await;
                super::a_server_that_dies_and_comes_back_has_what_was_acknowledged(
                    &log,
                    || server.kill(),
                    server.start(),
                )
                .await;
            }
        }
    };
}

#[cfg(feature = "postgres")]
on_server!(postgres, PostgresLog, PostgresServer);
#[cfg(feature = "mysql")]
on_server!(mysql, MysqlLog, MysqlServer);

/// Begin, lock the heads, read, write, commit; with members, take them out, let them in, settle who owns.
#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_batch_on_postgresql_is_five_statements() {
    use crate::harness::postgres::{DATABASE, PostgresLog, PostgresServer};

    let Some(server) = PostgresServer::start_new().await else { return };
    let log = PostgresLog::on(&server.url()).await;
    let tell = sqlx::AssertSqlSafe(format!("ALTER DATABASE {DATABASE} SET log_statement = 'all'"));
    sqlx::raw_sql(tell).execute(&mut log.connect().await).await.unwrap();
    let store = log.open().await.unwrap();
    let mut seen = 0;
    a_batch_takes_as_many_statements_whatever_its_size(&*store, (5, 8), async || {
        let said = std::fs::read_to_string(server.log()).unwrap();
        let mark = format!("{DATABASE}:LOG:  ");
        let new = said[seen..].lines().filter_map(|line| line.strip_prefix(&mark));
        let new = new.filter(|what| what.starts_with("execute ") || what.starts_with("statement: "));
        let new = new.map(|what| what.chars().take(60).collect()).collect();
        seen = said.len();
        new
    })
    .await;
}

/// Begin, lock the heads, read, write heads, entries and cursors, commit; with members, take them out, let them in, and
/// take and give what they owned, while nobody's cursor moves.
#[cfg(feature = "mysql")]
#[tokio::test]
async fn a_batch_on_mysql_is_seven_statements() {
    use crate::harness::mysql::{MysqlLog, MysqlServer};

    let Some(server) = MysqlServer::start_new().await else { return };
    let log = MysqlLog::on(&server.url()).await;
    let store = log.open().await.unwrap();
    let mut operator = log.connect().await;
    for sql in ["SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 1"] {
        sqlx::raw_sql(sql).execute(&mut operator).await.unwrap();
    }
    // The pool may open a connection meanwhile, which is told of its session first.
    let ask = "SELECT CONVERT(LEFT(argument, 60) USING utf8mb4) FROM mysql.general_log WHERE argument NOT LIKE 'SET %'
        AND command_type IN ('Query', 'Execute') AND thread_id <> CONNECTION_ID()";
    let mut seen = 0;
    a_batch_takes_as_many_statements_whatever_its_size(&*store, (7, 10), async || {
        let mut all: Vec<String> = sqlx::query_scalar(ask).fetch_all(&mut operator).await.unwrap();
        let new = all.split_off(seen);
        seen += new.len();
        new
    })
    .await;
}
