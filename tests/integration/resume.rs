//! What came while somebody was away: each message once, in order, with or without a word of what the device has.

use serde_json::{Value, json};
use switchboard::model::store::{Append, Outcome};
use switchboard::model::{ConversationId, Key, MessageKind, UserId};

use crate::harness::cluster::Cluster;
use crate::harness::{ANY, Sent, User, on_each_bus, register};

on_each_bus! {
    messages_that_came_while_away_are_there_at_the_next_login
    since_wins_over_what_was_confirmed_and_is_clamped
    what_was_confirmed_is_not_sent_again
    a_confirmation_above_the_head_is_clamped_and_one_below_is_ignored
    beyond_the_oldest_thousand_the_client_pages_and_live_messages_follow
    a_login_under_traffic_misses_and_repeats_nothing
}

/// Lets a user say something so many times and returns the frames that others get.
async fn chatter(user: &mut User, to: u64, keys: std::ops::RangeInclusive<u64>) -> Vec<Value> {
    let mut frames = Vec::new();
    for number in keys {
        let key = format!("k-{number}");
        let sent = user.tell(to, &key, "while you were away").await;
        frames.push(user.message(sent, &key, "while you were away"));
    }
    frames
}

async fn expect_all(user: &mut User, frames: &[Value]) {
    for frame in frames {
        user.expect(frame.clone()).await;
    }
}

fn since(conversation: &Value, seq: u64) -> Value {
    json!({conversation.to_string(): seq})
}

async fn messages_that_came_while_away_are_there_at_the_next_login(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let bob = register(cluster.tcp(0), "bob").await;
    let missed = chatter(&mut alice, bob, 1..=3).await;
    for node in [1, 0] {
        let mut bob = User::login(cluster.tcp(node), "bob").await;
        let view = json!([{
            "conversation": missed[0]["conversation"], "kind": "direct", "name": "alice", "peer": alice.id,
            "peer_delivered": 0, "peer_read": 3, "head": 3, "delivered": 0, "read": 0,
        }]);
        assert_eq!(bob.conversations, view);
        expect_all(&mut bob, &missed).await;
        bob.expect(json!({"type": "caught_up", "more": []})).await;
        bob.quiet().await;
    }
}

async fn since_wins_over_what_was_confirmed_and_is_clamped(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let bob = User::new(cluster.tcp(1), "bob").await;
    let mut all = chatter(&mut alice, bob.id, 1..=5).await;
    let conversation = all[0]["conversation"].clone();
    let caught_up = json!({"type": "caught_up", "more": []});
    let mut devices = Vec::new();
    for (has, from) in [(0, 0), (2, 2), (4, 4), (5, 5), (99, 5)] {
        let mut device = bob.again(cluster.tcp(has as usize % 2), since(&conversation, has)).await;
        expect_all(&mut device, &all[from..]).await;
        device.expect(caught_up.clone()).await;
        devices.push(device);
    }
    // Each goes on live, wherever it began, and confirms everything.
    all.extend(chatter(&mut alice, bob.id, 6..=7).await);
    for device in &mut devices {
        expect_all(device, &all[5..]).await;
        device.say(json!({"type": "received", "conversation": conversation, "seq": 7})).await;
    }
    alice.hear_cursor(&cursor(&conversation, bob.id, 7)).await;
    // What was confirmed is the user's; a device that lost its own history gets it again.
    let mut device = bob.again(cluster.tcp(0), since(&conversation, 3)).await;
    expect_all(&mut device, &all[3..]).await;
    device.expect(caught_up).await;
}

fn cursor(conversation: &Value, user: u64, delivered: u64) -> Value {
    json!({"type": "cursor", "conversation": conversation, "user": user, "delivered": delivered, "read": 0})
}

async fn what_was_confirmed_is_not_sent_again(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    let missed = chatter(&mut alice, bob.id, 1..=4).await;
    let conversation = missed[0]["conversation"].clone();
    bob.hear_past(&[], "conversation").await;
    expect_all(&mut bob, &missed).await;
    // Cumulative: the last one counts.
    bob.say(json!({"type": "received", "conversation": conversation, "seq": 2})).await;
    bob.say(json!({"type": "received", "conversation": conversation, "seq": 3})).await;
    // Everybody in the conversation hears of it once it is written, the user's own devices too.
    let confirmed = cursor(&conversation, bob.id, 3);
    alice.hear_cursor(&confirmed).await;
    bob.hear_cursor(&confirmed).await;
    for node in [0, 1] {
        let mut again = bob.again(cluster.tcp(node), Value::Null).await;
        assert_eq!(again.conversations[0]["delivered"], 3);
        expect_all(&mut again, &missed[3..]).await;
        again.expect(json!({"type": "caught_up", "more": []})).await;
    }
    let seen = alice.again(cluster.tcp(1), since(&conversation, 4)).await;
    assert_eq!(seen.conversations[0]["peer_delivered"], 3);
}

async fn a_confirmation_above_the_head_is_clamped_and_one_below_is_ignored(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let mut bob = User::new(cluster.tcp(1), "bob").await;
    let said = chatter(&mut alice, bob.id, 1..=2).await;
    let conversation = said[0]["conversation"].clone();
    bob.hear_past(&[], "conversation").await;
    expect_all(&mut bob, &said).await;
    bob.say(json!({"type": "received", "conversation": conversation, "seq": 9_007_199_254_740_991_u64})).await;
    let confirmed = cursor(&conversation, bob.id, 2);
    alice.hear_cursor(&confirmed).await;
    bob.hear_cursor(&confirmed).await;
    bob.say(json!({"type": "received", "conversation": conversation, "seq": 1})).await;
    let third = chatter(&mut alice, bob.id, 3..=3).await;
    expect_all(&mut bob, &third).await;
    bob.say(json!({"type": "received", "conversation": conversation, "seq": 3})).await;
    alice.hear_cursor(&cursor(&conversation, bob.id, 3)).await;
}

async fn beyond_the_oldest_thousand_the_client_pages_and_live_messages_follow(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let bob = register(cluster.tcp(1), "bob").await;
    let mut all = chatter(&mut alice, bob, 1..=1).await;
    let conversation = all[0]["conversation"].clone();
    // Much of it at once, straight into the log.
    let place = ConversationId::new(conversation.as_u64().unwrap()).unwrap();
    let sender = UserId::new(alice.id).unwrap();
    for batch in (2..=1_250).collect::<Vec<u64>>().chunks(500) {
        let entry = |number: &u64| {
            let key = Key::new(&format!("k-{number}")).unwrap();
            Append {
                conversation: place,
                sender,
                key,
                kind: MessageKind::Text,
                body: "stored".to_owned(),
                friends_only: false,
            }
        };
        let entries: Vec<Append> = batch.iter().map(entry).collect();
        for (number, outcome) in batch.iter().zip(cluster.log.append(&entries).await.unwrap()) {
            let Outcome::Stored { seq, at } = outcome else { panic!("{outcome:?}") };
            let sent = Sent { conversation: place.get(), seq, at };
            all.push(alice.message(sent, &format!("k-{number}"), "stored"));
        }
    }
    let mut alice = alice.again(cluster.tcp(0), since(&conversation, 1_250)).await;
    alice.expect(json!({"type": "caught_up", "more": []})).await;
    let mut bob = User::login(cluster.tcp(1), "bob").await;
    expect_all(&mut bob, &all[..1_000]).await;
    let more = json!([{"conversation": conversation, "next": 1_001, "until": 1_250}]);
    bob.expect(json!({"type": "caught_up", "more": more})).await;
    // Live messages are above `until`, whatever has been paged.
    let live = alice.post(place.get(), "live", "now").await;
    assert_eq!(live.seq, 1_251);
    bob.expect(alice.message(live, "live", "now")).await;
    let mut next = 1_000;
    loop {
        bob.say(json!({"type": "history", "conversation": conversation, "after": next, "limit": 200})).await;
        let page = bob.hear_past(&[], "history").await;
        for message in page["messages"].as_array().unwrap() {
            let mut expected = if next == 1_250 { alice.message(live, "live", "now") } else { all[next].clone() };
            expected.as_object_mut().unwrap().remove("type");
            assert_eq!(*message, expected);
            next += 1;
        }
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(next, 1_251);
}

async fn a_login_under_traffic_misses_and_repeats_nothing(cluster: &mut Cluster) {
    const COUNT: u64 = 400;
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let bob = User::new(cluster.tcp(1), "bob").await;
    let first = alice.tell(bob.id, "first", "first").await;
    let conversation = first.conversation;
    let send =
        move |n: u64| json!({"type": "send", "key": format!("k-{n}"), "conversation": conversation, "body": "x"});
    let speaking = tokio::spawn(async move {
        for number in 2..=COUNT {
            alice.say(send(number)).await;
            alice.hear_past(&[], "sent").await;
        }
    });
    // A device that comes and goes, on either node, and says each time what it has.
    let (mut seen, mut logins) = (0, 0);
    while seen < COUNT {
        let mut device = bob.again(cluster.tcp(logins % 2), json!({conversation.to_string(): seen})).await;
        logins += 1;
        let mut caught_up = false;
        let until = seen + 25;
        while seen < COUNT && (seen < until || !caught_up) {
            let frame = device.hear().await;
            if frame["type"] == "caught_up" {
                assert_eq!(frame["more"], json!([]));
                caught_up = true;
                continue;
            }
            assert_eq!((&frame["type"], &frame["seq"]), (&json!("message"), &json!(seen + 1)), "login {logins}");
            seen += 1;
        }
    }
    speaking.await.unwrap();
    let mut last = bob.again(cluster.tcp(0), json!({conversation.to_string(): seen})).await;
    last.expect(json!({"type": "caught_up", "more": []})).await;
    assert_eq!(last.conversations[0]["head"], json!(COUNT));
    assert!(fits_view(&last.conversations[0]));
}

fn fits_view(view: &Value) -> bool {
    let shape = json!({
        "conversation": ANY, "kind": "direct", "name": "alice", "peer": ANY, "peer_delivered": ANY, "peer_read": ANY,
        "head": ANY, "delivered": ANY, "read": ANY,
    });
    crate::harness::fits(view, &shape)
}
