//! Chat across two nodes, on each bus: frames as the wire documents them, and who gets them.

use serde_json::json;

use crate::harness::cluster::Cluster;
use crate::harness::{ANY, Sent, User, on_each_bus};

on_each_bus! {
    messages_go_both_ways_between_two_nodes
    messages_stay_on_their_node_when_everybody_is_there
    welcome_shows_the_session_and_its_conversations
    every_other_session_of_both_users_gets_a_message_once
    sends_pipelined_on_one_session_get_ascending_seqs
    sends_before_a_logout_are_answered_before_it
    nobody_else_hears_a_direct_message
    a_page_of_history_ends_where_it_was_asked_to
    conversations_are_listed_most_recent_first
    clusters_that_share_a_broker_do_not_hear_each_other
}

pub(crate) async fn messages_go_both_ways_between_two_nodes(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    assert_eq!((alice.node.as_str(), bob.node.as_str()), ("node-0", "node-1"));

    let hello = alice.tell(bob.id, "k-1", "hello \u{1F600} \"there\"\n").await;
    assert_eq!(hello.seq, 1);
    bob.expect(alice.introduction(hello.conversation)).await;
    bob.expect(alice.message(hello, "k-1", "hello \u{1F600} \"there\"\n")).await;

    let reply = bob.tell(alice.id, "k-1", "hello yourself").await;
    assert_eq!((reply.conversation, reply.seq), (hello.conversation, 2));
    alice.expect(bob.introduction(hello.conversation)).await;
    alice.expect(bob.message(reply, "k-1", "hello yourself")).await;

    // From now on both know the conversation, by either address.
    for number in 2..20 {
        let key = format!("k-{number}");
        let there = alice.post(hello.conversation, &key, "ping").await;
        bob.expect(alice.message(there, &key, "ping")).await;
        let back = bob.tell(alice.id, &key, "pong").await;
        alice.expect(bob.message(back, &key, "pong")).await;
        assert_eq!((there.seq, back.seq), (number * 2 - 1, number * 2));
    }
    alice.quiet().await;
    bob.quiet().await;
}

async fn messages_stay_on_their_node_when_everybody_is_there(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(1), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    let first = alice.tell(bob.id, "1", "first").await;
    bob.expect(alice.introduction(first.conversation)).await;
    bob.expect(alice.message(first, "1", "first")).await;
    let second = bob.post(first.conversation, "1", "second").await;
    alice.expect(bob.introduction(first.conversation)).await;
    alice.expect(bob.message(second, "1", "second")).await;
}

async fn welcome_shows_the_session_and_its_conversations(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "Alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    let group = bob.found("tea").await;
    let sent = alice.tell(bob.id, "1", "hello").await;
    bob.expect(alice.introduction(sent.conversation)).await;
    bob.expect(alice.message(sent, "1", "hello")).await;
    let mut again = bob.again(cluster.tcp(0), json!({sent.conversation.to_string(): 1})).await;
    assert_eq!((again.id, again.name.as_str(), again.node.as_str()), (bob.id, "bob", "node-0"));
    // The group was changed first, so it comes last.
    let expected = json!([
        {
            "conversation": sent.conversation, "kind": "direct", "name": "Alice", "peer": alice.id,
            "peer_delivered": 0, "peer_read": 1, "head": 1, "delivered": 0, "read": 0,
        },
        {"conversation": group, "kind": "group", "name": "tea", "head": 0, "delivered": 0, "read": 0},
    ]);
    assert_eq!(again.conversations, expected);
    again.expect(json!({"type": "caught_up", "more": []})).await;
}

async fn every_other_session_of_both_users_gets_a_message_once(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut alices = [alice.device(cluster.tcp(0)).await, alice.device(cluster.tcp(1)).await];
    let mut bob = User::new(cluster.tcp(0), "bob").await;
    let mut bobs = [bob.device(cluster.tcp(1)).await, bob.device(cluster.tcp(1)).await];

    let first = alice.tell(bob.id, "1", "first").await;
    for device in bobs.iter_mut().chain([&mut bob]) {
        device.expect(alice.introduction(first.conversation)).await;
        device.expect(alice.message(first, "1", "first")).await;
    }
    for device in &mut alices {
        device.expect(bob.introduction(first.conversation)).await;
        device.expect(alice.message(first, "1", "first")).await;
    }
    // Another device of the sender's goes on: now that one gets only `sent`, and the first one the message.
    let second = alices[1].tell(bob.id, "2", "second").await;
    let message = alice.message(second, "2", "second");
    alice.expect(bob.introduction(first.conversation)).await;
    for device in bobs.iter_mut().chain([&mut bob, &mut alice]) {
        device.expect(message.clone()).await;
    }
    alices[0].expect(message).await;
    // What comes last is next everywhere, so nothing came twice.
    let last = bob.post(first.conversation, "3", "last").await;
    for device in alices.iter_mut().chain([&mut alice]).chain(&mut bobs) {
        device.expect(bob.message(last, "3", "last")).await;
    }
    bob.quiet().await;
}

async fn sends_pipelined_on_one_session_get_ascending_seqs(cluster: &mut Cluster) {
    const COUNT: u64 = 500;
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    let send =
        |n: u64| json!({"type": "send", "id": n, "key": format!("k-{n}"), "to": bob.id, "body": format!("body {n}")});
    alice.say_all((1..=COUNT).map(send)).await;
    let mut all = Vec::new();
    for number in 1..=COUNT {
        let key = format!("k-{number}");
        let sent = json!({
            "type": "sent", "id": number, "key": key, "conversation": ANY, "seq": number, "at": ANY,
        });
        all.push(Sent::of(&alice.expect(sent).await));
    }
    bob.expect(alice.introduction(all[0].conversation)).await;
    for (sent, number) in all.into_iter().zip(1..) {
        bob.expect(alice.message(sent, &format!("k-{number}"), &format!("body {number}"))).await;
    }
}

async fn sends_before_a_logout_are_answered_before_it(cluster: &mut Cluster) {
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    for round in 0..5 {
        let mut alice = User::new(cluster.tcp(0), &format!("alice-{round}")).await;
        let send = |n: u64| json!({"type": "send", "key": format!("k-{n}"), "to": bob.id, "body": "bye"});
        alice.say_all((1..=10).map(send).chain([json!({"type": "logout", "id": "out"})])).await;
        for number in 1..=10 {
            let key = format!("k-{number}");
            alice.expect(json!({"type": "sent", "key": key, "conversation": ANY, "seq": number, "at": ANY})).await;
        }
        let closing = alice.closed_with(4100, "logout").await;
        assert_eq!(closing["id"], "out");
        bob.hear_past(&[], "conversation").await;
        for number in 1..=10 {
            assert_eq!(bob.hear_past(&[], "message").await["seq"], number);
        }
    }
}

async fn nobody_else_hears_a_direct_message(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    let mut eve = [User::new(cluster.tcp(0), "eve").await, User::new(cluster.tcp(1), "mallory").await];
    let secret = alice.tell(bob.id, "1", "secret").await;
    bob.hear_past(&["conversation"], "message").await;
    for other in &mut eve {
        let history = json!({"type": "history", "id": 1, "conversation": secret.conversation});
        other.say(history).await;
        other.expect(json!({"type": "error", "id": 1, "code": "not_member", "message": ANY})).await;
        let send = json!({"type": "send", "id": 2, "key": "1", "conversation": secret.conversation, "body": "boo"});
        other.say(send).await;
        other.expect(json!({"type": "error", "id": 2, "key": "1", "code": "not_member", "message": ANY})).await;
        // A confirmation of what is not theirs is ignored.
        other.say(json!({"type": "received", "conversation": secret.conversation, "seq": 1})).await;
        // What is for them comes next: the secret did not.
        let key = other.name.clone();
        let own = alice.tell(other.id, &key, "for you").await;
        other.expect(alice.introduction(own.conversation)).await;
        other.expect(alice.message(own, &key, "for you")).await;
    }
}

async fn a_page_of_history_ends_where_it_was_asked_to(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let bob = User::new(cluster.tcp(1), "bob").await;
    let mut all = Vec::new();
    for number in 1..=60 {
        let key = format!("k-{number}");
        let sent = alice.tell(bob.id, &key, "text").await;
        let mut message = alice.message(sent, &key, "text");
        // Inside a page an entry is no frame.
        message.as_object_mut().unwrap().remove("type");
        all.push(message);
    }
    let conversation = all[0]["conversation"].clone();
    let mut reader = bob.again(cluster.tcp(0), json!({conversation.to_string(): 60})).await;
    reader.expect(json!({"type": "caught_up", "more": []})).await;
    for (fields, page, more) in [
        (json!({}), 11..=60, true),
        (json!({"limit": 60}), 1..=60, false),
        (json!({"before": 11}), 1..=10, false),
        (json!({"before": 12, "limit": 10}), 2..=11, true),
        (json!({"after": 50}), 51..=60, false),
        (json!({"after": 49, "limit": 10}), 50..=59, true),
        (json!({"after": 0, "limit": 100_000}), 1..=60, false),
        #[allow(clippy::reversed_empty_ranges, reason = "nothing is above the head")]
        (json!({"after": 60}), 1..=0, false),
    ] {
        let mut request = json!({"type": "history", "id": "h", "conversation": conversation});
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        reader.say(request).await;
        let messages: Vec<_> = page.map(|seq: usize| all[seq - 1].clone()).collect();
        let expected =
            json!({"type": "history", "id": "h", "conversation": conversation, "messages": messages, "more": more});
        reader.expect(expected).await;
    }
}

async fn conversations_are_listed_most_recent_first(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut groups = Vec::new();
    for number in 0..5 {
        let group = alice.found(&format!("group {number}")).await;
        alice.post(group, &format!("k-{number}"), "hello").await;
        groups.push(group);
    }
    let view = |number: usize| {
        json!({
            "conversation": groups[number], "kind": "group", "name": format!("group {number}"), "head": 1,
            "delivered": 0, "read": 1,
        })
    };
    for (fields, page, more) in [
        (json!({}), vec![4, 3, 2, 1, 0], false),
        (json!({"limit": 2}), vec![4, 3], true),
        (json!({"limit": 2, "before": groups[3]}), vec![2, 1], true),
        (json!({"before": groups[1]}), vec![0], false),
    ] {
        let mut request = json!({"type": "conversations", "id": 1});
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        alice.say(request).await;
        let listed: Vec<_> = page.into_iter().map(view).collect();
        alice.expect(json!({"type": "conversations", "id": 1, "conversations": listed, "more": more})).await;
    }
}

pub(crate) async fn clusters_that_share_a_broker_do_not_hear_each_other(cluster: &mut Cluster) {
    cluster
        .beside(async |one: &mut Cluster, other: &mut Cluster| {
            // Everything but the cluster's id is the same: names of nodes, users, conversations, seqs.
            let mut pairs = Vec::new();
            for cluster in [&*one, &*other] {
                let alice = User::new(cluster.tcp(0), "alice").await;
                let bob = User::new(cluster.tcp(1), "bob").await;
                pairs.push((alice, bob));
            }
            assert_eq!(pairs[0].0.id, pairs[1].0.id);
            for round in 0..10 {
                for (which, (alice, bob)) in pairs.iter_mut().enumerate() {
                    let (key, body) = (round.to_string(), format!("in cluster {which}"));
                    let sent = alice.tell(bob.id, &key, &body).await;
                    assert_eq!(sent.seq, round + 1);
                    let message = alice.message(sent, &key, &body);
                    assert_eq!(bob.hear_past(&["conversation"], "message").await, message);
                }
            }
            for (_, bob) in &mut pairs {
                bob.quiet().await;
            }
        })
        .await;
}
