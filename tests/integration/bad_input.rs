//! Bad input: one error per line, the connection lives on or is closed for a documented reason, and nobody else
//! notices.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use switchboard::protocol::{CloseReason, Codec, ErrorCode, Line, MAX_CLIENT_LINE, Request};

use crate::harness::cluster::{Bus, Cluster, Settings, run};
use crate::harness::{ANY, User, Wire, on_any_bus};

on_any_bus! {
    a_line_that_is_no_request_gets_one_error_and_the_connection_lives_on
    three_bad_frames_in_a_row_close_the_connection
    a_line_that_is_too_long_is_skipped
    a_line_without_end_closes_the_connection
    empty_lines_and_carriage_returns_are_ignored
    frames_may_come_byte_by_byte
    many_frames_may_come_at_once
    a_line_that_is_never_finished_holds_nobody_up
}

fn error(code: &str) -> Value {
    json!({"type": "error", "code": code, "message": ANY})
}

async fn a_line_that_is_no_request_gets_one_error_and_the_connection_lives_on(cluster: &mut Cluster) {
    let mut guest = Wire::connect(cluster.tcp(0)).await;
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    for wire in [&mut guest, &mut *alice] {
        for line in [
            &b"hello"[..],
            b"[]",
            b"null",
            b"7",
            b"{",
            b"{}",
            b"{\"type\":7}",
            b"{\"type\":\"dance\"}",
            b"{\"type\":\"send\"}",
            b"{\"type\":\"history\",\"conversation\":1,\"before\":1,\"after\":1}",
            b"{\"type\":\"history\",\"conversation\":-1}",
            b"{\"type\":\"received\",\"conversation\":9007199254740992,\"seq\":1}",
            b"{\"type\":\"login\",\"name\":\"a\"}",
            b"{\"type\":\"ping\"}{\"type\":\"ping\"}",
            b"{\"type\":\"ping\",\"type\":\"ping\",\"id\":{}}",
            b"\xff\xfe\xfd",
            b"{\"type\":\"ping\",\"id\":\"\xc3\x28\"}",
            b"\0",
            b"GET / HTTP/1.1",
        ] {
            wire.say_bytes(&[line, b"\n"].concat()).await;
            wire.expect(error("bad_frame")).await;
            wire.quiet().await;
        }
        // As much of the request as can be read is named.
        wire.say(json!({"type": "send", "id": 9, "key": "k", "to": "bob", "body": "b"})).await;
        wire.expect(json!({"type": "error", "id": 9, "key": "k", "code": "bad_frame", "message": ANY})).await;
        wire.quiet().await;
    }
}

async fn three_bad_frames_in_a_row_close_the_connection(cluster: &mut Cluster) {
    let mut wire = Wire::connect(cluster.tcp(0)).await;
    // Two and a good one, again and again, are no reason.
    for _ in 0..3 {
        wire.say_bytes(b"bad\nbad\n{\"type\":\"ping\"}\n").await;
        wire.expect(error("bad_frame")).await;
        wire.expect(error("bad_frame")).await;
        wire.expect(json!({"type": "pong"})).await;
    }
    wire.say_bytes(b"bad\nbad\nbad\n{\"type\":\"ping\"}\n").await;
    for _ in 0..3 {
        wire.expect(error("bad_frame")).await;
    }
    wire.closed_with(4103, "bad_frames").await;
    // A confirmation, which is never answered, is a good frame too.
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    for _ in 0..3 {
        alice.say_bytes(b"bad\nbad\n{\"type\":\"received\",\"conversation\":1,\"seq\":1}\n").await;
        alice.expect(error("bad_frame")).await;
        alice.expect(error("bad_frame")).await;
    }
    alice.quiet().await;
}

async fn a_line_that_is_too_long_is_skipped(cluster: &mut Cluster) {
    let mut wire = Wire::connect(cluster.tcp(0)).await;
    let ping = |bytes: usize| {
        let (head, tail) = ("{\"type\":\"ping\",\"id\":1,\"fill\":\"", "\"}\n");
        [head, &"x".repeat(bytes - head.len() - tail.len()), tail].concat()
    };
    // The longest line with its newline passes.
    wire.say_bytes(ping(MAX_CLIENT_LINE).as_bytes()).await;
    wire.expect(json!({"type": "pong", "id": 1})).await;
    for bytes in [MAX_CLIENT_LINE + 1, 2 * MAX_CLIENT_LINE, 7 * MAX_CLIENT_LINE] {
        wire.say_bytes(ping(bytes).as_bytes()).await;
        wire.expect(error("too_large")).await;
        wire.quiet().await;
    }
}

async fn a_line_without_end_closes_the_connection(cluster: &mut Cluster) {
    let mut wire = Wire::connect(cluster.tcp(0)).await;
    let piece = vec![b'x'; MAX_CLIENT_LINE];
    for _ in 0..16 {
        wire.say_bytes(&piece).await;
    }
    wire.closed_with(4104, "too_large").await;
}

async fn empty_lines_and_carriage_returns_are_ignored(cluster: &mut Cluster) {
    let mut wire = Wire::connect(cluster.tcp(0)).await;
    wire.say_bytes(b"\n\r\n\r\r\n \t\n\n{\"type\":\"ping\",\"id\":1}\r\n\r\n  {\"type\":\"ping\",\"id\":2} \r\n\n")
        .await;
    wire.expect(json!({"type": "pong", "id": 1})).await;
    wire.expect(json!({"type": "pong", "id": 2})).await;
    wire.quiet().await;
}

async fn frames_may_come_byte_by_byte(cluster: &mut Cluster) {
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    let group = alice.found("tea").await;
    let line = json!({"type": "send", "key": "k", "conversation": group, "body": "caf\u{E9} \u{1F600}"}).to_string();
    for byte in [line.as_bytes(), b"\n"].concat() {
        alice.say_bytes(&[byte]).await;
    }
    alice.expect(json!({"type": "sent", "key": "k", "conversation": group, "seq": 1, "at": ANY})).await;
    // Cut at every place, among them the middle of a character.
    for cut in 1..=line.len() {
        let whole = [line.as_bytes(), b"\n"].concat();
        alice.say_bytes(&whole[..cut]).await;
        alice.say_bytes(&whole[cut..]).await;
        alice.expect(json!({"type": "sent", "key": "k", "conversation": group, "seq": 1, "at": ANY})).await;
    }
}

async fn many_frames_may_come_at_once(cluster: &mut Cluster) {
    const COUNT: u64 = 20_000;
    let mut wire = Wire::connect(cluster.tcp(0)).await;
    let pings: String = (0..COUNT).map(|n| format!("{{\"type\":\"ping\",\"id\":{n}}}\n")).collect();
    // The client writes all of it before it reads anything.
    wire.say_bytes(pings.as_bytes()).await;
    for number in 0..COUNT {
        wire.expect(json!({"type": "pong", "id": number})).await;
    }
}

async fn a_line_that_is_never_finished_holds_nobody_up(cluster: &mut Cluster) {
    let mut stuck = Wire::connect(cluster.tcp(0)).await;
    stuck.say_bytes(b"{\"type\":\"ping\"").await;
    let mut alice = User::new(cluster.tcp(0), "alice").await;
    alice.quiet().await;
    stuck.say_bytes(b"}\n").await;
    stuck.expect(json!({"type": "pong"})).await;
}

/// Something a client might write: mostly not a request.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::sample::select(vec![
        "{\"type\":\"ping\",\"id\":1}",
        "{\"type\":\"ping\",\"id\":\"a\\u0000\"}",
        "{\"type\":\"history\",\"conversation\":1}",
        "{\"type\":\"send\",\"key\":\"k\",\"to\":999,\"body\":\"b\"}",
        "{\"type\":\"received\",\"conversation\":1,\"seq\":7}",
        "{\"type\":\"conversations\",\"before\":5,\"limit\":0}",
        "{\"type\":\"group_join\",\"conversation\":77}",
        "{\"type\":\"register\",\"name\":\"x\",\"password\":\"short\"}",
        "{\"type\":\"login\",\"name\":7}",
        "{\"type\":\"send\",\"key\":\"\",\"to\":1}",
        "{\"type\":\"\",\"id\":[]}",
        "{}",
        "null",
        "{\"type\":\"ping\"",
        "\r",
    ]);
    prop_oneof![
        6 => lines.prop_map(|line| [line.as_bytes(), b"\n"].concat()),
        2 => Just(b"\n".to_vec()),
        3 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (0..3 * MAX_CLIENT_LINE).prop_map(|length| vec![b'x'; length]),
        // Almost a request.
        2 => (prop::collection::vec(any::<u8>(), 0..4), 0..30_usize).prop_map(|(noise, at)| {
            let mut line = b"{\"type\":\"ping\",\"id\":\"abcdef\"}\n".to_vec();
            line.splice(at..at, noise);
            line
        }),
    ]
}

/// What a client writes, and where it is cut into writes.
fn input() -> impl Strategy<Value = (Vec<u8>, Vec<prop::sample::Index>)> {
    let bytes = prop::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat());
    (bytes, prop::collection::vec(any::<prop::sample::Index>(), 0..6))
}

fn cut(bytes: &[u8], places: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|ends| bytes[ends[0]..ends[1]].to_vec()).collect()
}

/// What is to be expected of the connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// Lines that hold anything.
    lines: usize,
    /// Three frames in a row are none, or a line has no end, or both.
    closes: Vec<CloseReason>,
}

/// Judges by codec and parser alone, and holds the codec to its memory.
fn judge(writes: &[Vec<u8>]) -> Verdict {
    let (mut codec, mut verdict, mut bad) = (Codec::new(MAX_CLIENT_LINE), Verdict::default(), 0);
    for write in writes {
        for read in write.chunks(16 * 1024) {
            codec.extend(read);
            while let Some(line) = codec.next_line() {
                verdict.lines += 1;
                let code = match line {
                    Line::Frame(line) => {
                        assert!(!line.is_empty() && line.len() < MAX_CLIENT_LINE);
                        Request::parse(&line).err().map(|malformed| malformed.code)
                    }
                    Line::TooLong => Some(ErrorCode::TooLarge),
                    Line::Endless => {
                        verdict.closes.push(CloseReason::TooLarge);
                        None
                    }
                };
                bad = if code == Some(ErrorCode::BadFrame) { bad + 1 } else { 0 };
                if bad == 3 {
                    verdict.closes.push(CloseReason::BadFrames);
                }
            }
            assert!(codec.buffered() < MAX_CLIENT_LINE, "{} bytes wait in the codec", codec.buffered());
        }
    }
    verdict
}

async fn throw(wire: &mut Wire, writes: Vec<Vec<u8>>) {
    // What is left of the last line ends here, and what was good before does not count for what comes.
    let writes = writes.into_iter().chain([b"\n".to_vec()]).collect::<Vec<_>>();
    let verdict = judge(&writes);
    for write in &writes {
        wire.say_bytes(write).await;
    }
    wire.say(json!({"type": "ping", "id": "the end"})).await;
    let mut errors = 0;
    loop {
        let frame = wire.hear_any().await.expect("no end without a reason");
        match frame["type"].as_str() {
            Some("error") => errors += 1,
            Some("pong") if frame["id"] == "the end" => {
                assert_eq!(verdict.closes, [], "the server should have closed");
                break;
            }
            Some("pong" | "conversations") => {}
            Some("closing") => {
                let code = verdict.closes.iter().find(|reason| frame["code"] == reason.code());
                assert!(code.is_some(), "{frame}, where {:?} were reasons", verdict.closes);
                break;
            }
            _ => panic!("{frame} is no answer to any of this"),
        }
    }
    assert!(errors <= verdict.lines, "{errors} errors for {} lines", verdict.lines);
}

#[test]
fn whatever_bytes_come_the_codec_is_bounded_and_the_session_answers_or_closes_by_the_book() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(Bus::Memory, Settings { nodes: 1, ..Settings::default() }, async |cluster: &mut Cluster| {
        let alice = User::new(cluster.tcp(0), "alice").await;
        let cluster = &*cluster;
        let thrown = tokio::task::block_in_place(|| {
            let mut runner = TestRunner::new(Config { cases: 500, failure_persistence: None, ..Config::default() });
            runner.run(&(input(), any::<bool>()), |((bytes, places), member)| {
                tokio::runtime::Handle::current().block_on(async {
                    let mut guest = Wire::connect(cluster.tcp(0)).await;
                    if member {
                        let mut user = alice.again(cluster.tcp(0), Value::Null).await;
                        user.expect(json!({"type": "caught_up", "more": []})).await;
                        throw(&mut user, cut(&bytes, &places)).await;
                    } else {
                        throw(&mut guest, cut(&bytes, &places)).await;
                    }
                });
                Ok(())
            })
        });
        if let Err(failure) = thrown {
            panic!("{failure}");
        }
        // The node has seen worse and is well.
        User::new(cluster.tcp(0), "bob").await.quiet().await;
    }));
}
