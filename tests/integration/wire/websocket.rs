//! What only WebSocket has, and what it shares with TCP.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use switchboard::protocol::{ErrorCode, MAX_CLIENT_LINE, Request};
use switchboard::server::LimitsConfig;
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::socket::Web;
use crate::harness::cluster::{Bus, Cluster, Settings, run};
use crate::harness::{ANY, User, Wire, fits, get, on_any_bus};

on_any_bus! {
    what_is_no_upgrade_is_told_so
    a_page_of_any_origin_may_connect
    three_binary_messages_in_a_row_close
    a_message_too_long_is_refused_and_an_endless_one_closes
    pings_are_answered_with_what_they_bring
    clients_of_both_fronts_talk
}

async fn expect(web: &mut Web, expected: Value) -> Value {
    let frame = web.hear().await.expect("the connection lives");
    assert!(fits(&frame, &expected), "expected {expected}, got {frame}");
    frame
}

fn error(code: &str) -> Value {
    json!({"type": "error", "code": code, "message": ANY})
}

fn ping(id: &str) -> Message {
    Message::text(json!({"type": "ping", "id": id}).to_string())
}

async fn what_is_no_upgrade_is_told_so(cluster: &mut Cluster) {
    let (status, body) = get(cluster.http(0), "/ws").await.unwrap();
    assert_eq!(status, 426);
    assert!(body.contains("websocket"), "{body}");
    assert_eq!(get(cluster.http(0), "/livez").await, Some((200, "ok\n".to_owned())));
    let (status, body) = get(cluster.http(1), "/readyz").await.unwrap();
    let ready = json!({"node": "node-1", "state": "ready", "degraded": false});
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, ready));
    assert_eq!(get(cluster.http(0), "/").await.unwrap().0, 404);
}

async fn a_page_of_any_origin_may_connect(cluster: &mut Cluster) {
    let address = cluster.http(0);
    let mut request = format!("ws://{address}/ws").into_client_request().unwrap();
    request.headers_mut().insert("Origin", "https://elsewhere.example".parse().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    let (_, response) = client_async(request, stream).await.unwrap();
    assert_eq!(response.status(), 101);
}

async fn three_binary_messages_in_a_row_close(cluster: &mut Cluster) {
    let mut web = Web::connect(cluster.http(0)).await;
    let binary = || Message::binary(&br#"{"type":"ping"}"#[..]);
    for _ in 0..2 {
        for _ in 0..2 {
            web.say(binary()).await;
            expect(&mut web, error("bad_frame")).await;
        }
        web.say(ping("fine")).await;
        expect(&mut web, json!({"type": "pong", "id": "fine"})).await;
    }
    for _ in 0..3 {
        web.say(binary()).await;
        expect(&mut web, error("bad_frame")).await;
    }
    expect(
        &mut web,
        json!({"type": "closing", "code": 4103, "reason": "bad_frames", "reconnect": false, "after_ms": 0}),
    )
    .await;
    assert_eq!(web.hear().await, None);
    assert_eq!(web.closed, Some((4103, "bad_frames".to_owned())));
}

async fn a_message_too_long_is_refused_and_an_endless_one_closes(cluster: &mut Cluster) {
    let mut web = Web::connect(cluster.http(0)).await;
    let filled = |bytes: usize| {
        let (head, tail) = ("{\"type\":\"ping\",\"id\":1,\"fill\":\"", "\"}");
        Message::text([head, &"x".repeat(bytes - head.len() - tail.len()), tail].concat())
    };
    web.say(filled(MAX_CLIENT_LINE)).await;
    expect(&mut web, json!({"type": "pong", "id": 1})).await;
    for bytes in [MAX_CLIENT_LINE + 1, 7 * MAX_CLIENT_LINE] {
        web.say(filled(bytes)).await;
        expect(&mut web, error("too_large")).await;
    }
    // The server does not wait for the end of it, and the client can read why.
    web.try_say(filled(64 * MAX_CLIENT_LINE)).await;
    expect(
        &mut web,
        json!({"type": "closing", "code": 4104, "reason": "too_large", "reconnect": false, "after_ms": 0}),
    )
    .await;
    assert_eq!(web.hear().await, None);
    assert_eq!(web.closed, Some((4104, "too_large".to_owned())));
}

async fn pings_are_answered_with_what_they_bring(cluster: &mut Cluster) {
    let mut web = Web::connect(cluster.http(0)).await;
    for number in 0..10_u8 {
        let payload = Bytes::from(vec![number; usize::from(number)]);
        web.say(Message::Ping(payload.clone())).await;
        assert_eq!(web.hear_any().await, Some(Message::Pong(payload)));
    }
    web.say(Message::Pong(Bytes::new())).await;
    web.say(ping("still here")).await;
    expect(&mut web, json!({"type": "pong", "id": "still here"})).await;
}

async fn clients_of_both_fronts_talk(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    for node in 0..2 {
        let mut web = Web::connect(cluster.http(node)).await;
        web.say(Message::text(json!({"type": "login", "token": alice.token}).to_string())).await;
        while web.hear().await.unwrap()["type"] != "caught_up" {}
        assert_eq!(cluster.sessions(node), 2 - node, "sessions of both fronts are counted");
        let bob = User::new(cluster.tcp(1 - node), &format!("bob-{node}")).await;
        let sent = alice.tell(bob.id, &format!("k-{node}"), "hello").await;
        assert_eq!(web.hear().await.unwrap()["type"], "conversation");
        assert_eq!(web.hear().await.unwrap(), alice.message(sent, &format!("k-{node}"), "hello"));
        web.say(Message::Close(None)).await;
        assert_eq!(web.hear().await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_both_fronts_share_a_users_limit() {
    let limits = LimitsConfig { sessions_per_user: 1, ..LimitsConfig::default() };
    run(Bus::Memory, Settings { limits, ..Settings::default() }, async |cluster: &mut Cluster| {
        let alice = User::new(cluster.tcp(0), "alice").await;
        let login = json!({"type": "login", "token": alice.token});
        let mut web = Web::connect(cluster.http(0)).await;
        web.say(Message::text(login.to_string())).await;
        assert_eq!(web.hear().await.unwrap()["code"], 4102);
        let mut web = Web::connect(cluster.http(1)).await;
        web.say(Message::text(login.to_string())).await;
        assert_eq!(web.hear().await.unwrap()["type"], "welcome");
        let mut wire = Wire::connect(cluster.tcp(1)).await;
        wire.say(login).await;
        wire.closed_with(4102, "too_many_sessions").await;
    })
    .await;
}

/// Something a client might say: mostly no request.
fn message() -> impl Strategy<Value = Message> {
    let requests = prop::sample::select(vec![
        r#"{"type":"ping","id":1}"#,
        "\n{\"type\":\n\"ping\"}\n",
        r#"{"type":"ping"}{"type":"ping"}"#,
        r#"{"type":"history","conversation":1}"#,
        r#"{"type":"send","key":"k","to":999,"body":"b"}"#,
        r#"{"type":"login","name":7}"#,
        r#"{"type":"register","name":"x","password":"short"}"#,
        "",
        " \r\n ",
        "{}",
        "null",
    ]);
    prop_oneof![
        6 => requests.prop_map(Message::text),
        3 => any::<String>().prop_map(Message::text),
        2 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Message::binary),
        1 => prop::collection::vec(any::<u8>(), 0..125).prop_map(|payload| Message::Ping(payload.into())),
        1 => (0..3 * MAX_CLIENT_LINE).prop_map(|length| Message::text("x".repeat(length))),
    ]
}

/// The answer that a message must get: `Some(None)` is one without an error, `None` is none at all.
fn judge(message: &Message) -> Option<Option<ErrorCode>> {
    match message {
        Message::Text(text) if text.len() > MAX_CLIENT_LINE => Some(Some(ErrorCode::TooLarge)),
        Message::Text(text) if text.trim_ascii().is_empty() => None,
        Message::Text(text) => Some(Request::parse(text.trim_ascii().as_bytes()).err().map(|malformed| malformed.code)),
        Message::Binary(_) => Some(Some(ErrorCode::BadFrame)),
        _ => None,
    }
}

async fn throw(mut web: Web, messages: Vec<Message>) {
    let verdicts: Vec<Option<ErrorCode>> = messages.iter().filter_map(judge).collect();
    let bad = |row: &[Option<ErrorCode>]| row.iter().all(|code| *code == Some(ErrorCode::BadFrame));
    let closes = verdicts.windows(3).position(bad);
    for message in messages {
        if !web.try_say(message).await {
            break;
        }
    }
    web.try_say(ping("the end")).await;
    let mut answers = 0;
    loop {
        let frame = web.hear().await.expect("no end without a reason");
        if frame["type"] == "closing" {
            let three = closes.expect("the server should not have closed");
            assert_eq!((frame["code"].as_u64(), answers), (Some(4103), three + 3), "{verdicts:?}");
            assert_eq!(web.hear().await, None);
            assert_eq!(web.closed, Some((4103, "bad_frames".to_owned())));
            return;
        }
        if frame["id"] == "the end" {
            assert_eq!((closes, answers), (None, verdicts.len()), "{verdicts:?}");
            return;
        }
        if let Some(code) = verdicts[answers] {
            assert_eq!(frame["code"], code.as_str());
        }
        answers += 1;
    }
}

#[test]
fn whatever_messages_come_the_session_answers_or_closes_by_the_book() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(Bus::Memory, Settings { nodes: 1, ..Settings::default() }, async |cluster: &mut Cluster| {
        let cluster = &*cluster;
        let thrown = tokio::task::block_in_place(|| {
            let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
            runner.run(&prop::collection::vec(message(), 0..12), |messages| {
                tokio::runtime::Handle::current().block_on(async {
                    throw(Web::connect(cluster.http(0)).await, messages).await;
                });
                Ok(())
            })
        });
        if let Err(failure) = thrown {
            panic!("{failure}");
        }
        User::new(cluster.tcp(0), "bob").await.quiet().await;
    }));
}
