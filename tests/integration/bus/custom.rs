//! The backend of the example, which is outside the crate, is held to the contract that the crate's own are held to.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use switchboard::bus::contract::{ContractBroker, DEADLINE, Needs};
use switchboard::bus::{BusErrorKind, BusEvent, BusState, MessageBus, Outgoing, Subject, Supervised};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::example::stomp::StompBackend;
use self::example::stomp::frame::Frame;
use crate::harness::activemq::ActivemqServer;

#[allow(dead_code, reason = "its `main` is for the command line")]
#[path = "../../../examples/custom_backend/main.rs"]
mod example;

/// A real ActiveMQ, by its STOMP port.
struct Stomp(Arc<ActivemqServer>);

impl Stomp {
    async fn that(needs: Needs) -> Option<Self> {
        match needs {
            Needs::Own => ActivemqServer::start_new().await.map(Arc::new).map(Self),
            Needs::Shared => ActivemqServer::shared().await.map(Self),
        }
    }

    fn address(&self) -> String {
        self.0.program().stomp().to_string()
    }
}

#[async_trait]
impl ContractBroker for Stomp {
    async fn bus(&self) -> Arc<dyn MessageBus> {
        bus_at(&self.address())
    }

    async fn kill(&self) {
        self.0.kill();
    }

    async fn start(&self) {
        self.0.start().await;
    }

    async fn restart(&self) {
        self.0.restart().await;
    }

    async fn pause(&self) {
        self.0.pause();
    }

    async fn resume(&self) {
        self.0.resume();
    }
}

switchboard::bus_contract!(contract, Stomp::that);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_talk_through_the_backend_of_the_example() {
    let Some(broker) = Stomp::that(Needs::Shared).await else { return };
    within(example::talk_through(&broker.address())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_nobody_waits_for_leaves_no_half_frame() {
    let Some(broker) = Stomp::that(Needs::Shared).await else { return };
    let bus = broker.bus().await;
    let connected = *within(bus.state().wait_for(BusState::is_connected)).await.unwrap();
    let subject = Subject::new(&format!("custom.{:016x}", rand::random::<u64>())).unwrap();
    let mut subscription = within(bus.subscribe(&subject)).await.unwrap();
    let large = Bytes::from(vec![b'x'; bus.guarantees().max_payload]);
    for round in 0..20_u8 {
        let batch = vec![Outgoing { subject: subject.clone(), payload: large.clone() }; 4];
        let mut abandoned = Box::pin(bus.publish(batch));
        // It has begun, and is dropped before it can be done.
        poll_fn(|context| Poll::Ready(abandoned.as_mut().poll(context).is_ready())).await;
        drop(abandoned);
        let last = Bytes::copy_from_slice(&[round]);
        let sent = within(bus.publish(vec![Outgoing { subject: subject.clone(), payload: last.clone() }])).await;
        assert!(sent[0].is_ok(), "{sent:?}");
        loop {
            match within(subscription.next()).await {
                Some(BusEvent::Message(payload)) if payload == last => break,
                Some(BusEvent::Message(payload)) => assert!(payload == large, "half a message"),
                other => panic!("the link has broken: {other:?}"),
            }
        }
    }
    assert_eq!(*bus.state().borrow(), connected);
}

#[tokio::test]
async fn a_subject_that_the_broker_refuses_does_its_neighbours_no_harm() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bus = bus_at(&listener.local_addr().unwrap().to_string());
    let broker = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        let mut held = Vec::new();
        answer_all(&mut stream, &mut held).await;
        held
    });
    within(bus.state().wait_for(BusState::is_connected)).await.unwrap();
    let subjects = ["a", "secret", "b"].map(|name| Subject::new(name).unwrap());
    let subscribing = subjects.each_ref().map(|subject| bus.subscribe(subject));
    let subscriptions = within(futures_util::future::join_all(subscribing)).await;
    assert_eq!(subscriptions[1].as_ref().unwrap_err().kind(), BusErrorKind::Rejected);
    assert!(subscriptions[0].is_ok() && subscriptions[2].is_ok(), "{subscriptions:?}");
    within(bus.close()).await.unwrap();
    let mut held = within(broker).await.unwrap();
    held.sort();
    assert_eq!(held, ["a", "b"], "each once, though the first answer was for all three");
}

/// Answers as a broker does that refuses one subscription and goes on, until the client takes its leave.
async fn answer_all(stream: &mut TcpStream, held: &mut Vec<String>) {
    let mut buffer = BytesMut::new();
    loop {
        let Some(frame) = Frame::read(&mut buffer).unwrap() else {
            assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0, "it takes its leave");
            continue;
        };
        let id = frame.header("id").unwrap_or_default();
        let answer = match frame.command.as_str() {
            "CONNECT" => Frame::new("CONNECTED").with("version", "1.2"),
            "SUBSCRIBE" if id == "secret" => Frame::new("ERROR").with("message", "not for you"),
            _ => Frame::new("RECEIPT"),
        };
        match frame.command.as_str() {
            "SUBSCRIBE" if answer.command == "RECEIPT" => held.push(id.to_owned()),
            "UNSUBSCRIBE" => held.retain(|held| held != id),
            _ => {}
        }
        let answer = match frame.header("receipt") {
            Some(receipt) => answer.with("receipt-id", receipt),
            None => answer,
        };
        let mut bytes = BytesMut::new();
        answer.write(&mut bytes);
        stream.write_all(&bytes).await.unwrap();
        if frame.command == "DISCONNECT" {
            return;
        }
    }
}

#[test]
fn frames_are_read_whole_wherever_the_bytes_were_cut() {
    let frames = [
        Frame::new("CONNECTED").with("session", "ID:one"),
        Frame::new("MESSAGE").with("a:b", "\\c\r\n:\\").body(Bytes::from_static(b"\n\0\0\n")),
        Frame::new("RECEIPT").with("receipt-id", 7).body(Bytes::new()),
    ];
    let mut bytes = BytesMut::new();
    for frame in &frames {
        frame.write(&mut bytes);
        bytes.extend_from_slice(b"\n\r\n");
    }
    for cut in 0..=bytes.len() {
        let (mut buffer, mut read) = (BytesMut::from(&bytes[..cut]), Vec::new());
        for rest in [&bytes[cut..], b""] {
            while let Some(frame) = Frame::read(&mut buffer).unwrap() {
                read.push(frame);
            }
            buffer.extend_from_slice(rest);
        }
        assert_eq!(read, frames, "cut at {cut}");
    }
}

#[test]
fn what_is_no_frame_is_an_error_and_not_waited_for() {
    for garbage in ["A\nb\n\n\0", "A\na:\\t\n\n\0", "A\ncontent-length:x\n\n\0", "A\ncontent-length:1\n\nab\0"] {
        assert!(Frame::read(&mut BytesMut::from(garbage)).is_err(), "{garbage:?}");
    }
    assert!(Frame::read(&mut BytesMut::from("A\ncontent-length:9999999\n\n")).is_err(), "a body without a bound");
    assert!(Frame::read(&mut BytesMut::from(&*"a".repeat(20_000))).is_err(), "headers without a bound");
    let lines_of_windows = "RECEIPT\r\nreceipt-id:1\r\n\r\n\0";
    let frame = Frame::read(&mut BytesMut::from(lines_of_windows)).unwrap().unwrap();
    assert_eq!((frame.command.as_str(), frame.header("receipt-id")), ("RECEIPT", Some("1")));
}

#[test]
fn an_address_that_cannot_work_is_an_error_that_hides_the_password() {
    for bad in ["localhost", "secret@localhost:1", "user:secret@localhost"] {
        let error = StompBackend::new(bad).unwrap_err();
        assert_eq!(error.kind(), BusErrorKind::Config);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let shown = format!("{:?}", StompBackend::new("user:secret@localhost:1").unwrap());
    assert!(shown.contains("localhost:1") && !shown.contains("secret"), "{shown}");
}

fn bus_at(address: &str) -> Arc<dyn MessageBus> {
    Arc::new(Supervised::start(StompBackend::new(address).unwrap()))
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens in time")
}
