use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_util::task::TaskTracker;
use tungstenite::Message as Sent;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::*;
use crate::model::UserId;
use crate::protocol::{RequestBody, SendTarget, ServerFrame};
use crate::server::scene::{Client, Cluster, Host};

const TEXT: OpCode = OpCode::Data(Data::Text);
const BINARY: OpCode = OpCode::Data(Data::Binary);
const MORE: OpCode = OpCode::Data(Data::Continue);
const PING: OpCode = OpCode::Control(Control::Ping);

/// A frame as a client writes it.
fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mask = [7, 0, 255, 90];
    let header = FrameHeader { opcode, is_final, mask: Some(mask), ..FrameHeader::default() };
    let mut bytes = Vec::new();
    header.format(payload.len() as u64, &mut bytes).unwrap();
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    bytes
}

fn heard(messages: &mut Messages, bytes: &[u8]) -> Vec<Heard> {
    messages.extend(bytes);
    std::iter::from_fn(|| messages.next()).collect()
}

fn ping(id: u64) -> Vec<u8> {
    format!(r#"{{"type":"ping","id":{id}}}"#).into_bytes()
}

fn is_ping(heard: &Heard) -> bool {
    matches!(heard, Heard::Frame(_, Ok(Request { body: RequestBody::Ping {}, .. })))
}

fn refused(heard: &Heard) -> Option<ErrorCode> {
    match heard {
        Heard::Frame(_, Err(malformed)) => Some(malformed.code),
        _ => None,
    }
}

/// The code of the close frame that waits to be written.
fn close_code(messages: &mut Messages) -> u16 {
    let bytes = messages.aside().expect("a close frame");
    assert_eq!((bytes[0], bytes[1]), (0x88, 2), "the header of a close frame with a code");
    u16::from_be_bytes([bytes[2], bytes[3]])
}

#[test]
fn a_message_may_come_in_frames_with_a_ping_between_them() {
    let mut messages = Messages::new();
    let text = ping(1);
    let bytes = [
        frame(TEXT, false, &text[..5]),
        frame(PING, true, b"are you there?"),
        frame(MORE, false, b""),
        frame(MORE, true, &text[5..]),
    ];
    let heard = heard(&mut messages, &bytes.concat());
    assert_eq!(heard, [Heard::Frame(text.len(), Request::parse(&text))]);
    assert_eq!(messages.aside().unwrap(), [b"\x8a\x0e", &b"are you there?"[..]].concat());
    assert_eq!(messages.aside(), None, "a ping is answered once");
    assert_eq!(messages.buffer.capacity(), 0, "an idle connection holds no buffer");
}

#[test]
fn only_the_last_ping_is_answered_when_several_wait() {
    let mut messages = Messages::new();
    let pings: Vec<u8> = (0..100).flat_map(|n: u8| frame(PING, true, &[n])).collect();
    assert_eq!(heard(&mut messages, &pings), []);
    assert_eq!(messages.aside().unwrap(), &b"\x8a\x01\x63"[..]);
}

#[test]
fn a_message_is_one_object_whatever_lines_it_has() {
    let mut messages = Messages::new();
    let heard = heard(&mut messages, &frame(TEXT, true, b"\n {\n\t\"type\":\r\n \"ping\"\n}\r\n\n"));
    assert!(matches!(&heard[..], [ping] if is_ping(ping)), "{heard:?}");
    let two = self::heard(&mut messages, &frame(TEXT, true, &[ping(1), b"\n".to_vec(), ping(2)].concat()));
    assert_eq!(two.iter().map(refused).collect::<Vec<_>>(), [Some(ErrorCode::BadFrame)]);
}

#[test]
fn empty_messages_are_ignored_and_binary_ones_are_no_frames() {
    let mut messages = Messages::new();
    assert_eq!(heard(&mut messages, &[frame(TEXT, true, b""), frame(TEXT, true, b" \r\n")].concat()), []);
    let heard = heard(
        &mut messages,
        &[frame(BINARY, false, &ping(1)), frame(MORE, true, b""), frame(TEXT, true, &ping(2))].concat(),
    );
    assert_eq!(refused(&heard[0]), Some(ErrorCode::BadFrame));
    assert!(is_ping(&heard[1]) && heard.len() == 2, "{heard:?}");
}

#[test]
fn the_longest_message_passes_and_one_byte_more_does_not() {
    let mut messages = Messages::new();
    let spaces = |bytes: u64| [ping(1), vec![b' '; bytes as usize - ping(1).len()]].concat();
    assert!(is_ping(&heard(&mut messages, &frame(TEXT, true, &spaces(MAX_MESSAGE)))[0]));
    for long in [
        frame(TEXT, true, &spaces(MAX_MESSAGE + 1)),
        [frame(TEXT, false, &spaces(MAX_MESSAGE)), frame(MORE, true, b" ")].concat(),
        frame(TEXT, true, &spaces(ENDLESS_MESSAGE)),
    ] {
        let heard = heard(&mut messages, &[long, frame(TEXT, true, &ping(2))].concat());
        assert_eq!(refused(&heard[0]), Some(ErrorCode::TooLarge));
        assert!(is_ping(&heard[1]), "the next one is read as usual");
    }
}

#[test]
fn a_message_without_end_is_given_up_and_holds_no_memory() {
    for first in [MAX_MESSAGE, 0] {
        let mut messages = Messages::new();
        let piece = frame(MORE, false, &[b'x'; 4096]);
        assert_eq!(heard(&mut messages, &frame(TEXT, false, &vec![b'x'; first as usize])), []);
        let mut seen = Vec::new();
        for _ in 0..=ENDLESS_MESSAGE / 4096 {
            seen.extend(heard(&mut messages, &piece));
            let held = messages.message.as_ref().map_or(0, |message| message.bytes.len()) + messages.buffer.len();
            assert!(messages.over || held as u64 <= MAX_MESSAGE);
        }
        assert_eq!(seen, [Heard::Endless]);
    }
    // A header that announces too much is enough.
    let mut messages = Messages::new();
    let mut bytes = Vec::new();
    let header = FrameHeader { opcode: TEXT, mask: Some([0; 4]), ..FrameHeader::default() };
    header.format(u64::MAX, &mut bytes).unwrap();
    assert_eq!(heard(&mut messages, &bytes), [Heard::Endless]);
}

#[test]
fn what_is_no_websocket_ends_the_connection_with_its_code() {
    let unmasked = [&[0x81, 2][..], b"{}"].concat();
    let mut reserved_bit = frame(TEXT, true, b"{}");
    reserved_bit[0] |= 0x40;
    let mut reserved_opcode = frame(TEXT, true, b"{}");
    reserved_opcode[0] = 0x83;
    for (bytes, code) in [
        (unmasked, 1002),
        (reserved_bit, 1002),
        (reserved_opcode, 1002),
        (frame(MORE, true, b"{}"), 1002),
        ([frame(TEXT, false, b"{"), frame(TEXT, true, b"}")].concat(), 1002),
        (frame(PING, false, b""), 1002),
        (frame(PING, true, &[0; 126]), 1002),
        (frame(TEXT, true, b"{\"type\":\"\xff\"}"), 1007),
    ] {
        let mut messages = Messages::new();
        let heard = heard(&mut messages, &[bytes, frame(TEXT, true, &ping(1))].concat());
        assert_eq!(heard, [Heard::Over]);
        assert_eq!(close_code(&mut messages), code);
        assert_eq!(messages.farewell(CloseReason::Idle), None, "it has been said");
    }
}

#[test]
fn a_close_frame_is_answered_with_its_code() {
    let close = |payload: &[u8]| frame(OpCode::Control(Control::Close), true, payload);
    for (payload, code) in [(&b"\x03\xe8bye"[..], 1000), (b"\x0f\xa0", 4000), (b"\x00\x01", 1002), (b"\x03", 1002)] {
        let mut messages = Messages::new();
        assert_eq!(heard(&mut messages, &[close(payload), frame(TEXT, true, &ping(1))].concat()), [Heard::Over]);
        assert_eq!(close_code(&mut messages), code, "{payload:?}");
    }
    let mut messages = Messages::new();
    assert_eq!(heard(&mut messages, &close(b"")), [Heard::Over]);
    assert_eq!(messages.aside().unwrap(), &b"\x88\x00"[..]);
}

#[test]
fn the_farewell_carries_code_and_reason_and_is_said_once() {
    let mut messages = Messages::new();
    assert!(messages.owes_farewell());
    let bytes = messages.farewell(CloseReason::Slow).unwrap();
    assert_eq!(bytes, [&[0x88, 6, 0x0f, 0xa4][..], b"slow"].concat());
    assert!(!messages.owes_farewell());
    assert_eq!(messages.farewell(CloseReason::Slow), None);
}

#[test]
fn a_frame_of_the_outbox_goes_out_without_its_newline_and_pays_for_it() {
    for (length, head) in
        [(2, &b"\x81\x02"[..]), (300, b"\x81\x7e\x01\x2c"), (70_000, b"\x81\x7f\0\0\0\0\0\x01\x11\x70")]
    {
        let mut line = vec![b'x'; length];
        line.push(b'\n');
        let (line, mut unsent) = (Bytes::from(line), VecDeque::new());
        Messages::new().wrap(line.clone(), &mut unsent);
        assert_eq!(unsent.iter().map(|piece| piece.owes).sum::<usize>(), line.len());
        assert_eq!(unsent[0].bytes, head);
        assert_eq!(unsent[1].bytes.as_ptr(), line.as_ptr(), "the bytes are shared");
        assert_eq!(unsent[1].bytes, line[..length]);
    }
}

/// A message, in frames that end at these places, and whether a ping goes before each.
fn message() -> impl Strategy<Value = (Vec<u8>, Vec<prop::sample::Index>, bool)> {
    let text = prop_oneof![
        (0..9_u64).prop_map(ping),
        Just(Vec::new()),
        "[a-z{}\"]{0,300}".prop_map(String::into_bytes),
        (0..70_000_usize).prop_map(|length| vec![b'x'; length]),
    ];
    (text, prop::collection::vec(any::<prop::sample::Index>(), 0..4), any::<bool>())
}

fn places(cuts: &[prop::sample::Index], length: usize) -> Vec<usize> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(length + 1)).chain([0, length]).collect();
    places.sort_unstable();
    places
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut(
        sent in prop::collection::vec(message(), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (text, frames, pings) in &sent {
            let ends = places(frames, text.len());
            for (number, part) in ends.windows(2).enumerate() {
                if *pings {
                    bytes.extend(frame(PING, true, b"!"));
                }
                let opcode = if number == 0 { TEXT } else { MORE };
                bytes.extend(frame(opcode, number + 2 == ends.len(), &text[part[0]..part[1]]));
            }
            if !text.is_empty() {
                expected.push(Heard::Frame(text.len(), Request::parse(text)));
            }
        }
        let mut messages = Messages::new();
        let mut seen = Vec::new();
        for part in places(&cuts, bytes.len()).windows(2) {
            seen.extend(heard(&mut messages, &bytes[part[0]..part[1]]));
        }
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn no_bytes_make_it_panic_or_grow(
        parts in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..64),
                (0..16_u8, any::<bool>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(opcode, is_final, payload)| {
                    frame(OpCode::from(opcode), is_final, &payload)
                }),
            ],
            0..20,
        ),
    ) {
        let mut messages = Messages::new();
        for part in parts {
            let before = messages.over;
            let heard = heard(&mut messages, &part);
            prop_assert!(!before || heard.is_empty(), "nothing comes behind the end");
            prop_assert!(messages.over || messages.buffer.len() < 14, "only a header waits in the buffer");
        }
    }
}

/// The client's end of a WebSocket of a node.
struct Socket {
    stream: WebSocketStream<TcpStream>,
    served: JoinHandle<()>,
}

impl Socket {
    async fn login(host: &Host, user: UserId) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let socket = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (core, stop, tracker) = (Arc::clone(&host.core), CancellationToken::new(), TaskTracker::new());
        let served = tokio::spawn(connection::serve(core, stream, Messages::new(), stop, tracker.token()));
        let config = WebSocketConfig::default().read_buffer_size(1024);
        let stream = WebSocketStream::from_raw_socket(socket, Role::Client, Some(config)).await;
        let mut socket = Self { stream, served };
        let token = host.core.tokens.issue(user, 0);
        socket.say(Sent::text(format!(r#"{{"type":"login","token":"{token}"}}"#))).await;
        while !matches!(socket.hear().await, Some(Ok(ServerFrame::CaughtUp { .. }))) {}
        socket
    }

    async fn say(&mut self, message: Sent) {
        self.stream.send(message).await.unwrap();
    }

    /// The next frame, or the close frame; `None` at the end.
    async fn hear(&mut self) -> Option<Result<ServerFrame, Option<CloseFrame>>> {
        loop {
            match self.stream.next().await?.unwrap() {
                Sent::Text(text) => return Some(Ok(ServerFrame::parse(text.as_bytes()).unwrap())),
                Sent::Close(close) => return Some(Err(close)),
                Sent::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads to the end, at which `closing` and the close frame give the same reason.
    async fn end(&mut self) -> u16 {
        let mut reason = None;
        loop {
            match self.hear().await.expect("a close frame") {
                Ok(ServerFrame::Closing { close, .. }) => reason = Some(close),
                Ok(_) => assert_eq!(reason, None, "nothing comes behind `closing`"),
                Err(frame) => {
                    let (frame, reason) = (frame.unwrap(), reason.expect("`closing` comes before the close frame"));
                    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (reason.code, &*reason.reason));
                    assert!(self.hear().await.is_none());
                    return reason.code;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_of_websocket_is_a_sign_of_life() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let bob = cluster.user("bob").await;
    let mut socket = Socket::login(&a, bob).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let begun = Instant::now();
    socket.say(Sent::Ping(Bytes::new())).await;
    assert_eq!(socket.end().await, CloseReason::Idle.code());
    let silent = begun.elapsed();
    assert!((Duration::from_secs(90)..Duration::from_secs(91)).contains(&silent), "{silent:?}");
}

#[tokio::test(start_paused = true)]
async fn who_reads_nothing_for_thirty_seconds_is_closed() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let mut alice = Client::login(&a, alice).await;
    let mut socket = Socket::login(&a, bob).await;
    let begun = Instant::now();
    let body = "x".repeat(60_000);
    // More than all buffers between the two hold.
    for number in 0..200 {
        alice.sent(&format!("k-{number}"), SendTarget::User { to: bob }, &body).await;
    }
    (&mut socket.served).await.unwrap();
    assert!((Duration::from_secs(30)..Duration::from_secs(36)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(a.core.locals.of(bob).len(), 0);
}

#[tokio::test]
async fn a_close_frame_ends_the_session_at_once() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let bob = cluster.user("bob").await;
    let mut socket = Socket::login(&a, bob).await;
    let code = CloseCode::Normal;
    socket.say(Sent::Close(Some(CloseFrame { code, reason: "bye".into() }))).await;
    assert_eq!(socket.hear().await, Some(Err(Some(CloseFrame { code, reason: "".into() }))));
    assert!(socket.hear().await.is_none());
    assert_eq!(a.core.locals.of(bob).len(), 0, "the session ends before the close frame is answered to the end");
}
