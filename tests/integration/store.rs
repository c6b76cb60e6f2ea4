//! Several processes share one SQLite file.
//!
//! The other processes are this test program again: [`a_peer`] does nothing unless the environment tells it what to do.

use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;

use crate::harness::DEADLINE;
use switchboard::model::store::{Append, Outcome, Range, Store, StoreErrorKind, open};
use switchboard::model::{ConversationId, Key, MessageKind, Name, Seq, UserId};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const URL: &str = "SWITCHBOARD_TEST_PEER_URL";
const JOB: &str = "SWITCHBOARD_TEST_PEER_JOB";

/// A process that runs [`a_peer`]; it ends with this value at the latest.
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// Starts a process that opens a log, for `<prefix> <sender>` to write to it.
    pub(crate) fn start(url: &str, job: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::a_peer", "--nocapture"])
            .env(URL, url)
            .env(JOB, job)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output).lines() }
    }

    /// Returns its process id.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub(crate) async fn say(&mut self, word: &str) {
        self.input.write_all(format!("{word}\n").as_bytes()).await.unwrap();
        self.input.flush().await.unwrap();
    }

    /// Waits for the line that begins with a word and returns its rest.
    pub(crate) async fn hear(&mut self, word: &str) -> String {
        let hearing = async {
            while let Some(line) = self.output.next_line().await.unwrap() {
                if let Some((_, rest)) = line.split_once(&format!("peer {word}:")) {
                    return rest.trim().to_owned();
                }
            }
            panic!("the peer ended without saying {word}");
        };
        tokio::time::timeout(DEADLINE, hearing).await.expect("an answer within 30 s")
    }

    async fn ends_well(mut self) {
        let status = tokio::time::timeout(DEADLINE, self.child.wait()).await.expect("an end within 30 s").unwrap();
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn a_peer() {
    let (Ok(url), Ok(job)) = (std::env::var(URL), std::env::var(JOB)) else { return };
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    match job.split_once(' ') {
        None => {
            println!("peer ready:");
            orders.next_line().await.unwrap();
            let store = open(&url).await.unwrap();
            println!("peer cluster: {}", store.meta().cluster_id);
            store.close().await;
        }
        Some((prefix, sender)) => {
            let store = open(&url).await.unwrap();
            println!("peer ready:");
            orders.next_line().await.unwrap();
            write(&*store, prefix, UserId::new(sender.parse().unwrap()).unwrap()).await;
            store.close().await;
        }
    }
}

/// What every writer does: its own messages in batches of all sizes, and between them some that the others send too.
async fn write(store: &dyn Store, prefix: &str, sender: UserId) {
    let places: Vec<ConversationId> =
        store.conversations_of(&[sender]).await.unwrap().iter().map(|(_, head)| head.conversation).collect();
    let mut sent = 0;
    for round in 0..60 {
        let mut batch: Vec<Append> = Vec::new();
        for _ in 0..1 + round * 7 % 20 {
            batch.push(text(places[sent % places.len()], sender, &format!("{prefix} {sent}")));
            sent += 1;
        }
        batch.push(text(places[round % places.len()], sender, &format!("shared {round}")));
        for outcome in store.append(&batch).await.unwrap() {
            assert!(matches!(outcome, Outcome::Stored { .. } | Outcome::Repeat { .. }), "{outcome:?}");
        }
    }
}

fn text(conversation: ConversationId, sender: UserId, key: &str) -> Append {
    Append {
        conversation,
        sender,
        key: Key::new(key).unwrap(),
        kind: MessageKind::Text,
        body: format!("says {key}"),
        friends_only: false,
    }
}

fn sent_by_each() -> usize {
    (0..60).map(|round| 1 + round * 7 % 20).sum()
}

fn url_of(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

#[tokio::test]
async fn two_processes_append_to_the_same_conversations_without_a_hole_or_a_double() {
    let folder = tempfile::tempdir().unwrap();
    let url = url_of(&folder.path().join("log.db"));
    let store = open(&url).await.unwrap();
    let one = store.user_create(&Name::new("one").unwrap(), "hash").await.unwrap();
    let two = store.user_create(&Name::new("two").unwrap(), "hash").await.unwrap();
    let mut places = vec![store.direct(&[(one, two)]).await.unwrap()[0].unwrap()];
    for _ in 0..2 {
        places.push(store.group_create(one, "a group", "").await.unwrap().conversation);
    }

    let mut peers = [Peer::start(&url, &format!("a {one}")), Peer::start(&url, &format!("b {one}"))];
    for peer in &mut peers {
        peer.hear("ready").await;
    }
    for peer in &mut peers {
        peer.say("go").await;
    }
    // This process writes as well.
    write(&*store, "c", one).await;
    for peer in peers {
        peer.ends_well().await;
    }

    let mut keys = HashSet::new();
    let mut count = 0;
    for conversation in places {
        let range = Range { conversation, after: 0, until: Seq::MAX >> 1 };
        let entries = store.messages(&[range], 1_000_000).await.unwrap();
        let seqs: Vec<Seq> = entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs, (1..=entries.len() as Seq).collect::<Vec<_>>());
        assert_eq!(store.heads(&[conversation]).await.unwrap()[0].head, entries.len() as Seq);
        count += entries.len();
        keys.extend(entries.into_iter().map(|entry| entry.key.as_str().to_owned()));
    }
    let mut expected: HashSet<String> = (0..60).map(|round| format!("shared {round}")).collect();
    for prefix in ["a", "b", "c"] {
        expected.extend((0..sent_by_each()).map(|number| format!("{prefix} {number}")));
    }
    assert_eq!((count, keys.len()), (expected.len(), expected.len()));
    assert_eq!(keys, expected);
}

#[tokio::test]
async fn two_processes_that_start_at_once_on_an_empty_folder_found_one_cluster() {
    for round in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let url = url_of(&folder.path().join(format!("new/folder/{round}.db")));
        let mut peers = [Peer::start(&url, "open"), Peer::start(&url, "open"), Peer::start(&url, "open")];
        for peer in &mut peers {
            peer.hear("ready").await;
        }
        for peer in &mut peers {
            peer.say("go").await;
        }
        let mut clusters = HashSet::new();
        for mut peer in peers {
            clusters.insert(peer.hear("cluster").await);
            peer.ends_well().await;
        }
        assert_eq!(clusters.len(), 1, "{clusters:?}");
        assert!(clusters.contains(&open(&url).await.unwrap().meta().cluster_id));
    }
}

#[tokio::test]
async fn a_process_that_is_killed_while_it_writes_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let url = url_of(&folder.path().join("log.db"));
    let store = open(&url).await.unwrap();
    let one = store.user_create(&Name::new("one").unwrap(), "hash").await.unwrap();
    let place = store.group_create(one, "a group", "").await.unwrap().conversation;
    let mut peer = Peer::start(&url, &format!("a {one}"));
    peer.hear("ready").await;
    peer.say("go").await;
    let head = async || store.heads(&[place]).await.unwrap()[0].head;
    let writing = async {
        while head().await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, writing).await.expect("a first message within 30 s");
    peer.child.kill().await.unwrap();
    let appended = tokio::time::timeout(DEADLINE, store.append(&[text(place, one, "afterwards")])).await;
    assert!(matches!(appended.expect("an answer within 30 s").unwrap()[0], Outcome::Stored { .. }));
    let range = Range { conversation: place, after: 0, until: Seq::MAX >> 1 };
    let seqs: Vec<Seq> = store.messages(&[range], 1_000_000).await.unwrap().iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as Seq).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_path_that_cannot_be_used_is_a_config_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    for path in [folder.path().join("file/log.db"), folder.path().to_owned()] {
        let error = open(&url_of(&path)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Config, "{error:?}");
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains("store.url"), "{text}");
    }
}
