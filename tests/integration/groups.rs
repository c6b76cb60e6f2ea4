//! Groups: everybody sees one order, and membership is part of it.

use serde_json::{Value, json};

use crate::harness::cluster::Cluster;
use crate::harness::{ANY, User, on_each_bus};

on_each_bus! {
    everybody_sees_one_order_while_members_of_both_nodes_speak
    who_joins_gets_nothing_from_before
    who_leaves_gets_the_leave_and_nothing_after_it
    who_comes_back_begins_anew
    other_devices_follow_into_a_group
    what_cannot_be_joined_or_left_is_refused
}

pub(crate) async fn everybody_sees_one_order_while_members_of_both_nodes_speak(cluster: &mut Cluster) {
    const EACH: u64 = 60;
    let mut founder = User::new(cluster.tcp(0), "founder").await;
    let group = founder.found("everybody").await;
    let mut members = vec![founder];
    for number in 1..6 {
        let mut member = User::new(cluster.tcp(number % 2), &format!("member-{number}")).await;
        assert_eq!(member.join(group).await, number as u64);
        for other in &mut members {
            other.expect(member.moved("join", group, number as u64)).await;
        }
        members.push(member);
    }
    let all = 5 + 6 * EACH;
    let speaking = members.into_iter().map(|member| {
        tokio::spawn(async move {
            let mut member = member;
            let send = |n: u64| json!({"type": "send", "key": n.to_string(), "conversation": group, "body": "mine"});
            member.say_all((0..EACH).map(send)).await;
            order(&mut member, group, all).await
        })
    });
    let mut orders = Vec::new();
    for speaker in speaking.collect::<Vec<_>>() {
        orders.push(speaker.await.unwrap());
    }
    // Who said what where is the same for all, also for those who only heard of their own by `sent`.
    for order in &orders[1..] {
        assert_eq!(*order, orders[0]);
    }
}

/// Reads until the group's log is complete up to `last`, and returns who said what, by seq. Messages come in ascending
/// order and leave out only what the session has sent itself.
async fn order(member: &mut User, group: u64, last: u64) -> Vec<(u64, u64, String)> {
    let (mut order, mut own): (Vec<(u64, u64, String)>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut last_message = 5;
    while (order.len() as u64) < last - 5 {
        let frame = member.hear().await;
        let (seq, key) = (frame["seq"].as_u64().unwrap(), frame["key"].as_str().unwrap().to_owned());
        assert_eq!(frame["conversation"], group);
        match frame["type"].as_str() {
            Some("sent") => {
                assert!(own.last().is_none_or(|last| *last < seq), "answers of one session ascend: {frame}");
                own.push(seq);
                order.push((seq, member.id, key));
            }
            Some("message") => {
                assert!(last_message < seq, "{frame} after {last_message}");
                last_message = seq;
                order.push((seq, frame["from"].as_u64().unwrap(), key));
            }
            _ => panic!("{frame}"),
        }
    }
    order.sort_unstable();
    assert_eq!(order.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(), (6..=last).collect::<Vec<_>>());
    order
}

async fn who_joins_gets_nothing_from_before(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let group = alice.found("tea").await;
    for number in 1..=5 {
        alice.post(group, &format!("old {number}"), "before").await;
    }
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    bob.say(json!({"type": "group_join", "id": 7, "conversation": group})).await;
    bob.expect(json!({
        "type": "group", "id": 7, "conversation": group, "name": "tea", "description": "", "head": 6, "members": 2,
    }))
    .await;
    alice.expect(bob.moved("join", group, 6)).await;
    let new = alice.post(group, "new", "after").await;
    bob.expect(alice.message(new, "new", "after")).await;
    // The page ends at the join, and so does a device that claims to know less.
    bob.say(json!({"type": "history", "conversation": group})).await;
    let page = bob.hear_past(&[], "history").await;
    let seqs: Vec<&Value> = page["messages"].as_array().unwrap().iter().map(|message| &message["seq"]).collect();
    assert_eq!((seqs, &page["more"]), (vec![&json!(6), &json!(7)], &json!(false)));
    let mut device = bob.again(cluster.tcp(0), json!({group.to_string(): 2})).await;
    device.expect(alice.message(new, "new", "after")).await;
    device.expect(json!({"type": "caught_up", "more": []})).await;
}

pub(crate) async fn who_leaves_gets_the_leave_and_nothing_after_it(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    let group = alice.found("tea").await;
    bob.join(group).await;
    alice.expect(bob.moved("join", group, 1)).await;
    // Another session of the leaver's is on the other node: it has to go, too.
    let mut device = bob.device(cluster.tcp(0)).await;

    bob.say(json!({"type": "group_leave", "id": "bye", "conversation": group})).await;
    // The answer and the entry may overtake each other.
    let frames = [bob.hear().await, bob.hear().await];
    assert!(frames.contains(&json!({"type": "ok", "id": "bye"})), "{frames:?}");
    let leave = bob.moved("leave", group, 2);
    assert!(frames.iter().any(|frame| crate::harness::fits(frame, &leave)), "{frames:?}");
    alice.expect(leave.clone()).await;
    // The entry, and what is left of the conversation, in either order.
    let frames = [device.hear().await, device.hear().await];
    assert!(frames.iter().any(|frame| crate::harness::fits(frame, &leave)), "{frames:?}");
    let conversation = json!({
        "type": "conversation", "conversation": group, "kind": "group", "name": "tea", "head": 2, "delivered": ANY,
        "read": ANY,
    });
    assert!(frames.iter().any(|frame| crate::harness::fits(frame, &conversation)), "{frames:?}");

    alice.post(group, "after", "now that he is gone").await;
    for session in [&mut bob, &mut device] {
        for (request, key) in [
            (json!({"type": "history", "conversation": group}), json!(null)),
            (json!({"type": "send", "key": "x", "conversation": group, "body": "hello?"}), json!("x")),
            (json!({"type": "group_leave", "conversation": group}), json!(null)),
        ] {
            session.say(request).await;
            let mut error = json!({"type": "error", "code": "not_member", "message": ANY});
            if !key.is_null() {
                error["key"] = key;
            }
            session.expect(error).await;
        }
    }
    // What is for the leaver comes next: nothing of the group did.
    let direct = alice.tell(bob.id, "direct", "psst").await;
    for session in [&mut bob, &mut device] {
        session.expect(alice.introduction(direct.conversation)).await;
        session.expect(alice.message(direct, "direct", "psst")).await;
    }
    let again = bob.again(cluster.tcp(0), json!({group.to_string(): 0, direct.conversation.to_string(): 1})).await;
    assert_eq!(again.conversations.as_array().unwrap().len(), 1, "{}", again.conversations);
}

async fn who_comes_back_begins_anew(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    let group = alice.found("tea").await;
    let mut seq = 0;
    for round in 0..5 {
        seq += 1;
        assert_eq!(bob.join(group).await, seq);
        alice.expect(bob.moved("join", group, seq)).await;
        let here = alice.post(group, &format!("here {round}"), "welcome").await;
        bob.expect(alice.message(here, &format!("here {round}"), "welcome")).await;
        seq += 2;
        bob.say(json!({"type": "group_leave", "id": 1, "conversation": group})).await;
        bob.hear_past(&["message"], "ok").await;
        alice.expect(bob.moved("leave", group, seq)).await;
        alice.post(group, &format!("gone {round}"), "at last").await;
        seq += 1;
    }
    assert_eq!(bob.join(group).await, seq + 1);
    bob.say(json!({"type": "history", "conversation": group})).await;
    let page = bob.hear_past(&[], "history").await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 1, "only the join: {page}");
}

async fn other_devices_follow_into_a_group(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut alices = [alice.device(cluster.tcp(0)).await, alice.device(cluster.tcp(1)).await];
    let mut bob = User::new(cluster.tcp(0), "bob").await;
    let mut bobs = [bob.device(cluster.tcp(0)).await, bob.device(cluster.tcp(1)).await];
    let group = alice.found("tea").await;
    // A device learns of the group at the latest before its first message.
    let tells_of = |head: &str| {
        json!({
            "type": "conversation", "conversation": group, "kind": "group", "name": "tea", "head": head,
            "delivered": ANY, "read": ANY,
        })
    };
    alices[0].expect(tells_of(ANY)).await;
    let joined = bob.join(group).await;
    bobs[0].expect(tells_of(ANY)).await;
    alice.expect(bob.moved("join", group, joined)).await;
    alices[0].expect(bob.moved("join", group, joined)).await;
    alices[1].expect(tells_of(ANY)).await;
    alices[1].expect(bob.moved("join", group, joined)).await;
    let sent = alice.post(group, "1", "hello all").await;
    let message = alice.message(sent, "1", "hello all");
    bobs[1].expect(tells_of(ANY)).await;
    for session in alices.iter_mut().chain(&mut bobs).chain([&mut bob]) {
        session.expect(message.clone()).await;
    }
}

async fn what_cannot_be_joined_or_left_is_refused(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let bob = User::new(cluster.tcp(1), "bob").await;
    let group = alice.found("tea").await;
    let direct = alice.tell(bob.id, "1", "hello").await.conversation;
    for (request, code) in [
        (json!({"type": "group_join", "conversation": 999}), "not_found"),
        (json!({"type": "group_join", "conversation": direct}), "not_found"),
        (json!({"type": "group_leave", "conversation": 999}), "not_found"),
        (json!({"type": "group_leave", "conversation": direct}), "not_found"),
        (json!({"type": "group_create", "name": " "}), "bad_frame"),
        (json!({"type": "group_create", "name": "a\nb"}), "bad_frame"),
        (json!({"type": "group_create", "name": "x".repeat(65)}), "bad_frame"),
        (json!({"type": "group_create", "name": "tea", "description": "x".repeat(513)}), "bad_frame"),
    ] {
        alice.say(request).await;
        alice.expect(json!({"type": "error", "code": code, "message": ANY})).await;
    }
    // To join twice is to join once.
    assert_eq!(alice.join(group).await, 0);
    alice.quiet().await;
}
