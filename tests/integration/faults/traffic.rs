//! Steady traffic between users on several nodes, and the books of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use switchboard::bench::ledger::{Ledger, Party, Tally};
use switchboard::model::{ConversationId, Key, UserId};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::harness::{DEADLINE, User, eventually};

/// Each user says something this often, in turn to a user of the next node and to all.
const PACE: Duration = Duration::from_millis(200);

/// How many messages of one user may be under way.
const WINDOW: usize = 8;

/// How long a client waits that finds nobody.
const BACKOFF: Duration = Duration::from_millis(100);

/// Users who talk without end.
pub(crate) struct Traffic {
    talkers: Vec<Talking>,
    ledger: Arc<Mutex<Ledger>>,
    /// No more messages; what is under way is finished.
    enough: CancellationToken,
    /// Good-bye.
    end: CancellationToken,
}

struct Talking {
    name: String,
    talks: bool,
    progress: watch::Receiver<Progress>,
    task: JoinHandle<()>,
}

/// How far one user is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Messages that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Messages that came from users who began on another node.
    pub(crate) from_afar: u64,
    /// What the node has said of its own condition, in this user's session.
    pub(crate) conditions: Vec<String>,
    /// The nodes that this user has been on.
    pub(crate) nodes: Vec<String>,
    /// The codes that sessions were closed with; none for those that were cut.
    pub(crate) closings: Vec<Option<u64>>,
    /// Everything that was said is acknowledged.
    idle: bool,
}

/// One user.
struct Talker {
    address: SocketAddr,
    id: u64,
    token: String,
    party: Party,
    ledger: Arc<Mutex<Ledger>>,
    /// Who began on another node.
    afar: Vec<u64>,
    /// Otherwise this user only listens.
    talks: bool,
    /// Where this user talks: the conversation and the highest seq that came.
    places: BTreeMap<u64, u64>,
    /// What was said and not acknowledged, in order.
    waiting: VecDeque<Said>,
    said: u64,
    progress: watch::Sender<Progress>,
    enough: CancellationToken,
    end: CancellationToken,
}

struct Said {
    key: String,
    line: String,
    /// When it is to be said again.
    again: Option<Instant>,
}

struct Link {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Traffic {
    /// Brings users together and has them talk: each with a partner at the next address, and all in one group.
    pub(crate) async fn start(addresses: &[SocketAddr], users: usize) -> Self {
        Self::start_before(addresses, users, &[]).await
    }

    /// Does as [`start`](Self::start), and has one user at each of some more addresses who is in the group and says
    /// nothing: what a node says itself must not be what saves it.
    pub(crate) async fn start_before(addresses: &[SocketAddr], users: usize, audience: &[SocketAddr]) -> Self {
        let mut members = Vec::new();
        let mut group = None;
        let talking = addresses.iter().cycle().take(users);
        for (number, &address) in talking.chain(audience).enumerate() {
            let mut user = User::new(address, &format!("user-{number}")).await;
            let joined = match group {
                Some(group) => user.join(group).await,
                None => {
                    group = Some(user.found("everybody").await);
                    0
                }
            };
            members.push((user, address, joined));
        }
        let group = group.expect("there are users");
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let (enough, end) = (CancellationToken::new(), CancellationToken::new());
        let mut talkers: Vec<Talker> = members
            .iter()
            .enumerate()
            .map(|(number, (user, address, joined))| {
                let id = UserId::new(user.id).expect("an id");
                let party = book(&ledger).party(id, &*user.name);
                let others = members.iter().filter(|(other, ..)| other.node != user.node);
                let mut talker = Talker {
                    address: *address,
                    id: user.id,
                    token: user.token.clone(),
                    party,
                    ledger: Arc::clone(&ledger),
                    afar: others.map(|(other, ..)| other.id).collect(),
                    talks: number < users,
                    places: BTreeMap::new(),
                    waiting: VecDeque::new(),
                    said: 0,
                    progress: watch::Sender::default(),
                    enough: enough.clone(),
                    end: end.clone(),
                };
                talker.enter(group, *joined);
                talker
            })
            .collect();
        for pair in 0..users / 2 {
            let (one, other) = (2 * pair, 2 * pair + 1);
            let to = members[other].0.id;
            // Others are still coming in.
            members[one].0.say(json!({"type": "send", "key": "hello", "to": to, "body": "hello"})).await;
            let sent = members[one].0.hear_past(&["message", "conversation"], "sent").await;
            let conversation = sent["conversation"].as_u64().expect("an id");
            talkers[one].enter(conversation, 1);
            talkers[other].enter(conversation, 1);
        }
        let talkers = talkers
            .into_iter()
            .zip(&members)
            .map(|(talker, (user, ..))| {
                let progress = talker.progress.subscribe();
                let (name, talks) = (user.name.clone(), talker.talks);
                Talking { name, talks, progress, task: tokio::spawn(talker.run()) }
            })
            .collect();
        let mut traffic = Self { talkers, ledger, enough, end };
        traffic.flows().await;
        traffic
    }

    /// Waits until everybody has had messages acknowledged, and heard from afar, that were said after now.
    pub(crate) async fn flows(&mut self) {
        let before: Vec<Progress> = self.progress();
        // What was under way before counts for nothing.
        let enough = WINDOW as u64 + 1;
        let talks: Vec<bool> = self.talkers.iter().map(|talking| talking.talks).collect();
        self.all("said and heard more", |place, now| {
            let before = &before[place];
            let said = !talks[place] || now.acknowledged >= before.acknowledged + enough;
            said && now.from_afar >= before.from_afar + enough
        })
        .await;
    }

    /// Waits until everybody's node has had a last word on its condition.
    pub(crate) async fn all_hear(&mut self, condition: &str) {
        self.all(condition, |_, now| now.conditions.last().is_some_and(|last| last == condition)).await;
    }

    /// Waits until something holds for everybody.
    pub(crate) async fn all(&mut self, what: &str, holds: impl Fn(usize, &Progress) -> bool) {
        for place in 0..self.talkers.len() {
            let talking = &mut self.talkers[place];
            let waiting = timeout(DEADLINE, talking.progress.wait_for(|now| holds(place, now))).await;
            match waiting.map(|held| held.is_ok()) {
                Ok(true) => {}
                Ok(false) => {
                    let ended = (&mut talking.task).await;
                    panic!("{} ended: {ended:?}", talking.name);
                }
                Err(_) => {
                    let now = talking.progress.borrow().clone();
                    panic!("{what}: {} has not within {DEADLINE:?}: {now:?}", talking.name);
                }
            }
        }
    }

    /// Returns how far everybody is.
    pub(crate) fn progress(&self) -> Vec<Progress> {
        self.talkers.iter().map(|talking| talking.progress.borrow().clone()).collect()
    }

    /// Ends the talk, and checks that everything that was acknowledged has reached everybody once and in order.
    pub(crate) async fn ends_well(mut self) -> Vec<Progress> {
        self.enough.cancel();
        self.all("everything acknowledged", |_, now| now.idle).await;
        let ledger = Arc::clone(&self.ledger);
        let arrived = async || book(&ledger).finish().lost.count == 0;
        // The books say what is missing better than a deadline does.
        let complete = timeout(DEADLINE, eventually("everything has arrived", 2 * DEADLINE, arrived)).await;
        drop(complete);
        self.end.cancel();
        let progress = self.progress();
        for talking in self.talkers {
            if let Err(error) = timeout(DEADLINE, talking.task).await.expect("a good-bye in time") {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        let verdict = book(&ledger).finish();
        let shown = |tally: &Tally| {
            let findings: Vec<String> = tally.first.iter().map(ToString::to_string).collect();
            format!("{}\n  {}", tally.count, findings.join("\n  "))
        };
        assert!(
            verdict.is_clean(),
            "of {} attempted, {} acknowledged, {} expected\nlost {}\nduplicated {}\nreordered {}",
            verdict.attempted,
            verdict.acknowledged,
            verdict.expected,
            shown(&verdict.lost),
            shown(&verdict.duplicated),
            shown(&verdict.reordered)
        );
        progress
    }
}

fn book(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn number(frame: &Value, field: &str) -> u64 {
    frame[field].as_u64().unwrap_or_else(|| panic!("`{field}` in {frame}"))
}

fn conversation_of(frame: &Value) -> ConversationId {
    ConversationId::new(number(frame, "conversation")).expect("an id")
}

impl Talker {
    fn enter(&mut self, conversation: u64, after: u64) {
        self.places.insert(conversation, after);
        let conversation = ConversationId::new(conversation).expect("an id");
        book(&self.ledger).joined(self.party, conversation, after);
    }

    async fn run(mut self) {
        let mut link = self.connect().await;
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = false;
        loop {
            let talks = self.talks && !self.enough.is_cancelled() && self.waiting.len() < WINDOW;
            let again = self.waiting.iter().filter_map(|said| said.again).min();
            let lives = tokio::select! {
                line = link.lines.next_line() => match line {
                    Ok(Some(line)) => self.hear(&line),
                    Ok(None) | Err(_) => {
                        self.closed(None);
                        None
                    }
                },
                _ = ticks.tick(), if talks => self.say_more(&mut link).await,
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => self.repeat(&mut link).await,
                () = self.enough.cancelled(), if !told => Some(()),
                () = self.end.cancelled() => break,
            };
            told = self.enough.is_cancelled();
            if lives.is_none() {
                link = self.connect().await;
            }
            let idle = self.enough.is_cancelled() && self.waiting.is_empty();
            self.progress.send_if_modified(|progress| std::mem::replace(&mut progress.idle, idle) != idle);
        }
        // Whatever the node has sent by now comes before its answer.
        if link.writer.write_all(b"{\"type\":\"ping\"}\n").await.is_ok() {
            while let Ok(Some(line)) = link.lines.next_line().await {
                if line.contains("\"pong\"") || self.hear(&line).is_none() {
                    return;
                }
            }
        }
    }

    /// Says the next thing. `None`: the connection is lost.
    async fn say_more(&mut self, link: &mut Link) -> Option<()> {
        let place = self.said as usize % self.places.len();
        let conversation = *self.places.keys().nth(place).expect("there is somewhere to talk");
        let key = format!("k-{}", self.said);
        self.said += 1;
        let body = format!("number {}", self.said);
        let send = json!({"type": "send", "key": key, "conversation": conversation, "body": body});
        let line = format!("{send}\n");
        book(&self.ledger).attempted();
        self.waiting.push_back(Said { key, line: line.clone(), again: None });
        link.writer.write_all(line.as_bytes()).await.ok()
    }

    /// Says again what the node could not take. `None`: the connection is lost.
    async fn repeat(&mut self, link: &mut Link) -> Option<()> {
        let now = Instant::now();
        for said in &mut self.waiting {
            if said.again.is_some_and(|again| again <= now) {
                said.again = None;
                link.writer.write_all(said.line.as_bytes()).await.ok()?;
            }
        }
        Some(())
    }

    /// Notes what a frame says. `None`: the node will close the connection.
    fn hear(&mut self, line: &str) -> Option<()> {
        let frame: Value = serde_json::from_str(line).expect("every line of the server is JSON");
        match frame["type"].as_str().expect("every frame has a type") {
            "message" => self.arrived(&frame),
            "sent" => self.acknowledged(&frame),
            "degraded" | "restored" => {
                let condition = frame["type"].as_str().expect("a text").to_owned();
                self.progress.send_modify(|progress| {
                    assert_ne!(progress.conditions.last(), Some(&condition), "said twice: {:?}", progress.conditions);
                    progress.conditions.push(condition);
                });
            }
            "error" => {
                let key = frame["key"].as_str().unwrap_or_else(|| panic!("{frame}"));
                let said = self.waiting.iter_mut().find(|said| said.key == key).expect("it was said");
                let after = frame["retry_ms"].as_u64().unwrap_or_else(|| panic!("an error for good: {frame}"));
                said.again = Some(Instant::now() + Duration::from_millis(after));
            }
            "closing" => {
                assert_eq!(frame["reconnect"], true, "{frame}");
                self.closed(frame["code"].as_u64());
                return None;
            }
            "caught_up" => assert_eq!(frame["more"], json!([])),
            "conversation" | "cursor" | "pong" => {}
            _ => panic!("{frame}"),
        }
        Some(())
    }

    fn arrived(&mut self, frame: &Value) {
        let (conversation, seq, from) = (conversation_of(frame), number(frame, "seq"), number(frame, "from"));
        let highest = self.places.get_mut(&conversation.get()).expect("a conversation of ours");
        *highest = seq.max(*highest);
        if from == self.id {
            // Said in an earlier session.
            return;
        }
        let key = frame["key"].as_str().expect("a text");
        let from_user = UserId::new(from).expect("an id");
        book(&self.ledger).arrived(self.party, conversation, seq, from_user, key);
        if self.afar.contains(&from) {
            self.progress.send_modify(|progress| progress.from_afar += 1);
        }
    }

    fn acknowledged(&mut self, frame: &Value) {
        let key = frame["key"].as_str().expect("a text");
        let Some(place) = self.waiting.iter().position(|said| said.key == key) else {
            panic!("acknowledged twice: {frame}");
        };
        self.waiting.remove(place);
        let key = Key::new(key).expect("a key of ours");
        book(&self.ledger).acknowledged(self.party, &key, conversation_of(frame), number(frame, "seq"));
        self.progress.send_modify(|progress| progress.acknowledged += 1);
    }

    fn closed(&self, code: Option<u64>) {
        self.progress.send_modify(|progress| progress.closings.push(code));
    }

    /// Logs in wherever a node answers, from where this user was, and says again what was not acknowledged.
    async fn connect(&mut self) -> Link {
        loop {
            if let Some(link) = self.try_connect().await {
                return link;
            }
            sleep_until(Instant::now() + BACKOFF).await;
        }
    }

    async fn try_connect(&mut self) -> Option<Link> {
        let stream = timeout(DEADLINE, TcpStream::connect(self.address)).await.expect("an answer in time").ok()?;
        stream.set_nodelay(true).ok()?;
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let since: BTreeMap<String, u64> = self.places.iter().map(|(place, seq)| (place.to_string(), *seq)).collect();
        let login = json!({"type": "login", "token": self.token, "since": since});
        writer.write_all(format!("{login}\n").as_bytes()).await.ok()?;
        let welcome = timeout(DEADLINE, lines.next_line()).await.expect("an answer in time").ok()??;
        let welcome: Value = serde_json::from_str(&welcome).expect("every line of the server is JSON");
        if welcome["type"] == "error" {
            assert!(welcome["retry_ms"].is_u64(), "{welcome}");
            return None;
        }
        if welcome["type"] == "closing" {
            assert_eq!(welcome["reconnect"], true, "{welcome}");
            return None;
        }
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        let node = welcome["node"].as_str().expect("a text").to_owned();
        self.progress.send_modify(|progress| {
            progress.nodes.push(node);
            progress.conditions.clear();
        });
        for said in &mut self.waiting {
            said.again = None;
            writer.write_all(said.line.as_bytes()).await.ok()?;
        }
        Some(Link { lines, writer })
    }
}
