//! What happens at the same moment on both nodes: logins, first messages, joins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::cluster::Cluster;
use crate::harness::{User, on_each_bus, register};

on_each_bus! {
    first_messages_that_cross_make_one_conversation
    a_first_message_during_a_login_arrives_once
    who_logs_out_and_in_again_at_once_stays_reachable
    who_joins_under_traffic_gets_everything_above_the_join
    who_leaves_and_joins_in_one_breath_is_a_member_in_the_end
}

fn send(to: u64, key: &str) -> Value {
    json!({"type": "send", "key": key, "to": to, "body": "x"})
}

pub(crate) async fn first_messages_that_cross_make_one_conversation(cluster: &mut Cluster) {
    const EACH: u64 = 10;
    for round in 0..10 {
        let mut alice = User::new(cluster.tcp(0), &format!("alice-{round}")).await;
        let mut bob = User::new(cluster.tcp(1), &format!("bob-{round}")).await;
        let (alice_id, bob_id) = (alice.id, bob.id);
        let keys: Vec<String> = (0..EACH).map(|n| n.to_string()).collect();
        let (hers, his) = tokio::join!(
            async {
                alice.say_all(keys.iter().map(|key| send(bob_id, key))).await;
                hear_seqs(&mut alice, 2 * EACH).await
            },
            async {
                bob.say_all(keys.iter().map(|key| send(alice_id, key))).await;
                hear_seqs(&mut bob, 2 * EACH).await
            }
        );
        assert_eq!(hers, his, "one conversation");
        alice.quiet().await;
        bob.quiet().await;
    }
}

/// Reads until so many seqs are known, from answers and messages, and returns their conversation. The messages come
/// after the conversation was introduced, ascending, and nothing twice.
async fn hear_seqs(user: &mut User, count: u64) -> u64 {
    let (mut introduced, mut conversation) = (None, None);
    let (mut messages, mut own): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
    while ((messages.len() + own.len()) as u64) < count {
        let frame = user.hear().await;
        let place = frame["conversation"].as_u64().unwrap();
        assert_eq!(place, *conversation.get_or_insert(place), "{frame}");
        match frame["type"].as_str() {
            Some("conversation") => assert_eq!(introduced.replace(place), None, "{frame}"),
            Some("sent") => own.push(frame["seq"].as_u64().unwrap()),
            Some("message") => {
                let seq = frame["seq"].as_u64().unwrap();
                assert_eq!(introduced, Some(place), "{frame}");
                assert!(messages.last().is_none_or(|last| *last < seq), "{frame}");
                messages.push(seq);
            }
            _ => panic!("{frame}"),
        }
    }
    messages.extend(own);
    messages.sort_unstable();
    assert_eq!(messages, (1..=count).collect::<Vec<_>>());
    conversation.expect("there were frames")
}

async fn a_first_message_during_a_login_arrives_once(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    for round in 0..40 {
        let name = format!("bob-{round}");
        let bob = register(cluster.tcp(0), &name).await;
        // From the same node and from the other one.
        let node = round % 2;
        let keys = ["first", "second", "third"].map(|key| format!("{key} {round}"));
        let (mut bob, ()) = tokio::join!(User::login(cluster.tcp(node), &name), async {
            for key in &keys {
                alice.tell(bob, key, "x").await;
            }
        });
        let mut caught_up = false;
        let mut heard = Vec::new();
        while heard.len() < 3 || !caught_up {
            let frame = bob.hear().await;
            match frame["type"].as_str() {
                Some("caught_up") => caught_up = true,
                Some("conversation") => {}
                Some("message") => heard.push(frame["key"].as_str().unwrap().to_owned()),
                _ => panic!("{frame}"),
            }
        }
        assert_eq!(heard, keys);
        // Nothing comes twice: the next message is the next frame.
        let last = alice.tell(bob.id, &format!("last {round}"), "x").await;
        bob.expect(alice.message(last, &format!("last {round}"), "x")).await;
    }
}

pub(crate) async fn who_logs_out_and_in_again_at_once_stays_reachable(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    let sent = alice.tell(bob.id, "0", "x").await;
    bob.hear_past(&["conversation"], "message").await;
    for round in 1..=40 {
        let since = json!({sent.conversation.to_string(): round});
        bob.say(json!({"type": "logout"})).await;
        // The old session may still be on its way out.
        let mut next = bob.again(cluster.tcp(1), since).await;
        next.expect(json!({"type": "caught_up", "more": []})).await;
        let key = round.to_string();
        let sent = alice.tell(bob.id, &key, "x").await;
        next.expect(alice.message(sent, &key, "x")).await;
        bob = next;
    }
}

/// Somebody who goes on talking in a group until told to stop.
struct Talker {
    stop: Arc<AtomicBool>,
    talking: JoinHandle<User>,
}

impl Talker {
    fn start(mut user: User, group: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let talking = tokio::spawn({
            let stop = Arc::clone(&stop);
            async move {
                let mut number = 0;
                while !stop.load(Ordering::Acquire) {
                    let key = number.to_string();
                    user.say(json!({"type": "send", "key": key, "conversation": group, "body": "x"})).await;
                    user.hear_past(&["message"], "sent").await;
                    number += 1;
                }
                user
            }
        });
        Self { stop, talking }
    }

    async fn stop(self) -> User {
        self.stop.store(true, Ordering::Release);
        self.talking.await.unwrap()
    }
}

pub(crate) async fn who_joins_under_traffic_gets_everything_above_the_join(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let group = alice.found("busy").await;
    let talker = Talker::start(alice, group);
    let mut joiners = [User::new(cluster.tcp(0), "here").await, User::new(cluster.tcp(1), "there").await];
    // Nobody else there, the other one there, and one who comes back.
    for round in 0..6 {
        for user in &mut joiners {
            user.say(json!({"type": "group_join", "id": "j", "conversation": group})).await;
            let joined = user.hear_past(&[], "group").await["head"].as_u64().unwrap();
            for seq in joined + 1..joined + 40 {
                assert_eq!(user.hear_past(&[], "message").await["seq"], seq, "round {round}, joined at {joined}");
            }
        }
        for user in &mut joiners {
            user.say(json!({"type": "group_leave", "id": "l", "conversation": group})).await;
            // The answer may overtake the entry, and what comes before that from the other node.
            let (mut answered, mut left) = (false, false);
            while !answered || !left {
                let frame = user.hear().await;
                assert!(!left || frame["type"] == "ok", "{frame} after the leave");
                answered |= frame["type"] == "ok";
                left |= frame["kind"] == "leave" && frame["from"] == user.id;
            }
        }
    }
    talker.stop().await;
}

async fn who_leaves_and_joins_in_one_breath_is_a_member_in_the_end(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let group = alice.found("busy").await;
    let talker = Talker::start(alice, group);
    let mut users = [User::new(cluster.tcp(0), "here").await, User::new(cluster.tcp(1), "there").await];
    for user in &mut users {
        user.join(group).await;
    }
    let mut last_messages = [0, 0];
    for round in 0..10 {
        for (user, last) in users.iter_mut().zip(&mut last_messages) {
            let request = |kind: &str| json!({"type": kind, "conversation": group});
            let twice = ["group_leave", "group_join", "group_leave", "group_join"];
            user.say_all(twice.map(request)).await;
            let (mut joins, mut joined) = (0, 0);
            // Until both joins are answered and much has come above the last one.
            while joins < 2 || *last < joined + 20 {
                let frame = user.hear().await;
                match frame["type"].as_str() {
                    Some("group") => (joins, joined) = (joins + 1, frame["head"].as_u64().unwrap()),
                    Some("ok" | "conversation") => {}
                    Some("message") => {
                        let seq = frame["seq"].as_u64().unwrap();
                        let gap = *last + 1..seq;
                        // Only what was said while the user was no member may be missing.
                        assert!(
                            *last < seq && (joins < 2 || gap.is_empty() || gap.end <= joined + 1),
                            "{round}: {frame}"
                        );
                        *last = seq;
                    }
                    _ => panic!("{frame}"),
                }
            }
        }
    }
    // Whoever got everything up to here gets what comes now.
    let mut alice = talker.stop().await;
    let end = alice.post_past(group, "end", "the end").await;
    for (user, last) in users.iter_mut().zip(last_messages) {
        for seq in last + 1..=end.seq {
            assert_eq!(user.hear_past(&[], "message").await["seq"], seq);
        }
    }
}
