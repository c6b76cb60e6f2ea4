//! Who gets in, and how connections end.

use std::time::Duration;

use serde_json::json;
use switchboard::server::LimitsConfig;

use crate::harness::cluster::{Bus, Cluster, Settings, run};
use crate::harness::{ANY, DEADLINE, PASSWORD, User, Wire, eventually, on_any_bus, register};

on_any_bus! {
    a_name_is_registered_once_whatever_its_case
    names_and_passwords_that_cannot_be_are_refused
    wrong_credentials_are_refused_alike
    five_failed_logins_close_the_connection
    a_token_logs_in_on_the_other_node
    guests_can_register_log_in_and_ping_only
    a_second_login_is_a_conflict
    what_a_session_may_not_do_is_named
    ids_are_echoed_to_the_letter
    a_client_that_hangs_up_still_gets_its_answers
    sessions_are_counted_out_when_their_connection_ends
}

fn error(code: &str) -> serde_json::Value {
    json!({"type": "error", "id": "x", "code": code, "message": ANY})
}

async fn a_name_is_registered_once_whatever_its_case(cluster: &mut Cluster) {
    let id = register(cluster.tcp(0), "Stra\u{DF}e").await;
    let mut wire = Wire::connect(cluster.tcp(1)).await;
    for name in ["Stra\u{DF}e", "STRASSE", "strasse", "stra\u{1E9E}e"] {
        wire.say(json!({"type": "register", "id": "x", "name": name, "password": PASSWORD})).await;
        wire.expect(error("name_taken")).await;
    }
    // Whoever writes the name otherwise is the same user, shown as registered.
    let mut user = User::login(cluster.tcp(1), "STRASSE").await;
    assert_eq!((user.id, user.name.as_str()), (id, "Stra\u{DF}e"));
    user.expect(json!({"type": "caught_up", "more": []})).await;
    for name in ["][x|y][", "\u{1F600}", "x"] {
        register(cluster.tcp(0), name).await;
    }
}

async fn names_and_passwords_that_cannot_be_are_refused(cluster: &mut Cluster) {
    let mut wire = Wire::connect(cluster.tcp(0)).await;
    let (long, short) = ("x".repeat(33), "1234567");
    let huge = "x".repeat(1025);
    for (name, password) in
        [("", PASSWORD), ("a b", PASSWORD), ("a\u{7}", PASSWORD), (&long, PASSWORD), ("ann", short), ("ann", &huge)]
    {
        wire.say(json!({"type": "register", "id": "x", "name": name, "password": password})).await;
        wire.expect(error("bad_frame")).await;
    }
    // None of them counts as a frame that could not be read.
    wire.quiet().await;
}

async fn wrong_credentials_are_refused_alike(cluster: &mut Cluster) {
    let alice = User::new(cluster.tcp(0), "alice").await;
    let mut answers = Vec::new();
    for login in [
        json!({"name": "alice", "password": "wrong horse"}),
        json!({"name": "nobody", "password": PASSWORD}),
        json!({"name": "not a name", "password": PASSWORD}),
        json!({"token": format!("{}x", alice.token)}),
        json!({"token": ""}),
    ] {
        let mut frame = json!({"type": "login", "id": "x"});
        frame.as_object_mut().unwrap().extend(login.as_object().unwrap().clone());
        let mut wire = Wire::connect(cluster.tcp(0)).await;
        wire.say(frame).await;
        answers.push(wire.expect(error("bad_credentials")).await);
        // The connection lives on.
        wire.quiet().await;
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "nobody learns which part was wrong: {answers:?}");
}

async fn five_failed_logins_close_the_connection(cluster: &mut Cluster) {
    register(cluster.tcp(0), "alice").await;
    let mut wire = Wire::connect(cluster.tcp(0)).await;
    for _ in 0..5 {
        wire.say(json!({"type": "login", "id": "x", "name": "alice", "password": "guess 1234"})).await;
        wire.expect(error("bad_credentials")).await;
    }
    let closing = wire.closed_with(4010, "rate_limited").await;
    assert_ne!(closing["after_ms"], 0);
}

async fn a_token_logs_in_on_the_other_node(cluster: &mut Cluster) {
    let alice = User::new(cluster.tcp(0), "alice").await;
    let mut there = alice.device(cluster.tcp(1)).await;
    assert_eq!((there.id, there.name.as_str(), there.node.as_str()), (alice.id, "alice", "node-1"));
    // The token it was given there is good here.
    let mut back = there.device(cluster.tcp(0)).await;
    back.quiet().await;
    there.quiet().await;
}

async fn guests_can_register_log_in_and_ping_only(cluster: &mut Cluster) {
    let mut wire = Wire::connect(cluster.tcp(0)).await;
    for request in [
        json!({"type": "history", "conversation": 1}),
        json!({"type": "conversations"}),
        json!({"type": "group_create", "name": "g"}),
        json!({"type": "group_join", "conversation": 1}),
        json!({"type": "group_leave", "conversation": 1}),
        json!({"type": "received", "conversation": 1, "seq": 1}),
        json!({"type": "logout"}),
    ] {
        let mut request = request;
        request["id"] = json!("x");
        wire.say(request).await;
        wire.expect(error("unauthenticated")).await;
    }
    wire.say(json!({"type": "send", "id": "x", "key": "k", "to": 1, "body": "b"})).await;
    let mut refused = error("unauthenticated");
    refused["key"] = json!("k");
    wire.expect(refused).await;
    wire.say(json!({"type": "ping"})).await;
    wire.expect(json!({"type": "pong"})).await;
    // And after all that it can still become somebody.
    wire.say(json!({"type": "register", "name": "late", "password": PASSWORD})).await;
    wire.expect(json!({"type": "registered", "user": ANY})).await;
    User::welcomed(wire, json!({"type": "login", "name": "late", "password": PASSWORD})).await;
}

async fn a_second_login_is_a_conflict(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    for login in [json!({"name": "alice", "password": PASSWORD}), json!({"token": alice.token})] {
        let mut frame = json!({"type": "login", "id": "x"});
        frame.as_object_mut().unwrap().extend(login.as_object().unwrap().clone());
        alice.say(frame).await;
        alice.expect(error("conflict")).await;
    }
    // Making accounts is nobody's privilege.
    alice.say(json!({"type": "register", "id": 1, "name": "child", "password": PASSWORD})).await;
    alice.expect(json!({"type": "registered", "id": 1, "user": ANY})).await;
    alice.quiet().await;
}

async fn what_a_session_may_not_do_is_named(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let own = alice.id;
    let bob = register(cluster.tcp(1), "bob").await;
    let long_key = "k".repeat(65);
    for (fields, code) in [
        (json!({"key": "k", "to": 999, "body": "b"}), "not_found"),
        (json!({"key": "k", "to": own, "body": "b"}), "conflict"),
        (json!({"key": "k", "conversation": 999, "body": "b"}), "not_found"),
        (json!({"key": "k", "to": bob, "conversation": 1, "body": "b"}), "bad_frame"),
        (json!({"key": "k", "body": "b"}), "bad_frame"),
        (json!({"key": "k", "to": bob, "body": "x".repeat(65 * 1024)}), "too_large"),
    ] {
        let mut frame = json!({"type": "send", "id": "x"});
        frame.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        alice.say(frame).await;
        let mut expected = error(code);
        expected["key"] = json!("k");
        alice.expect(expected).await;
    }
    for key in ["", long_key.as_str()] {
        alice.say(json!({"type": "send", "id": "x", "key": key, "to": bob, "body": "b"})).await;
        alice.expect(error("bad_frame")).await;
    }
    // The longest of both that may be.
    alice.tell(bob, &"k".repeat(64), &"x".repeat(64 * 1024)).await;
    alice.say(json!({"type": "history", "id": "x", "conversation": 999})).await;
    alice.expect(error("not_member")).await;
}

async fn ids_are_echoed_to_the_letter(cluster: &mut Cluster) {
    let mut wire = Wire::connect(cluster.tcp(0)).await;
    for id in [json!(1), json!(0), json!(-7), json!(1.5), json!("text"), json!(""), json!("\u{1F600}\"\\\n")] {
        wire.say(json!({"type": "ping", "id": id})).await;
        wire.expect(json!({"type": "pong", "id": id})).await;
    }
    wire.say(json!({"type": "ping"})).await;
    wire.expect(json!({"type": "pong"})).await;
    wire.say(json!({"type": "ping", "id": null})).await;
    wire.expect(json!({"type": "pong"})).await;
    wire.say(json!({"type": "ping", "id": [1]})).await;
    wire.expect(json!({"type": "error", "code": "bad_frame", "message": ANY})).await;
}

async fn a_client_that_hangs_up_still_gets_its_answers(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let group = alice.found("tea").await;
    let send = |n: u64| json!({"type": "send", "id": n, "key": n.to_string(), "conversation": group, "body": "b"});
    alice.say_all((1..=20).map(send).chain([json!({"type": "history", "conversation": group})])).await;
    alice.hang_up().await;
    for seq in 1..=20 {
        let sent = alice.hear_past(&["history"], "sent").await;
        assert_eq!((&sent["id"], &sent["seq"]), (&json!(seq), &json!(seq)));
    }
    while let Some(frame) = alice.hear_any().await {
        assert_eq!(frame["type"], "history");
    }
}

async fn sessions_are_counted_out_when_their_connection_ends(cluster: &mut Cluster) {
    let alice = User::new(cluster.tcp(0), "alice").await;
    let mut device = alice.device(cluster.tcp(0)).await;
    assert_eq!(cluster.sessions(0), 2);
    device.say(json!({"type": "logout"})).await;
    device.closed_with(4100, "logout").await;
    let cluster = &*cluster;
    eventually("the session that logged out is gone", DEADLINE, || async { cluster.sessions(0) == 1 }).await;
    let user = switchboard::model::UserId::new(alice.id).unwrap();
    assert_eq!(cluster.log.online(&[user]).await.unwrap(), [user]);
    drop(alice);
    eventually("the last session's presence is gone", DEADLINE, || async {
        cluster.sessions(0) == 0 && cluster.log.online(&[user]).await.unwrap().is_empty()
    })
    .await;
}

fn impatient() -> Settings {
    let limits = LimitsConfig {
        login_timeout: Duration::from_secs(1),
        idle: Duration::from_secs(2),
        sessions_per_user: 2,
        ..LimitsConfig::default()
    };
    Settings { limits, ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_log_in_or_says_nothing_is_closed() {
    run(Bus::Memory, impatient(), async |cluster: &mut Cluster| {
        let mut guest = Wire::connect(cluster.tcp(0)).await;
        // To be heard is not to be logged in.
        guest.quiet().await;
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        guest.closed_with(4005, "handshake_timeout").await;
        alice.quiet().await;
        alice.closed_with(4003, "idle").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_so_many_sessions_and_no_more() {
    run(Bus::Memory, impatient(), async |cluster: &mut Cluster| {
        let first = User::new(cluster.tcp(0), "alice").await;
        let mut second = first.device(cluster.tcp(0)).await;
        let mut third = Wire::connect(cluster.tcp(0)).await;
        third.say(json!({"type": "login", "id": 3, "token": first.token})).await;
        third.closed_with(4102, "too_many_sessions").await;
        // Room is made by who goes, and the limit is each node's.
        first.device(cluster.tcp(1)).await;
        second.say(json!({"type": "logout"})).await;
        second.closed_with(4100, "logout").await;
        let cluster = &*cluster;
        eventually("the session is gone", DEADLINE, || async { cluster.sessions(0) == 1 }).await;
        first.device(cluster.tcp(0)).await;
    })
    .await;
}
