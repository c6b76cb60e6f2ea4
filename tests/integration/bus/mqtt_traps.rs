//! What the client library of MQTT, or a broker, does on its own account, and the bus must not: on every broker.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use switchboard::bus::contract::DEADLINE;
use switchboard::bus::{BusEvent, BusState, MessageBus, Outgoing, Subject, Subscription};
use tokio::time::timeout;

use crate::harness::broker::bus_at;
use crate::harness::eventually;
use crate::harness::mqtt::Client;
use crate::harness::server::{Program, Server};

/// Stamps the traps on a kind of broker.
macro_rules! mqtt_traps {
    ($server:ty) => {
        super::mqtt_traps::mqtt_traps! { $server;
            everything_is_subscribed_again_after_a_restart
            nothing_that_waited_when_the_broker_was_killed_is_sent_later
            payloads_above_what_the_library_takes_by_default_arrive
            buses_of_one_process_do_not_cut_each_other_off
            concurrent_batches_of_one_bus_keep_their_order
            what_a_broker_has_kept_from_before_does_not_arrive
            a_subscriber_that_reads_nothing_holds_nobody_up_for_long
        }
    };
    ($server:ty; $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(server) = <$server>::start_new().await {
                    super::mqtt_traps::$case(&server).await;
                }
            }
        )*
    };
}

pub(super) use mqtt_traps;

/// The library connects by itself to a new session, without its subscriptions. More subjects than fit one SUBSCRIBE.
pub(super) async fn everything_is_subscribed_again_after_a_restart<P: Program>(server: &Server<P>) {
    let (listener, publisher) = (connected(server).await, connected(server).await);
    let subjects: Vec<Subject> = (0..450).map(|n| subject(&format!("again.{n}"))).collect();
    let mut subscription = within(listener.subscribe(&subjects[0])).await.unwrap();
    let added = subscription.subjects();
    for subject in &subjects[1..] {
        within(added.add(subject)).await.unwrap();
    }
    server.restart().await;
    read_to(&mut subscription, BusEvent::Resumed).await;
    within(publisher.state().wait_for(|state| matches!(state, BusState::Connected { epoch: 2 }))).await.unwrap();
    let batch = subjects.iter().map(|subject| outgoing(subject, subject.as_str().to_owned())).collect();
    assert!(within(publisher.publish(batch)).await.iter().all(Result::is_ok));
    let mut heard = Vec::new();
    for _ in &subjects {
        heard.push(message(&mut subscription).await);
    }
    heard.sort();
    let mut expected: Vec<Bytes> = subjects.iter().map(|subject| subject.as_str().to_owned().into()).collect();
    expected.sort();
    assert!(heard == expected, "a subject was not subscribed again");
}

/// The library keeps what it could not send, and sends it when it has connected again.
pub(super) async fn nothing_that_waited_when_the_broker_was_killed_is_sent_later<P: Program>(server: &Server<P>) {
    let (listener, publisher) = (connected(server).await, connected(server).await);
    let subject = subject("outage");
    let mut subscription = within(listener.subscribe(&subject)).await.unwrap();
    // Many times what the library has under way and in its queue.
    let publishing = (0..64).map(|_| {
        let (publisher, subject) = (Arc::clone(&publisher), subject.clone());
        tokio::spawn(async move {
            let batch = || vec![outgoing(&subject, vec![b'x'; 1000]); 200];
            while publisher.publish(batch()).await.iter().all(Result::is_ok) {}
        })
    });
    let publishing: Vec<_> = publishing.collect();
    // It flows.
    for _ in 0..100 {
        assert_ne!(within(subscription.next()).await, None);
    }
    server.kill();
    for published in within(join_all(publishing)).await {
        published.expect("no publisher panics");
    }
    within(listener.state().wait_for(|state| !state.is_connected())).await.unwrap();
    within(publisher.state().wait_for(|state| !state.is_connected())).await.unwrap();
    server.start().await;
    within(listener.state().wait_for(BusState::is_connected)).await.unwrap();
    within(publisher.state().wait_for(BusState::is_connected)).await.unwrap();
    let sent = within(publisher.publish(vec![outgoing(&subject, "now")])).await;
    assert!(sent[0].is_ok(), "{sent:?}");
    // The subscriber may have been slow before, so it may have been told `Lost` and `Resumed` more than once.
    let mut after = Vec::new();
    loop {
        match within(subscription.next()).await.expect("the bus is open") {
            BusEvent::Message(payload) if payload == "now" => break,
            BusEvent::Message(payload) => after.push(payload),
            BusEvent::Lost | BusEvent::Resumed => after.clear(),
        }
    }
    assert!(after.is_empty(), "{} messages from before the outage", after.len());
}

/// 10 KiB by default, to send and to receive.
pub(super) async fn payloads_above_what_the_library_takes_by_default_arrive<P: Program>(server: &Server<P>) {
    let (listener, publisher) = (connected(server).await, connected(server).await);
    // The longest subject leaves the least room.
    let subject = Subject::new(&format!("large.{}", "s".repeat(114))).unwrap();
    let mut subscription = within(listener.subscribe(&subject)).await.unwrap();
    let max = publisher.guarantees().max_payload;
    assert_eq!(max, 1024 * 1024);
    for size in [10 * 1024 - 1, 10 * 1024 + 1, 300_000, max - 1, max] {
        let sent = within(publisher.publish(vec![outgoing(&subject, vec![b'x'; size])])).await;
        assert!(sent[0].is_ok(), "{size}: {sent:?}");
        assert_eq!(message(&mut subscription).await.len(), size);
    }
    for bus in [&listener, &publisher] {
        assert!(matches!(*bus.state().borrow(), BusState::Connected { epoch: 1 }));
    }
}

/// A broker cuts a connection when another comes with its id.
pub(super) async fn buses_of_one_process_do_not_cut_each_other_off<P: Program>(server: &Server<P>) {
    let mut buses = Vec::new();
    for _ in 0..10 {
        buses.push(connected(server).await);
    }
    let subject = subject("ids");
    let mut subscriptions = Vec::new();
    for bus in &buses {
        subscriptions.push(within(bus.subscribe(&subject)).await.unwrap());
    }
    for bus in &buses {
        assert!(within(bus.publish(vec![outgoing(&subject, "x")])).await[0].is_ok());
    }
    for subscription in &mut subscriptions {
        for _ in &buses {
            assert_eq!(message(subscription).await, "x");
        }
    }
    for bus in &buses {
        assert!(matches!(*bus.state().borrow(), BusState::Connected { epoch: 1 }));
    }
}

/// With more publishes than may be under way at once, from publishers that do not wait for each other.
pub(super) async fn concurrent_batches_of_one_bus_keep_their_order<P: Program>(server: &Server<P>) {
    const PUBLISHERS: u32 = 16;
    const EACH: u32 = 1000;
    let (listener, publisher) = (connected(server).await, connected(server).await);
    let subject = subject("order");
    let mut subscription = within(listener.subscribe(&subject)).await.unwrap();
    for from in 0..PUBLISHERS {
        let (publisher, subject) = (Arc::clone(&publisher), subject.clone());
        tokio::spawn(async move {
            for batch in (0..EACH).collect::<Vec<_>>().chunks(100) {
                let numbered = |n: &u32| outgoing(&subject, (from * EACH + n).to_be_bytes().to_vec());
                let results = publisher.publish(batch.iter().map(numbered).collect()).await;
                assert!(results.iter().all(Result::is_ok), "{results:?}");
            }
        });
    }
    let mut next = vec![0; PUBLISHERS as usize];
    for _ in 0..PUBLISHERS * EACH {
        let n = u32::from_be_bytes(message(&mut subscription).await[..].try_into().unwrap());
        let expected = &mut next[(n / EACH) as usize];
        assert_eq!(n % EACH, *expected, "of publisher {}", n / EACH);
        *expected += 1;
    }
}

/// A retained message is given to whoever subscribes, however old it is.
pub(super) async fn what_a_broker_has_kept_from_before_does_not_arrive<P: Program>(server: &Server<P>) {
    let (listener, publisher) = (connected(server).await, connected(server).await);
    let subject = subject("kept");
    let mut stranger = Client::connect(server.address(), "stranger", 0).await;
    stranger.publish_retained(&subject.as_str().replace('.', "/"), b"old").await;
    let mut subscription = within(listener.subscribe(&subject)).await.unwrap();
    assert!(within(publisher.publish(vec![outgoing(&subject, "new")])).await[0].is_ok());
    assert_eq!(message(&mut subscription).await, "new");
}

/// Such is a node that stands still. A broker must neither keep everything for it nor wait for it, but cut it off, which
/// is how that node comes to know.
pub(super) async fn a_subscriber_that_reads_nothing_holds_nobody_up_for_long<P: Program>(server: &Server<P>) {
    /// In all more than the broker of the tests has memory for.
    const BATCHES: usize = 250;
    const BATCH: usize = 10;
    const SIZE: usize = 100_000;
    let (listener, publisher) = (connected(server).await, connected(server).await);
    let subject = subject("deaf");
    let mut subscription = within(listener.subscribe(&subject)).await.unwrap();
    let mut deaf = Client::connect(server.address(), "deaf", 3).await;
    deaf.subscribe(&subject.as_str().replace('.', "/")).await;
    let hearing = tokio::spawn(async move { read_to(&mut subscription, BusEvent::Message("end".into())).await });
    let payload = Bytes::from(vec![b'x'; SIZE]);
    let mut sent = 0;
    while sent < BATCHES {
        let batch = vec![outgoing(&subject, payload.clone()); BATCH];
        // A broker that waits for the deaf one is given up, until it has cut that one off.
        if within(publisher.publish(batch)).await.iter().all(Result::is_ok) {
            sent += 1;
        } else {
            within(publisher.state().wait_for(BusState::is_connected)).await.unwrap();
        }
    }
    // Whatever has happened meanwhile, the others hear each other.
    eventually("the others hear each other", DEADLINE, || async {
        publisher.publish(vec![outgoing(&subject, "end")]).await;
        hearing.is_finished()
    })
    .await;
    hearing.await.expect("it is heard");
}

pub(super) async fn connected<P: Program>(server: &Server<P>) -> Arc<dyn MessageBus> {
    let bus = bus_at(P::KIND, P::KEY, &server.url()).await;
    within(bus.state().wait_for(BusState::is_connected)).await.unwrap();
    bus
}

pub(super) fn subject(name: &str) -> Subject {
    Subject::new(&format!("traps.{name}")).unwrap()
}

pub(super) fn outgoing(subject: &Subject, payload: impl Into<Bytes>) -> Outgoing {
    Outgoing { subject: subject.clone(), payload: payload.into() }
}

/// Takes the next event, which must be a message.
pub(super) async fn message(subscription: &mut Subscription) -> Bytes {
    match within(subscription.next()).await {
        Some(BusEvent::Message(payload)) => payload,
        other => panic!("a message was expected, not {other:?}"),
    }
}

/// Reads on until an event, past all others.
pub(super) async fn read_to(subscription: &mut Subscription, wanted: BusEvent) {
    while within(subscription.next()).await.as_ref() != Some(&wanted) {}
}

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("it happens in time")
}
