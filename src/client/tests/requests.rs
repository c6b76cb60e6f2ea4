//! Requests beyond messages, and what happens to them when a connection breaks.

use std::time::Duration;

use serde_json::{Value, json};

use super::peer::{Peer, Wire, caught_up, event, view};
use super::{conversation, user};
use crate::client::{ChatClient, ClientErrorKind, Event, Events};
use crate::model::Role;
use crate::protocol::{ErrorCode, Password, RequestBody};

async fn session(peer: &Peer, conversations: Value) -> (ChatClient, Events, Wire) {
    let mut options = peer.options();
    options.received_every = Duration::from_millis(1);
    let (connected, (mut wire, _)) = tokio::join!(ChatClient::connect(options), peer.welcome(conversations));
    let (client, mut events) = connected.unwrap();
    wire.caught_up(json!([])).await;
    caught_up(&mut events).await;
    (client, events, wire)
}

/// Hears a request and answers it.
async fn answer(wire: &mut Wire, kind: &str, mut frame: Value) -> Value {
    let mut request = wire.hear(kind).await;
    frame["id"] = request["id"].take();
    wire.say(frame).await;
    request
}

#[tokio::test]
async fn every_request_about_people_has_its_answer() {
    let peer = Peer::start().await;
    let (client, _events, mut wire) = session(&peer, json!([])).await;
    let ok = || json!({"type": "ok"});
    let (found, _) = tokio::join!(
        client.find_user("bob"),
        answer(&mut wire, "find_user", json!({"type": "user", "user": 8, "name": "Bob", "online": true})),
    );
    let found = found.unwrap();
    assert_eq!((found.user, found.name.as_str(), found.online), (user(8), "Bob", true));
    let (done, asked) = tokio::join!(client.friend_add("bob"), answer(&mut wire, "friend_add", ok()));
    assert_eq!((done.unwrap(), &asked["name"]), ((), &json!("bob")));
    let (done, asked) = tokio::join!(client.friend_accept(user(8)), answer(&mut wire, "friend_accept", ok()));
    assert_eq!((done.unwrap(), &asked["user"]), ((), &json!(8)));
    let (done, asked) = tokio::join!(client.friend_remove(user(8)), answer(&mut wire, "friend_remove", ok()));
    assert_eq!((done.unwrap(), &asked["user"]), ((), &json!(8)));
    let (done, asked) = tokio::join!(client.block(user(8)), answer(&mut wire, "block", ok()));
    assert_eq!((done.unwrap(), &asked["user"]), ((), &json!(8)));
    let (done, asked) = tokio::join!(client.unblock(user(8)), answer(&mut wire, "unblock", ok()));
    assert_eq!((done.unwrap(), &asked["user"]), ((), &json!(8)));
    let list = json!({"type": "friends", "friends": [{"user": 8, "name": "bob", "online": false}],
        "requests": [{"user": 9, "name": "carol"}]});
    let (friends, _) = tokio::join!(client.friends(), answer(&mut wire, "friends", list));
    let friends = friends.unwrap();
    assert_eq!((friends.friends[0].user, friends.requests[0].user), (user(8), user(9)));
    let refused = json!({"type": "error", "code": "not_found", "message": "nobody"});
    let (found, _) = tokio::join!(client.find_user("dave"), answer(&mut wire, "find_user", refused));
    assert_eq!(found.unwrap_err().kind(), ClientErrorKind::Refused(ErrorCode::NotFound));
}

#[tokio::test]
async fn groups_are_found_and_their_members_listed_and_removed() {
    let peer = Peer::start().await;
    let (client, _events, mut wire) = session(&peer, json!([])).await;
    let found =
        json!({"type": "groups", "groups": [{"conversation": 5, "name": "tea", "description": "", "members": 2}]});
    let (groups, asked) = tokio::join!(client.group_find("te"), answer(&mut wire, "group_find", found));
    assert_eq!((groups.unwrap()[0].conversation, &asked["name"]), (conversation(5), &json!("te")));
    let members = json!({"type": "members", "conversation": 5, "more": true, "members": [
        {"user": 8, "name": "bob", "role": "owner", "online": true, "delivered": 4, "read": 3}]});
    let (page, asked) = tokio::join!(
        client.group_members(conversation(5), Some(user(7)), Some(1)),
        answer(&mut wire, "group_members", members),
    );
    let page = page.unwrap();
    assert_eq!((page.members[0].role, page.members[0].read, page.more), (Role::Owner, 3, true));
    assert_eq!(asked, json!({"type": "group_members", "id": null, "conversation": 5, "after": 7, "limit": 1}));
    let (done, asked) = tokio::join!(
        client.group_remove(conversation(5), user(8)),
        answer(&mut wire, "group_remove", json!({"type": "ok"})),
    );
    assert_eq!((done.unwrap(), &asked["user"]), ((), &json!(8)));
}

#[tokio::test]
async fn what_friends_do_is_told() {
    let peer = Peer::start().await;
    let (_client, mut events, mut wire) = session(&peer, json!([])).await;
    wire.say(json!({"type": "friend_request", "user": 8, "name": "bob"})).await;
    wire.say(json!({"type": "friend_accepted", "user": 9, "name": "carol"})).await;
    wire.say(json!({"type": "presence", "user": 9, "online": true})).await;
    wire.say(json!({"type": "typing", "conversation": 3, "user": 9})).await;
    wire.say(json!({"type": "friend_removed", "user": 9})).await;
    let mut told = Vec::new();
    for _ in 0..5 {
        told.push(
            event(&mut events, |event| match event {
                Event::FriendRequest { user, name } => Some(format!("{user} {name} asks")),
                Event::FriendAccepted { user, name } => Some(format!("{user} {name} agrees")),
                Event::Presence { user, online } => Some(format!("{user} online {online}")),
                Event::Typing { conversation, user } => Some(format!("{user} types in {conversation}")),
                Event::FriendRemoved { user } => Some(format!("{user} removed")),
                _ => None,
            })
            .await,
        );
    }
    assert_eq!(told, ["8 bob asks", "9 carol agrees", "9 online true", "9 types in 3", "9 removed"]);
}

#[tokio::test]
async fn what_was_read_is_said_again_to_a_server_that_does_not_know_it() {
    let peer = Peer::start().await;
    let (client, _events, mut wire) = session(&peer, json!([view(3, 4, 4), view(5, 9, 9)])).await;
    client.read(conversation(3), 4).await.unwrap();
    client.read(conversation(3), 2).await.unwrap();
    assert_eq!(wire.hear("read").await, json!({"type": "read", "conversation": 3, "seq": 4}));
    client.read(conversation(5), 9).await.unwrap();
    assert_eq!(wire.hear("read").await["conversation"], 5);
    drop(wire);
    let mut known = view(5, 9, 9);
    known["read"] = json!(9);
    let (mut wire, _) = peer.welcome(json!([view(3, 4, 4), known])).await;
    wire.caught_up(json!([])).await;
    assert_eq!(wire.hear("read").await, json!({"type": "read", "conversation": 3, "seq": 4}));
    client.typing(conversation(3)).await.unwrap();
    client.close().await;
    let mut rest = Vec::new();
    while let Some(request) = wire.next().await {
        rest.push(request["type"].clone());
    }
    assert!(!rest.contains(&json!("read")), "the server knows the other one: {rest:?}");
}

#[tokio::test]
async fn a_changed_password_replaces_the_token_and_the_old_one() {
    let peer = Peer::start().await;
    let (client, _events, mut wire) = session(&peer, json!([])).await;
    let secret = Password::new;
    let refused = json!({"type": "error", "code": "bad_credentials", "message": "wrong"});
    let (changed, _) = tokio::join!(
        client.password(secret("a guess"), secret("never taken")),
        answer(&mut wire, "password", refused),
    );
    assert_eq!(changed.unwrap_err().kind(), ClientErrorKind::Refused(ErrorCode::BadCredentials));
    let (changed, asked) = tokio::join!(
        client.password(secret("correct horse"), secret("battery staple")),
        answer(&mut wire, "password", json!({"type": "ok"})),
    );
    changed.unwrap();
    assert_eq!((&asked["old"], &asked["new"]), (&json!("correct horse"), &json!("battery staple")));
    drop(wire);
    let (_wire, login) = peer.welcome(json!([])).await;
    assert_eq!((login.get("token"), &login["password"]), (None, &json!("battery staple")));
}

#[tokio::test]
async fn both_passwords_are_tried_when_nobody_knows_whether_it_was_changed() {
    let peer = Peer::start().await;
    let (client, mut events, mut wire) = session(&peer, json!([])).await;
    let change = client.password(Password::new("correct horse"), Password::new("battery staple"));
    let (changed, mut wire) = tokio::join!(change, async {
        wire.hear("password").await;
        drop(wire);
        let mut wire = peer.accept().await;
        for (field, value) in [("token", "t-1"), ("password", "correct horse")] {
            let login = wire.hear("login").await;
            assert_eq!(login[field], value);
            wire.say(json!({"type": "error", "id": login["id"], "code": "bad_credentials", "message": "no"})).await;
        }
        let login = wire.hear("login").await;
        assert_eq!(login["password"], "battery staple");
        wire.welcome(&login, json!([])).await;
        wire
    });
    assert_eq!(changed.unwrap_err().kind(), ClientErrorKind::OutcomeUnknown);
    wire.caught_up(json!([])).await;
    caught_up(&mut events).await;
}

#[tokio::test]
async fn logging_out_is_answered_by_the_end() {
    let peer = Peer::start().await;
    let (client, _events, mut wire) = session(&peer, json!([])).await;
    let closing = json!({"type": "closing", "code": 4100, "reason": "logout", "reconnect": false, "after_ms": 0});
    let (done, asked) = tokio::join!(client.logout(true), answer(&mut wire, "logout", closing));
    assert_eq!((done.unwrap(), &asked["everywhere"]), ((), &json!(true)));
    assert_eq!(client.friends().await.unwrap_err().kind(), ClientErrorKind::Closed);
}

#[tokio::test]
async fn any_request_can_be_asked_as_it_stands_on_the_wire() {
    let peer = Peer::start().await;
    let (client, _events, mut wire) = session(&peer, json!([])).await;
    let (frame, _) =
        tokio::join!(client.request(RequestBody::Ping {}), answer(&mut wire, "ping", json!({"type": "pong"})));
    assert!(frame.unwrap().is_some());
    let told = client.request(RequestBody::Typing { conversation: conversation(3) }).await.unwrap();
    assert_eq!((told, &wire.hear("typing").await["conversation"]), (None, &json!(3)));
    let register = RequestBody::Register { name: "x".to_owned(), password: Password::new("correct horse") };
    assert_eq!(client.request(register).await.unwrap_err().kind(), ClientErrorKind::NotHere);
}
