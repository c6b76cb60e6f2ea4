//! The engine against a small relay that keeps a log, resumes sessions and can be told to do wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Pace, Plan, Progress, ReplayError, Report, Script, Stage, replay};
use crate::bench::cast::Cast;
use crate::bench::irc::Log;
use crate::protocol::Password;

/// What the relay does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Tells user 2 nothing of the text `10`.
    Lose,
    /// Tells user 2 of the text `10` twice.
    Repeat,
    /// Tells user 2 of the text `10` after `11`.
    Swap,
    /// Stores the fifth text and drops the connection it came by instead of acknowledging it.
    Break,
    /// Refuses the fifth text.
    Refuse,
}

/// More than any test leaves waiting for one user.
const QUEUE: usize = 10_000;

#[derive(Default)]
struct State {
    passwords: HashMap<String, (u64, String)>,
    names: Vec<String>,
    entries: Vec<Value>,
    texts: usize,
    held: Option<String>,
    sessions: HashMap<u64, mpsc::Sender<String>>,
}

struct Relay {
    address: String,
    fault: Fault,
    state: Mutex<State>,
    stop: CancellationToken,
}

impl Relay {
    async fn start(fault: Fault) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let relay = Arc::new(Self { address, fault, state: Mutex::default(), stop: CancellationToken::new() });
        let server = relay.clone();
        tokio::spawn(async move {
            while let Some(Ok((stream, _))) = server.stop.run_until_cancelled(listener.accept()).await {
                tokio::spawn(server.clone().serve(stream));
            }
        });
        relay
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader).lines();
        let (out, mut queue) = mpsc::channel::<String>(QUEUE);
        let mut user = None;
        loop {
            tokio::select! {
                line = reader.next_line() => {
                    let Ok(Some(line)) = line else { return };
                    let request: Value = serde_json::from_str(&line).unwrap();
                    if !self.answer(&request, &mut user, &out) {
                        return;
                    }
                }
                Some(line) = queue.recv() => {
                    if writer.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                        return;
                    }
                }
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Answers a request; `false`: drops the connection.
    fn answer(&self, request: &Value, user: &mut Option<u64>, out: &mpsc::Sender<String>) -> bool {
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        let id = &request["id"];
        let say = |frame: Value| {
            out.try_send(frame.to_string()).ok();
        };
        let error = |code: &str| say(json!({"type": "error", "id": id, "code": code, "message": "no"}));
        match request["type"].as_str().unwrap() {
            "register" => {
                let name = request["name"].as_str().unwrap().to_owned();
                if state.passwords.contains_key(&name) {
                    error("name_taken");
                } else {
                    state.names.push(name.clone());
                    let number = state.names.len() as u64;
                    state.passwords.insert(name, (number, request["password"].as_str().unwrap().to_owned()));
                    say(json!({"type": "registered", "id": id, "user": number}));
                }
            }
            "login" => {
                let found = match request["token"].as_str() {
                    Some(token) => token.parse().ok(),
                    None => state.passwords.get(request["name"].as_str().unwrap()).and_then(|(number, password)| {
                        (request["password"].as_str() == Some(password)).then_some(*number)
                    }),
                };
                let Some(number) = found else {
                    error("bad_credentials");
                    return true;
                };
                *user = Some(number);
                say(json!({"type": "welcome", "id": id, "user": number, "name": state.names[number as usize - 1],
                    "session": "s", "node": format!("node-{}", number % 2), "token": number.to_string(),
                    "friends": [], "conversations": []}));
                if let Some(since) = request["since"]["1"].as_u64() {
                    for entry in &state.entries[since as usize..] {
                        out.try_send(line_of(entry)).ok();
                    }
                }
                say(json!({"type": "caught_up", "more": []}));
                state.sessions.insert(number, out.clone());
            }
            "group_create" | "group_join" => {
                if request["type"] == "group_join" {
                    append(state, user.unwrap(), "join", &json!("join"), "");
                }
                say(json!({"type": "group", "id": id, "conversation": 1, "name": "g", "description": "",
                    "head": state.entries.len(), "members": 1}));
            }
            "history" => {
                say(json!({"type": "history", "id": id, "conversation": 1, "messages": [], "more": false}));
            }
            "send" => {
                let key = &request["key"];
                let known = state.entries.iter().find(|entry| entry["key"] == *key);
                let seq = match known {
                    Some(entry) => entry["seq"].as_u64().unwrap(),
                    None => {
                        state.texts += 1;
                        if state.texts == 5 && self.fault == Fault::Refuse {
                            error("forbidden");
                            return true;
                        }
                        let seq = append(state, user.unwrap(), "text", key, request["body"].as_str().unwrap());
                        let number = user.unwrap();
                        self.pass_on(state, number, seq);
                        if state.texts == 5 && self.fault == Fault::Break {
                            state.sessions.remove(&number);
                            return false;
                        }
                        seq
                    }
                };
                say(json!({"type": "sent", "id": id, "key": key, "conversation": 1, "seq": seq, "at": 1}));
            }
            "received" => {}
            other => panic!("{other}"),
        }
        true
    }

    /// Tells everybody but the sender.
    fn pass_on(&self, state: &mut State, sender: u64, seq: u64) {
        let entry = &state.entries[seq as usize - 1];
        let (line, body) = (line_of(entry), entry["body"].as_str().unwrap().to_owned());
        for (&receiver, session) in state.sessions.iter().filter(|(receiver, _)| **receiver != sender) {
            let wrong = receiver == 2 && body == "10";
            match self.fault {
                Fault::Lose if wrong => {}
                Fault::Swap if wrong => state.held = Some(line.clone()),
                _ => {
                    session.try_send(line.clone()).ok();
                }
            }
            if wrong && self.fault == Fault::Repeat {
                session.try_send(line.clone()).ok();
            }
            if let Some(held) = state.held.take_if(|_| receiver == 2 && body == "11") {
                session.try_send(held).ok();
            }
        }
    }
}

fn append(state: &mut State, from: u64, kind: &str, key: &Value, body: &str) -> u64 {
    let seq = state.entries.len() as u64 + 1;
    let name = &state.names[from as usize - 1];
    state.entries.push(json!({"conversation": 1, "seq": seq, "from": from, "name": name, "key": key, "kind": kind,
        "body": body, "at": 1}));
    seq
}

/// Writes an entry as a line whose type comes first.
fn line_of(entry: &Value) -> String {
    entry.to_string().replacen('{', "{\"type\":\"message\",", 1)
}

/// A log in which the users 1, 2 and 3 speak, user 1 the texts `10` and `11`.
fn log() -> Script {
    let mut log = String::from("[10:00] <one> 3\n[10:00] <two> 4\n[10:00] <three> 5\n");
    for seq in 6..40 {
        log.push_str(&format!("[10:01] <one> {seq}\n"));
    }
    Script::new(Cast::of(&Log::parse(log.as_bytes())), Pace::Rate(2000.0), None)
}

async fn run(fault: Fault) -> Report {
    let relay = Relay::start(fault).await;
    let report = play(&relay, "switchboard").await.unwrap();
    relay.stop.cancel();
    report
}

async fn play(relay: &Relay, password: &str) -> Result<Report, ReplayError> {
    // What never comes is given up soon where the test is about that, and never where it is not.
    let patience = match relay.fault {
        Fault::Lose | Fault::Refuse => Duration::from_millis(300),
        _ => Duration::from_secs(30),
    };
    let plan = Plan {
        servers: vec![relay.address.clone()],
        password: Password::new(password),
        group: "g".to_owned(),
        patience,
        logins_at_once: 1,
    };
    let (progress, seen) = watch::channel(Progress { stage: Stage::LoggingIn, done: 0, of: 0, deliveries: 0 });
    let report = replay(log(), &plan, &progress).await;
    if let Ok(report) = &report {
        assert_eq!(seen.borrow().done, report.verdict.acknowledged);
    }
    report
}

fn findings(report: &Report) -> [u64; 3] {
    [report.verdict.lost.count, report.verdict.duplicated.count, report.verdict.reordered.count]
}

#[tokio::test]
async fn a_log_reaches_everybody_once_and_in_order() {
    let report = run(Fault::None).await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.users, report.messages, report.verdict.delivered), (3, 37, 74));
    assert_eq!(report.nodes.into_iter().collect::<Vec<_>>(), [("node-0".to_owned(), 1), ("node-1".to_owned(), 2)]);
    assert!(report.to_each.max >= report.to_each.p50 && report.to_last.max == report.to_each.max);
}

#[tokio::test]
async fn a_relay_that_loses_is_found_out() {
    let report = run(Fault::Lose).await;
    assert_eq!((findings(&report), report.is_clean()), ([1, 0, 0], false), "{report}");
    assert!(report.to_string().contains("lost: receiver two, conversation 1, seq "), "{report}");
}

#[tokio::test]
async fn a_relay_that_repeats_is_found_out() {
    let report = run(Fault::Repeat).await;
    assert_eq!((findings(&report), report.is_clean()), ([0, 1, 0], false), "{report}");
}

#[tokio::test]
async fn a_relay_that_reorders_is_found_out() {
    let report = run(Fault::Swap).await;
    assert_eq!((findings(&report), report.is_clean()), ([0, 0, 1], false), "{report}");
}

#[tokio::test]
async fn a_lost_connection_costs_nothing() {
    let report = run(Fault::Break).await;
    assert!(report.is_clean() && report.reconnects == 1, "{report}");
}

#[tokio::test]
async fn a_refused_message_is_told() {
    let report = run(Fault::Refuse).await;
    assert_eq!((findings(&report), report.verdict.refused, report.is_clean()), ([0, 0, 0], 1, false));
    // Whose text comes fifth is up to the connections.
    let told = |name: &str| report.to_string().contains(&format!("{name}: a message was refused: forbidden: no"));
    assert!(["one", "two", "three"].into_iter().any(told), "{report}");
}

#[tokio::test]
async fn a_second_run_logs_in_again_and_another_password_is_an_error() {
    let relay = Relay::start(Fault::None).await;
    play(&relay, "switchboard").await.unwrap();
    // The relay has one group; what the first run left in it is nobody's.
    relay.state.lock().unwrap().entries.clear();
    let names = relay.state.lock().unwrap().names.len();
    assert!(play(&relay, "switchboard").await.unwrap().is_clean());
    assert_eq!(relay.state.lock().unwrap().names.len(), names);
    let error = play(&relay, "another one").await.unwrap_err();
    assert!(matches!(error, ReplayError::NameTaken { name } if name == "one"));
    relay.stop.cancel();
}
