//! The client against a peer that speaks the wire on a real socket.

pub(crate) mod peer;
mod requests;

use std::time::Duration;

use serde_json::json;

use self::peer::{Peer, caught_up, entry, event, seqs, view};
use super::{ChatClient, ClientError, ClientErrorKind, Disconnect, Event, Sending, to_conversation, to_user};
use crate::model::{ConversationId, UserId};
use crate::protocol::ErrorCode;

fn conversation(number: u64) -> ConversationId {
    ConversationId::new(number).unwrap()
}

fn user(number: u64) -> UserId {
    UserId::new(number).unwrap()
}

async fn say(client: &ChatClient, body: &str) -> Sending {
    client.send(to_conversation(conversation(3)), body).await.unwrap()
}

#[tokio::test]
async fn unacknowledged_sends_are_repeated_in_order_with_their_keys() {
    let peer = Peer::start().await;
    let (connected, (mut wire, login)) =
        tokio::join!(ChatClient::connect(peer.options()), peer.welcome(json!([view(3, 0, 0)])),);
    let (client, _events) = connected.unwrap();
    assert_eq!((login["name"].as_str(), login["token"].as_str()), (Some("alice"), None));
    wire.caught_up(json!([])).await;
    let sendings = [say(&client, "one").await, say(&client, "two").await, say(&client, "three").await];
    let mut keys = Vec::new();
    for body in ["one", "two", "three"] {
        let send = wire.hear("send").await;
        assert_eq!(send["body"], body);
        keys.push(send["key"].clone());
        if body == "one" {
            wire.sent(&send, 3, 1).await;
        }
    }
    let [one, two, three] = sendings;
    assert_eq!(one.await.unwrap().seq, 1);
    drop(wire);

    let (mut wire, login) = peer.welcome(json!([view(3, 2, 0)])).await;
    assert_eq!((login["token"].as_str(), login["password"].as_str()), (Some("t-1"), None));
    wire.caught_up(json!([])).await;
    for (place, body) in [(1, "two"), (2, "three")] {
        let send = wire.hear("send").await;
        assert_eq!((&send["key"], send["body"].as_str()), (&keys[place], Some(body)));
        wire.sent(&send, 3, place as u64 + 1).await;
    }
    assert_eq!((two.await.unwrap().seq, three.await.unwrap().seq), (2, 3));
}

#[tokio::test]
async fn a_reconnect_asks_from_the_contiguous_prefix_and_drops_what_it_has() {
    let peer = Peer::start().await;
    let (connected, (mut wire, login)) =
        tokio::join!(ChatClient::connect(peer.options()), peer.welcome(json!([view(3, 4, 4)])),);
    let (client, mut events) = connected.unwrap();
    assert_eq!(login.get("since"), None);
    wire.caught_up(json!([])).await;
    let lost = say(&client, "acknowledged too late").await;
    let send = wire.hear("send").await;
    let other = say(&client, "acknowledged").await;
    let second = wire.hear("send").await;
    wire.message(3, 5, 8, "k-5").await;
    wire.message(3, 5, 8, "k-5").await;
    // The own message 6 is in the log, but its acknowledgement never comes.
    wire.message(3, 7, 8, "k-7").await;
    wire.sent(&second, 3, 8).await;
    assert_eq!(seqs(&mut events, 2).await, [5, 7]);
    assert_eq!(other.await.unwrap().seq, 8);
    drop(wire);

    let (mut wire, login) = peer.welcome(json!([view(3, 9, 5)])).await;
    assert_eq!(login["since"], json!({"3": 5}));
    let key = send["key"].as_str().unwrap();
    wire.message(3, 6, 7, key).await;
    wire.message(3, 7, 8, "k-7").await;
    wire.message(3, 8, 7, second["key"].as_str().unwrap()).await;
    wire.message(3, 9, 8, "k-9").await;
    wire.caught_up(json!([])).await;
    assert_eq!(lost.await.unwrap().seq, 6, "the log itself acknowledges");
    assert_eq!(seqs(&mut events, 1).await, [9]);
    caught_up(&mut events).await;
    drop(wire);
    let (_wire, login) = peer.welcome(json!([])).await;
    assert_eq!(login["since"], json!({"3": 9}));
}

#[tokio::test]
async fn pages_are_handed_out_before_later_live_messages() {
    let peer = Peer::start().await;
    let (connected, (mut wire, _)) = tokio::join!(
        ChatClient::connect(peer.options()),
        peer.welcome(json!([view(3, 5, 0), view(4, 2, 0), view(5, 0, 0)])),
    );
    let (_client, mut events) = connected.unwrap();
    wire.message(3, 1, 8, "k-1").await;
    let more = |conversation, next, until| json!({"conversation": conversation, "next": next, "until": until});
    wire.caught_up(json!([more(3, 2, 5), more(4, 1, 2)])).await;
    wire.message(3, 6, 8, "k-6").await;
    wire.message(4, 3, 8, "l-3").await;
    wire.message(5, 1, 8, "m-1").await;
    let ask = wire.hear("history").await;
    assert_eq!((&ask["conversation"], &ask["after"]), (&json!(3), &json!(1)));
    let page = |ask: &serde_json::Value, seqs: &[u64], more: bool| {
        let conversation = ask["conversation"].as_u64().unwrap();
        let messages: Vec<_> = seqs.iter().map(|&seq| entry(conversation, seq, 8, &format!("k-{seq}"))).collect();
        json!({"type": "history", "id": ask["id"], "conversation": conversation, "messages": messages, "more": more})
    };
    wire.say(page(&ask, &[2, 3], true)).await;
    let ask = wire.hear("history").await;
    assert_eq!((&ask["conversation"], &ask["after"]), (&json!(3), &json!(3)));
    wire.say(page(&ask, &[4, 5, 6], false)).await;
    let ask = wire.hear("history").await;
    assert_eq!((&ask["conversation"], &ask["after"]), (&json!(4), &json!(0)));
    wire.say(page(&ask, &[1, 2], false)).await;
    // The live message 3 of conversation 4 was dropped while conversation 3 was paged, so the pages go on to it.
    let ask = wire.hear("history").await;
    assert_eq!((&ask["conversation"], &ask["after"]), (&json!(4), &json!(2)));
    wire.say(page(&ask, &[3], false)).await;

    let mut seen: [Vec<u64>; 3] = Default::default();
    let mut done = false;
    while !done {
        done = event(&mut events, |event| match event {
            Event::Message(message) => Some(Some((message.conversation.get(), message.seq))),
            Event::CaughtUp => Some(None),
            _ => None,
        })
        .await
        .map(|(conversation, seq)| seen[conversation as usize - 3].push(seq))
        .is_none();
    }
    assert_eq!(seen, [vec![1, 2, 3, 4, 5, 6], vec![1, 2, 3], vec![1]]);
}

#[tokio::test]
async fn what_was_handed_out_is_confirmed_cumulatively() {
    let peer = Peer::start().await;
    let mut options = peer.options();
    options.received_every = Duration::from_millis(1);
    let (connected, (mut wire, _)) = tokio::join!(ChatClient::connect(options), peer.welcome(json!([view(3, 0, 0)])));
    let (_client, _events) = connected.unwrap();
    wire.caught_up(json!([])).await;
    wire.message(3, 1, 8, "k-1").await;
    wire.message(3, 2, 8, "k-2").await;
    wire.message(3, 4, 8, "k-4").await;
    let mut last = 0;
    while last < 2 {
        let received = wire.hear("received").await;
        last = received["seq"].as_u64().unwrap();
        assert_eq!(received["conversation"], 3);
        assert!(last <= 2, "3 has not come");
    }
}

#[tokio::test]
async fn a_server_that_closes_names_the_wait_and_the_next_server_is_tried() {
    let (first, second) = (Peer::start().await, Peer::start().await);
    let mut options = first.options();
    options.servers.push(second.address());
    let (connected, (mut wire, _)) = tokio::join!(ChatClient::connect(options), first.welcome(json!([])));
    let (_client, mut events) = connected.unwrap();
    wire.caught_up(json!([])).await;
    wire.say(json!({"type": "closing", "code": 4001, "reason": "drain", "reconnect": true, "after_ms": 37})).await;
    let (why, wait) = event(&mut events, |event| match event {
        Event::Disconnected { why, retry_in } => Some((why.clone(), *retry_in)),
        _ => None,
    })
    .await;
    assert_eq!((why, wait), (Disconnect::Closing("drain".to_owned()), Duration::from_millis(37)));
    second.welcome(json!([])).await;
}

#[tokio::test]
async fn a_server_that_is_away_leaves_the_others() {
    let (gone, peer) = (Peer::start().await, Peer::start().await);
    let mut options = peer.options();
    options.servers.insert(0, gone.address());
    drop(gone);
    let (connected, _) = tokio::join!(ChatClient::connect(options), peer.welcome(json!([])));
    connected.unwrap();
}

#[tokio::test]
async fn a_session_that_is_ended_for_good_fails_what_waits() {
    let peer = Peer::start().await;
    let (connected, (mut wire, _)) = tokio::join!(ChatClient::connect(peer.options()), peer.welcome(json!([])));
    let (client, mut events) = connected.unwrap();
    wire.caught_up(json!([])).await;
    let sending = client.send(to_user(user(8)), "hello").await.unwrap();
    assert_eq!(wire.hear("send").await["to"], 8);
    wire.say(json!({"type": "closing", "code": 4101, "reason": "revoked", "reconnect": false, "after_ms": 0})).await;
    assert_eq!(sending.await.unwrap_err().kind(), ClientErrorKind::Ended);
    event(&mut events, |event| matches!(event, Event::Closed(ClientError::Ended(_))).then_some(())).await;
    assert!(events.next().await.is_none());
    assert_eq!(client.group_join(conversation(3)).await.unwrap_err().kind(), ClientErrorKind::Closed);
}

#[tokio::test]
async fn a_refused_login_is_an_error_and_a_taken_name_is_none() {
    let peer = Peer::start().await;
    let mut options = peer.options();
    options.register = true;
    let error = |request: &serde_json::Value, code: &str| json!({"type": "error", "id": request["id"], "code": code, "message": "no"});
    let script = async {
        let mut wire = peer.accept().await;
        let register = wire.hear("register").await;
        wire.say(error(&register, "name_taken")).await;
        let login = wire.hear("login").await;
        wire.say(error(&login, "bad_credentials")).await;
    };
    let (connected, ()) = tokio::join!(ChatClient::connect(options), script);
    assert_eq!(connected.unwrap_err().kind(), ClientErrorKind::Refused(ErrorCode::BadCredentials));
}

#[tokio::test]
async fn a_token_that_expired_gives_way_to_the_password() {
    let peer = Peer::start().await;
    let (connected, (wire, _)) = tokio::join!(ChatClient::connect(peer.options()), peer.welcome(json!([])));
    let (_client, mut events) = connected.unwrap();
    drop(wire);
    let mut wire = peer.accept().await;
    let login = wire.hear("login").await;
    assert_eq!(login["token"], "t-1");
    wire.say(json!({"type": "error", "id": login["id"], "code": "bad_credentials", "message": "expired"})).await;
    let login = wire.hear("login").await;
    assert_eq!(login["password"], "correct horse");
    wire.welcome(&login, json!([])).await;
    wire.caught_up(json!([])).await;
    caught_up(&mut events).await;
}

#[tokio::test]
async fn a_busy_server_gets_the_same_message_again() {
    let peer = Peer::start().await;
    let (connected, (mut wire, _)) = tokio::join!(ChatClient::connect(peer.options()), peer.welcome(json!([])));
    let (client, _events) = connected.unwrap();
    wire.caught_up(json!([])).await;
    let sending = say(&client, "hello").await;
    let first = wire.hear("send").await;
    wire.say(json!({"type": "error", "id": first["id"], "key": first["key"], "code": "busy", "message": "later",
        "retry_ms": 60}))
        .await;
    let again = wire.hear("send").await;
    assert_eq!(first, again);
    wire.sent(&again, 3, 1).await;
    assert_eq!(sending.await.unwrap().seq, 1);
    let refused = say(&client, "hello").await;
    let send = wire.hear("send").await;
    wire.say(json!({"type": "error", "id": send["id"], "code": "not_member", "message": "not yours"})).await;
    assert_eq!(refused.await.unwrap_err().kind(), ClientErrorKind::Refused(ErrorCode::NotMember));
}

#[tokio::test]
async fn a_group_is_not_created_twice_and_a_list_is_asked_for_again() {
    let peer = Peer::start().await;
    let (connected, (mut wire, _)) = tokio::join!(ChatClient::connect(peer.options()), peer.welcome(json!([])));
    let (client, _events) = connected.unwrap();
    let script = async {
        wire.hear("group_create").await;
        drop(wire);
        let (mut wire, _) = peer.welcome(json!([])).await;
        let group = client.group_join(conversation(9));
        let answer = async {
            let join = wire.hear("group_join").await;
            drop(wire);
            let (mut wire, _) = peer.welcome(json!([])).await;
            let again = wire.hear("group_join").await;
            assert_eq!(join, again);
            wire.say(json!({"type": "group", "id": again["id"], "conversation": 9, "name": "g", "description": "",
                "head": 4, "members": 2}))
                .await;
            wire
        };
        let (group, _wire) = tokio::join!(group, answer);
        assert_eq!(group.unwrap().members, 2);
    };
    let (created, ()) = tokio::join!(client.group_create("g", None), script);
    assert_eq!(created.unwrap_err().kind(), ClientErrorKind::OutcomeUnknown);
}

#[tokio::test]
async fn a_slow_user_gets_everything_in_order() {
    let peer = Peer::start().await;
    let mut options = peer.options();
    options.events = 1;
    let (connected, (mut wire, _)) = tokio::join!(ChatClient::connect(options), peer.welcome(json!([view(3, 0, 0)])));
    let (client, mut events) = connected.unwrap();
    wire.caught_up(json!([])).await;
    for seq in 1..=300 {
        wire.message(3, seq, 8, &format!("k-{seq}")).await;
    }
    assert_eq!(seqs(&mut events, 300).await, (1..=300).collect::<Vec<_>>());
    client.close().await;
    let mut confirmed = 0;
    while let Some(request) = wire.next().await {
        confirmed = request["seq"].as_u64().unwrap();
    }
    assert_eq!(confirmed, 300, "closing confirms what was handed out");
}

#[tokio::test]
async fn events_that_nobody_takes_do_not_stop_the_client() {
    let peer = Peer::start().await;
    let mut options = peer.options();
    options.events = 1;
    let (connected, (mut wire, _)) = tokio::join!(ChatClient::connect(options), peer.welcome(json!([view(3, 0, 0)])));
    let (client, events) = connected.unwrap();
    drop(events);
    wire.caught_up(json!([])).await;
    for seq in 1..=100 {
        wire.message(3, seq, 8, &format!("k-{seq}")).await;
    }
    let sending = say(&client, "hello").await;
    let send = wire.hear("send").await;
    wire.sent(&send, 3, 101).await;
    assert_eq!(sending.await.unwrap().seq, 101);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_answering_is_left() {
    let peer = Peer::start().await;
    let (connected, (mut wire, _)) = tokio::join!(ChatClient::connect(peer.options()), peer.welcome(json!([])));
    let (_client, mut events) = connected.unwrap();
    wire.caught_up(json!([])).await;
    caught_up(&mut events).await;
    let why = match events.next().await {
        Some(Event::Disconnected { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let mut pings = 0;
    while let Some(request) = wire.next().await {
        pings += u32::from(request["type"] == "ping");
    }
    assert_eq!((why, pings), (Disconnect::Silent, 2));
}

#[tokio::test]
async fn a_message_that_does_not_fit_the_wire_is_not_sent() {
    let peer = Peer::start().await;
    let (connected, (mut wire, _)) = tokio::join!(ChatClient::connect(peer.options()), peer.welcome(json!([])));
    let (client, _events) = connected.unwrap();
    for body in ["a".repeat(64 * 1024 + 1), "\u{1}".repeat(64 * 1024)] {
        let error = say(&client, &body).await.await.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::TooLarge);
    }
    let _last = say(&client, "short").await;
    assert_eq!(wire.hear("send").await["body"], "short");
}
