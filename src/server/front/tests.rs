//! A connection and the clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use crate::model::{Key, MessageKind, UserId};
use crate::protocol::{CloseReason, ErrorCode, SendTarget, ServerFrame};
use crate::server::LimitsConfig;
use crate::server::scene::{Call, Client, Cluster, Host, eventually};
use crate::server::service::{self, Sending};

/// The client's end of a connection to a node.
struct Wire {
    socket: BufReader<TcpStream>,
    served: JoinHandle<()>,
}

impl Wire {
    async fn connect(host: &Host) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let socket = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (core, stop, tracker) = (Arc::clone(&host.core), CancellationToken::new(), TaskTracker::new());
        let served = tokio::spawn(connection::run(core, stream, stop, tracker.token()));
        Self { socket: BufReader::new(socket), served }
    }

    async fn login(host: &Host, user: UserId) -> Self {
        let mut wire = Self::connect(host).await;
        wire.say(&format!(r#"{{"type":"login","token":"{}"}}"#, host.core.tokens.issue(user, 0))).await;
        while !matches!(wire.hear().await, Some(ServerFrame::CaughtUp { .. })) {}
        wire
    }

    async fn say(&mut self, line: &str) {
        self.socket.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The next frame; `None` at the end.
    async fn hear(&mut self) -> Option<ServerFrame> {
        let mut line = Vec::new();
        let count = self.socket.read_until(b'\n', &mut line).await.unwrap();
        (count > 0).then(|| ServerFrame::parse(&line).unwrap())
    }

    /// Reads to the end. Returns why it came.
    async fn end(&mut self) -> Option<String> {
        let mut reason = None;
        while let Some(frame) = self.hear().await {
            if let ServerFrame::Closing { close, .. } = frame {
                reason = Some(close.reason);
            }
        }
        reason
    }
}

fn about(time: Duration, seconds: u64) -> bool {
    (Duration::from_secs(seconds)..Duration::from_secs(seconds + 1)).contains(&time)
}

#[tokio::test(start_paused = true)]
async fn who_does_not_log_in_within_ten_seconds_is_closed() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let begun = Instant::now();
    let mut wire = Wire::connect(&a).await;
    wire.say(r#"{"type":"ping"}"#).await;
    assert_eq!(wire.end().await.as_deref(), Some(CloseReason::HandshakeTimeout.as_str()));
    assert!(about(begun.elapsed(), 10), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_for_ninety_seconds_is_closed() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let bob = cluster.user("bob").await;
    let mut wire = Wire::login(&a, bob).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let begun = Instant::now();
    wire.say(r#"{"type":"ping"}"#).await;
    assert_eq!(wire.end().await.as_deref(), Some(CloseReason::Idle.as_str()));
    assert!(about(begun.elapsed(), 90), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_reads_nothing_for_thirty_seconds_is_closed() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let mut alice = Client::login(&a, alice).await;
    let mut wire = Wire::login(&a, bob).await;
    let begun = Instant::now();
    let body = "x".repeat(60_000);
    // More than all buffers between the two hold.
    for number in 0..200 {
        alice.sent(&format!("k-{number}"), SendTarget::User { to: bob }, &body).await;
    }
    (&mut wire.served).await.unwrap();
    assert!((Duration::from_secs(30)..Duration::from_secs(36)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(a.core.locals.of(bob).len(), 0);
}

#[tokio::test]
async fn confirmations_go_on_while_a_request_takes_time() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let conversation = cluster.direct(alice, bob).await;
    cluster.write(conversation, alice, MessageKind::Text, "hello").await;
    let mut wire = Wire::login(&a, bob).await;
    let held = a.store.hold_before(Call::Memberships);
    wire.say(r#"{"type":"conversations"}"#).await;
    held.reached().await;
    wire.say(&format!(r#"{{"type":"received","conversation":{conversation},"seq":1}}"#)).await;
    let delivered = async || cluster.log.memberships(&[bob], None, 1).await.unwrap()[0].delivered;
    let deadline = Instant::now() + Duration::from_secs(30);
    while delivered().await != 1 {
        assert!(Instant::now() < deadline, "the confirmation waits for the answer");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(held);
    while !matches!(wire.hear().await, Some(ServerFrame::Conversations { .. })) {}
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_dropped_alone_is_made_good() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let bob = cluster.user("bob").await;
    let mut wire = Wire::login(&a, bob).await;
    let outbox = Arc::clone(&a.core.locals.of(bob)[0].outbox);
    // Answers that fill the outbox, and an event that has no room.
    outbox.reply_line(vec![b' '; 300 * 1024].into_iter().chain(*b"\n").collect());
    outbox.event(bytes::Bytes::from_static(b"{\"type\":\"degraded\",\"since\":1}\n"));
    loop {
        let mut line = Vec::new();
        wire.socket.read_until(b'\n', &mut line).await.unwrap();
        if line.trim_ascii() == br#"{"type":"restored"}"# {
            return;
        }
        assert!(line.trim_ascii().is_empty(), "{}", String::from_utf8_lossy(&line));
    }
}

#[tokio::test]
async fn who_asks_too_often_is_refused_and_in_the_end_closed() {
    let cluster = Cluster::new().await;
    let limits = LimitsConfig { requests_per_second: 1, ..LimitsConfig::default() };
    let a = cluster.start("node-a", limits).await;
    let mut wire = Wire::connect(&a).await;
    wire.say("{\"type\":\"ping\"}\n{\"type\":\"send\",\"id\":7,\"key\":\"k\",\"to\":1,\"body\":\"b\"}").await;
    assert!(matches!(wire.hear().await, Some(ServerFrame::Pong { .. })));
    match wire.hear().await {
        Some(ServerFrame::Error { id: Some(_), key: Some(key), code, retry_ms: Some(1..=1_001), .. }) => {
            assert_eq!((key.as_str(), code), ("k", ErrorCode::RateLimited));
        }
        other => panic!("{other:?}"),
    }
    wire.say(&"{\"type\":\"ping\"}\n".repeat(2_000)).await;
    assert_eq!(wire.end().await.as_deref(), Some(CloseReason::RateLimited.as_str()));
}

#[tokio::test]
async fn a_message_that_finds_the_appender_full_waits_for_room() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    let [alice, bob] = cluster.users(["alice", "bob"]).await;
    let speaker = Client::login(&a, alice).await;
    let mut wire = Wire::login(&a, bob).await;
    let held = a.store.hold_before(Call::Append);
    let session = speaker.member.as_ref().unwrap().session();
    let send = |number: usize| {
        let (key, to) = (Key::new(&format!("k-{number}")).unwrap(), SendTarget::User { to: bob });
        service::send(&a.core, session, None, key, to, "hello".to_owned()).unwrap()
    };
    send(0);
    held.reached().await;
    assert!((1..10_000).any(|number| matches!(send(number), Sending::Full(_))), "the queue has no bound");
    wire.say(&format!(r#"{{"type":"send","key":"k","to":{alice},"body":"me too"}}"#)).await;
    let outbox = Arc::clone(&a.core.locals.of(bob)[0].outbox);
    eventually("it was taken", || outbox.is_promising()).await;
    drop(held);
    loop {
        match wire.hear().await {
            Some(ServerFrame::Sent { .. }) => return,
            Some(ServerFrame::Message(_) | ServerFrame::Conversation(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}
