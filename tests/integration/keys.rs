//! A sender's key is unique for ever: sent again it is the same message, wherever and whenever.

use serde_json::{Value, json};

use crate::harness::cluster::Cluster;
use crate::harness::{ANY, Sent, User, on_each_bus};

on_each_bus! {
    a_message_sent_again_gets_its_first_seq_on_either_node
    a_key_used_for_something_else_is_a_conflict
    the_same_key_on_both_nodes_at_the_same_moment_is_one_message
    keys_of_different_users_do_not_meet
}

async fn a_message_sent_again_gets_its_first_seq_on_either_node(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    let first = alice.tell(bob.id, "once", "only once").await;
    bob.expect(alice.introduction(first.conversation)).await;
    bob.expect(alice.message(first, "once", "only once")).await;
    for _ in 0..3 {
        // By the user or by the conversation, it is the same message.
        assert_eq!(alice.tell(bob.id, "once", "only once").await, first);
        assert_eq!(alice.post(first.conversation, "once", "only once").await, first);
    }
    let mut elsewhere = alice.again(cluster.tcp(1), json!({first.conversation.to_string(): 1})).await;
    elsewhere.expect(json!({"type": "caught_up", "more": []})).await;
    assert_eq!(elsewhere.tell(bob.id, "once", "only once").await, first);
    // Twice in one batch as well.
    let send = json!({"type": "send", "key": "twice", "to": bob.id, "body": "twice"});
    alice.say_all([send.clone(), send]).await;
    let sent = json!({"type": "sent", "key": "twice", "conversation": first.conversation, "seq": 2, "at": ANY});
    let twice = Sent::of(&alice.expect(sent.clone()).await);
    alice.expect(sent).await;
    // What follows is next for everybody: nothing came twice.
    bob.expect(alice.message(twice, "twice", "twice")).await;
    elsewhere.expect(alice.message(twice, "twice", "twice")).await;
    let last = bob.tell(alice.id, "last", "last").await;
    assert_eq!(last.seq, 3);
    alice.expect(bob.introduction(first.conversation)).await;
    alice.expect(bob.message(last, "last", "last")).await;
    elsewhere.expect(bob.message(last, "last", "last")).await;
}

async fn a_key_used_for_something_else_is_a_conflict(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let bob = User::new(cluster.tcp(0), "bob").await;
    let carol = User::new(cluster.tcp(1), "carol").await;
    let group = alice.found("tea").await;
    let first = alice.tell(bob.id, "k", "body").await;
    let mut elsewhere = alice.again(cluster.tcp(1), json!({first.conversation.to_string(): 1})).await;
    elsewhere.expect(json!({"type": "caught_up", "more": []})).await;
    for session in [&mut alice, &mut elsewhere] {
        for (target, id, body) in [
            ("to", bob.id, "another body"),
            ("to", bob.id, ""),
            ("to", carol.id, "body"),
            ("conversation", group, "body"),
        ] {
            session.say(json!({"type": "send", "id": "x", "key": "k", target: id, "body": body})).await;
            let conflict = json!({"type": "error", "id": "x", "key": "k", "code": "conflict", "message": ANY});
            session.expect(conflict).await;
        }
        assert_eq!(session.tell(bob.id, "k", "body").await, first, "the first one stands");
    }
    // In one batch, too, the first one stands.
    let send = |body: &str| json!({"type": "send", "key": "b", "conversation": group, "body": body});
    alice.say_all([send("one"), send("two")]).await;
    alice.expect(json!({"type": "sent", "key": "b", "conversation": group, "seq": 1, "at": ANY})).await;
    alice.expect(json!({"type": "error", "key": "b", "code": "conflict", "message": ANY})).await;
}

pub(crate) async fn the_same_key_on_both_nodes_at_the_same_moment_is_one_message(cluster: &mut Cluster) {
    const COUNT: u64 = 100;
    let mut here = User::new(cluster.tcp(0), "alice").await;
    let mut there = here.device(cluster.tcp(1)).await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    let bob_id = bob.id;
    // From either end of the list, so that each session is the first one for some keys, and both meet in the middle.
    let send = |n: u64| json!({"type": "send", "key": format!("k-{n}"), "to": bob_id, "body": "me first"});
    let (mut ahead, mut behind) = (Seen::default(), Seen::default());
    tokio::join!(
        async {
            here.say_all((1..=COUNT).map(send)).await;
            ahead.watch(&mut here, COUNT).await;
        },
        async {
            there.say_all((1..=COUNT).rev().map(send)).await;
            behind.watch(&mut there, COUNT).await;
        }
    );
    ahead.sent.sort_unstable();
    behind.sent.sort_unstable();
    assert_eq!(ahead.sent, behind.sent, "both were told the same");
    let mut seqs: Vec<u64> = ahead.sent.iter().map(|(_, seq)| *seq).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=COUNT).collect::<Vec<_>>());
    bob.hear_past(&[], "conversation").await;
    for seq in 1..=COUNT {
        let message = bob.hear_past(&[], "message").await;
        assert_eq!(message["seq"], seq);
        let key = message["key"].as_str().unwrap().to_owned();
        assert!(ahead.sent.contains(&(key, seq)), "{message}");
    }
    // The next message is next for all three.
    let last = bob.tell(here.id, "last", "last").await;
    for session in [&mut here, &mut there] {
        let message = session.hear_past(&["conversation"], "message").await;
        assert_eq!(message, bob.message(last, "last", "last"));
    }
}

/// What one of two racing sessions sees.
#[derive(Default)]
struct Seen {
    sent: Vec<(String, u64)>,
    messages: Vec<u64>,
}

impl Seen {
    /// Reads until every send is answered. A message that the other session was first with may come before its `sent`
    /// here, never after it, and never twice.
    async fn watch(&mut self, session: &mut User, count: u64) {
        while self.sent.len() < count as usize {
            let frame = session.hear().await;
            let seq = frame["seq"].as_u64();
            match frame["type"].as_str() {
                Some("sent") => self.sent.push((text(&frame["key"]), seq.unwrap())),
                Some("message") => {
                    let seq = seq.unwrap();
                    assert!(self.messages.last().is_none_or(|last| *last < seq), "out of order: {frame}");
                    assert!(self.sent.iter().all(|(_, sent)| *sent != seq), "acknowledged before: {frame}");
                    self.messages.push(seq);
                }
                Some("conversation") => {}
                _ => panic!("{frame}"),
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn keys_of_different_users_do_not_meet(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    let one = alice.tell(bob.id, "same", "from alice").await;
    bob.expect(alice.introduction(one.conversation)).await;
    bob.expect(alice.message(one, "same", "from alice")).await;
    let other = bob.tell(alice.id, "same", "from bob").await;
    assert_eq!((one.seq, other.seq), (1, 2));
    alice.expect(bob.introduction(one.conversation)).await;
    alice.expect(bob.message(other, "same", "from bob")).await;
}
