use std::sync::Arc;

use bytes::Bytes;
use switchboard::bus::connect::connect_raw;
use switchboard::bus::contract::DEADLINE;
use switchboard::bus::nats::NatsBackend;
use switchboard::bus::{BusErrorKind, BusEvent, MessageBus, Outgoing, Subject, Subscription, Supervised, inspect};

use crate::harness::broker::Place;
use crate::harness::eventually;
use crate::harness::free_port;
use crate::harness::nats::{Nats, NatsServer, bus_at, config_of};

switchboard::bus_contract!(contract, Place::<Nats>::that);

const MAX_PAYLOAD: usize = 1024 * 1024;

/// How a server goes away, and comes back.
#[derive(Debug, Clone, Copy)]
enum Outage {
    Kill,
    Freeze,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_published_in_an_outage_is_delivered_later_and_no_old_link_comes_back() {
    let Some(server) = NatsServer::start_new().await else { return };
    let bus = bus_at(&server.url()).await;
    connected(&*bus).await;
    let mut subscription = within(bus.subscribe(&subject("outage"))).await.unwrap();
    for outage in [Outage::Kill, Outage::Kill, Outage::Freeze, Outage::Kill] {
        match outage {
            Outage::Kill => server.kill(),
            Outage::Freeze => server.pause(),
        }
        assert_eq!(event(&mut subscription).await, BusEvent::Lost, "{outage:?}");
        let refused = publish(&*bus, "outage", "in the outage").await.unwrap_err();
        assert_eq!(refused, BusErrorKind::Disconnected, "{outage:?}");
        match outage {
            Outage::Kill => server.start().await,
            Outage::Freeze => server.resume(),
        }
        assert_eq!(event(&mut subscription).await, BusEvent::Resumed, "{outage:?}");
        connected(&*bus).await;
        publish(&*bus, "outage", "after it").await.unwrap();
        assert_eq!(event(&mut subscription).await, message("after it"), "{outage:?}");
        match outage {
            // The new server has seen one of us.
            Outage::Kill => assert_eq!(server.connections("all").await, 1),
            Outage::Freeze => {
                eventually("the old one is gone", DEADLINE, async || server.connections("open").await == 1).await
            }
        }
    }
    drop(bus);
    eventually("a dropped bus leaves nothing", DEADLINE, async || server.connections("open").await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_consumer_that_the_client_library_drops_messages_of_surfaces_as_lost() {
    let Some(server) = NatsServer::start_new().await else { return };
    let publisher = bus_at(&server.url()).await;
    let backend = NatsBackend::new(&config_of(&server.url()).nats).unwrap().with_capacity(1);
    let listener: Arc<dyn MessageBus> = Arc::new(Supervised::start(backend));
    connected(&*publisher).await;
    connected(&*listener).await;
    let mut subscription = within(listener.subscribe(&subject("slow"))).await.unwrap();
    // All of them together are less than what is read from a socket at once.
    let batch = (0..500).map(|n: u32| outgoing("slow", n.to_string())).collect();
    assert!(within(publisher.publish(batch)).await.iter().all(Result::is_ok));
    let mut arrived = 0;
    while event(&mut subscription).await != BusEvent::Lost {
        arrived += 1;
    }
    assert!(arrived < 500, "nothing was dropped");
    assert_eq!(event(&mut subscription).await, BusEvent::Resumed);
    publish(&*publisher, "slow", "after it").await.unwrap();
    assert_eq!(event(&mut subscription).await, message("after it"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_consumer_that_the_server_cuts_off_surfaces_as_lost() {
    let Some(server) = NatsServer::start_with("max_pending: 1MB").await else { return };
    let (publisher, listener) = (bus_at(&server.url()).await, bus_at(&server.url()).await);
    connected(&*publisher).await;
    connected(&*listener).await;
    let mut subscription = within(listener.subscribe(&subject("cut"))).await.unwrap();
    let large = Bytes::from(vec![b'x'; MAX_PAYLOAD]);
    let batch = (0..64).map(|_| outgoing("cut", large.clone())).collect();
    assert!(within(publisher.publish(batch)).await.iter().all(Result::is_ok));
    while event(&mut subscription).await != BusEvent::Lost {}
    assert!(server.said().contains("Slow Consumer"), "{}", server.said());
    // A link that was made before all of it was published may have been cut off too.
    loop {
        while event(&mut subscription).await != BusEvent::Resumed {}
        publish(&*publisher, "cut", "after it").await.unwrap();
        let next = async |subscription: &mut Subscription| loop {
            match event(subscription).await {
                BusEvent::Message(payload) if payload == large => {}
                other => return other,
            }
        };
        if next(&mut subscription).await == message("after it") {
            return;
        }
    }
}

#[tokio::test]
async fn payloads_near_the_limit_of_the_server_arrive() {
    let Some(server) = NatsServer::shared().await else { return };
    let bus = bus_at(&server.url()).await;
    connected(&*bus).await;
    assert_eq!(bus.guarantees().max_payload, MAX_PAYLOAD);
    let mut subscription = within(bus.subscribe(&subject("limit"))).await.unwrap();
    let sizes = [MAX_PAYLOAD - 1, MAX_PAYLOAD, MAX_PAYLOAD - 64, 0, MAX_PAYLOAD];
    let batch = sizes.iter().map(|size| outgoing("limit", vec![b'x'; *size])).collect();
    assert!(within(bus.publish(batch)).await.iter().all(Result::is_ok));
    for size in sizes {
        let BusEvent::Message(payload) = event(&mut subscription).await else { panic!("the connection broke") };
        assert_eq!(payload.len(), size);
    }
}

#[tokio::test]
async fn a_server_with_a_small_max_payload_is_refused_by_name() {
    let Some(server) = NatsServer::start_with("max_payload: 64KB").await else { return };
    let config = config_of(&server.url());
    let refused = within(connect_raw(&config, &subject("small"), Arc::new(|| {}))).await.err().unwrap();
    assert_eq!(refused.kind(), BusErrorKind::Rejected);
    assert!(refused.to_string().contains("max_payload of NATS is 65536"), "{refused}");
    let inspection = within(inspect(&config)).await.unwrap();
    assert!(inspection.hazards[0].contains("set max_payload to 1MB"), "{inspection:?}");
    // A bus does not come up on it, and does on one that takes what is claimed.
    let bus = bus_at(&server.url()).await;
    server.program().configure("max_payload: 1MB");
    server.restart().await;
    connected(&*bus).await;
    assert_eq!(within(inspect(&config)).await.unwrap().hazards, Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let login = "authorization { user: \"us@er\", password: \"pass/word\" }";
    let Some(server) = NatsServer::start_with(login).await else { return };
    let at = |login: &str| format!("nats://{login}{}", server.address());
    for wrong in ["us%40er:secret@", ""] {
        let refused = within(inspect(&config_of(&at(wrong)))).await.unwrap_err();
        assert_eq!(refused.kind(), BusErrorKind::Rejected);
        assert!(refused.to_string().contains("refused the user and password in bus.nats.url"), "{refused:?}");
        assert!(!format!("{refused:?}").contains("secret"), "{refused:?}");
    }
    let inspection = within(inspect(&config_of(&at("us%40er:pass%2Fword@")))).await.unwrap();
    assert!(inspection.version.is_some_and(|version| version.starts_with("NATS 2.")));
    connected(&*bus_at(&at("us%40er:pass%2Fword@")).await).await;
}

#[tokio::test]
async fn a_user_that_may_not_use_an_inbox_is_told_so() {
    for forbidden in ["publish", "subscribe"] {
        let user = format!("{{ user: u, password: p, permissions: {{ {forbidden}: {{ deny: \"_INBOX.>\" }} }} }}");
        let Some(server) = NatsServer::start_with(&format!("authorization {{ users: [ {user} ] }}")).await else {
            return;
        };
        let refused = within(inspect(&config_of(&format!("nats://u:p@{}", server.address())))).await.unwrap_err();
        assert_eq!(refused.kind(), BusErrorKind::Rejected, "{forbidden}: {refused:?}");
        assert!(refused.to_string().contains("_INBOX."), "{forbidden}: {refused:?}");
    }
}

#[tokio::test]
async fn a_subject_that_nats_refuses_does_its_neighbours_no_harm() {
    let permissions = "permissions: { publish: { deny: secret }, subscribe: { deny: secret } }";
    let users = format!("authorization {{ users: [ {{ user: limited, password: pass, {permissions} }} ] }}");
    let Some(server) = NatsServer::start_with(&users).await else { return };
    let bus = bus_at(&format!("nats://limited:pass@{}", server.address())).await;
    connected(&*bus).await;
    let names = ["allowed.a", "secret", "allowed.b"];
    for _ in 0..20 {
        let subjects = names.map(subject);
        let subscribing = subjects.each_ref().map(|subject| bus.subscribe(subject));
        let mut subscriptions = within(futures_util::future::join_all(subscribing)).await;
        assert_eq!(subscriptions[1].as_ref().unwrap_err().kind(), BusErrorKind::Rejected);
        let batch = names.map(|name| outgoing(name, "x")).to_vec();
        let results = within(bus.publish(batch)).await;
        let refused = results[1].as_ref().unwrap_err();
        assert_eq!(refused.kind(), BusErrorKind::Rejected);
        assert!(refused.to_string().contains("publish to secret"), "{refused}");
        for index in [0, 2] {
            assert_eq!(results[index].as_ref().unwrap().receivers, None);
            assert_eq!(event(subscriptions[index].as_mut().unwrap()).await, message("x"));
        }
    }
}

#[tokio::test]
async fn messages_that_nobody_is_there_for_are_told_apart_in_a_batch_and_between_publishers() {
    let Some(server) = NatsServer::shared().await else { return };
    let bus = bus_at(&server.url()).await;
    connected(&*bus).await;
    let mut heard = within(bus.subscribe(&subject("told.heard"))).await.unwrap();
    let publishing = (0..20).map(|_| async {
        let batch = (0..50).map(|n| outgoing(if n % 3 == 0 { "told.heard" } else { "told.unheard" }, "x")).collect();
        let results = within(bus.publish(batch)).await;
        for (result, n) in results.into_iter().zip(0..50) {
            assert_eq!(result.unwrap().receivers, if n % 3 == 0 { None } else { Some(0) }, "message {n}");
        }
    });
    futures_util::future::join_all(publishing).await;
    for _ in 0..20 * 17 {
        assert_eq!(event(&mut heard).await, message("x"));
    }
}

#[tokio::test]
async fn servers_that_are_away_or_frozen_are_passed_over() {
    let Some(server) = NatsServer::shared().await else { return };
    let Some(frozen) = NatsServer::start_new().await else { return };
    frozen.pause();
    let bus = bus_at(&format!("nats://127.0.0.1:{},{},{}", free_port(), frozen.address(), server.address())).await;
    connected(&*bus).await;
    frozen.resume();
}

/// `routing = "per_user"` is a choice that an operator may make.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_subjects_are_heard_and_left() {
    let Some(server) = NatsServer::shared().await else { return };
    let (bus, publisher) = (bus_at(&server.url()).await, bus_at(&server.url()).await);
    connected(&*bus).await;
    connected(&*publisher).await;
    let names: Vec<String> = (0..5000).map(|n| format!("users.{n}")).collect();
    let subjects: Vec<Subject> = names.iter().map(|name| subject(name)).collect();
    let subscribing = subjects.iter().map(|subject| bus.subscribe(subject));
    let mut subscriptions = within(futures_util::future::try_join_all(subscribing)).await.unwrap();
    let batch: Vec<Outgoing> = names.iter().map(|name| outgoing(name, name.clone())).collect();
    let results = within(publisher.publish(batch.clone())).await;
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|receipt| receipt.receivers.is_none())));
    for (subscription, name) in subscriptions.iter_mut().zip(&names) {
        assert_eq!(event(subscription).await, BusEvent::Message(name.clone().into()));
    }
    drop(subscriptions);
    // What is left is left before something is joined.
    let mut last = within(bus.subscribe(&subject("users.last"))).await.unwrap();
    let results = within(publisher.publish(batch)).await;
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|receipt| receipt.receivers == Some(0))));
    publish(&*publisher, "users.last", "x").await.unwrap();
    assert_eq!(event(&mut last).await, message("x"));
}

fn subject(name: &str) -> Subject {
    Subject::new(name).unwrap()
}

fn outgoing(name: &str, payload: impl Into<Bytes>) -> Outgoing {
    Outgoing { subject: subject(name), payload: payload.into() }
}

fn message(text: &'static str) -> BusEvent {
    BusEvent::Message(text.into())
}

async fn publish(bus: &dyn MessageBus, name: &str, payload: &'static str) -> Result<(), BusErrorKind> {
    let mut results = within(bus.publish(vec![outgoing(name, payload)])).await;
    results.remove(0).map(drop).map_err(|error| error.kind())
}

async fn connected(bus: &dyn MessageBus) {
    within(bus.state().wait_for(|state| state.is_connected())).await.unwrap();
}

async fn event(subscription: &mut Subscription) -> BusEvent {
    within(subscription.next()).await.expect("the bus is open")
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens in time")
}
