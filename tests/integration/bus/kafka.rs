//! Kafka: the contract, and what is peculiar to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use switchboard::bus::config::KafkaConfig;
use switchboard::bus::contract::DEADLINE;
use switchboard::bus::kafka::{KafkaBackend, KafkaLink};
use switchboard::bus::supervisor::{Backend, Incoming};
use switchboard::bus::{
    BusError, BusErrorKind, BusEvent, BusKind, Guarantees, MessageBus, Outgoing, Subject, Subscription, Supervised,
};
use tokio::sync::watch;

use crate::harness::broker::{Place, config_of};
use crate::harness::eventually;
use crate::harness::kafka::{Kafka, KafkaServer, bus_at};

switchboard::bus_contract!(contract, Place::<Kafka>::that);

/// The link of a bus, which a test breaks, and which comes back when the test lets it.
#[derive(Debug)]
struct Gated {
    backend: KafkaBackend,
    gate: watch::Sender<bool>,
    incoming: watch::Sender<Option<Incoming>>,
}

#[derive(Debug, Clone)]
struct Through(Arc<Gated>);

impl Backend for Through {
    type Link = KafkaLink;

    fn guarantees(&self) -> Guarantees {
        self.0.backend.guarantees()
    }

    async fn connect(&self, incoming: Incoming) -> Result<KafkaLink, BusError> {
        if !*self.0.gate.borrow() {
            return Err(BusError::new(BusErrorKind::Disconnected, "the gate is shut"));
        }
        let link = self.0.backend.connect(incoming.clone()).await;
        self.0.incoming.send_replace(Some(incoming));
        link
    }
}

impl Gated {
    fn at(address: &str) -> Arc<Self> {
        let backend = KafkaBackend::new(&KafkaConfig { brokers: address.to_owned() }).unwrap();
        Arc::new(Self { backend, gate: watch::Sender::new(true), incoming: watch::Sender::new(None) })
    }

    fn shut(&self) {
        self.gate.send_replace(false);
        let incoming = self.incoming.borrow().clone().expect("it was connected");
        incoming.broken(BusError::new(BusErrorKind::Disconnected, "broken by the test"));
    }

    fn open(&self) {
        self.gate.send_replace(true);
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens in time")
}

async fn connected(bus: &dyn MessageBus) {
    within(bus.state().wait_for(|state| state.is_connected())).await.unwrap();
}

/// Makes a subject that nobody else uses.
fn fresh(name: &str) -> Subject {
    Subject::new(&format!("kafka.{:016x}.{name}", rand::random::<u64>())).unwrap()
}

async fn publish(bus: &dyn MessageBus, subject: &Subject, numbers: std::ops::Range<u32>) {
    let outgoing = |n: u32| Outgoing { subject: subject.clone(), payload: n.to_string().into() };
    for result in within(bus.publish(numbers.map(outgoing).collect())).await {
        result.expect("a connected bus takes a message");
    }
}

async fn number(subscription: &mut Subscription) -> u32 {
    match within(subscription.next()).await {
        Some(BusEvent::Message(payload)) => str::from_utf8(&payload).unwrap().parse().unwrap(),
        other => panic!("a message was expected, not {other:?}"),
    }
}

fn operator(server: &KafkaServer) -> Arc<AdminClient<DefaultClientContext>> {
    Arc::new(ClientConfig::new().set("bootstrap.servers", server.url()).create().expect("a client"))
}

async fn has_topic(operator: &Arc<AdminClient<DefaultClientContext>>, topic: &str) -> bool {
    let (operator, topic) = (Arc::clone(operator), topic.to_owned());
    let look = move || {
        let metadata = operator.inner().fetch_metadata(None, DEADLINE).expect("Kafka answers");
        metadata.topics().iter().any(|other| other.name() == topic)
    };
    tokio::task::spawn_blocking(look).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_while_the_connection_was_away_arrives_late_and_once() {
    let Some(server) = KafkaServer::shared().await else { return };
    let gated = Gated::at(&server.url());
    let (listener, publisher) = (Supervised::start(Through(Arc::clone(&gated))), bus_at(&server.url()).await);
    connected(&listener).await;
    connected(&*publisher).await;
    let subject = fresh("late");
    let mut subscription = listener.subscribe(&subject).await.unwrap();
    let mut next = 0;
    for round in 1..=3 {
        publish(&*publisher, &subject, next..next + 100).await;
        for expected in next..next + 100 {
            assert_eq!(number(&mut subscription).await, expected);
        }
        gated.shut();
        assert_eq!(within(subscription.next()).await, Some(BusEvent::Lost));
        publish(&*publisher, &subject, next + 100..next + 200).await;
        gated.open();
        connected(&listener).await;
        publish(&*publisher, &subject, next + 200..next + 300).await;
        // What is late may come before `Resumed`, for it comes as soon as it can.
        let (mut arrived, mut resumed) = (Vec::new(), 0);
        while arrived.len() < 200 {
            match within(subscription.next()).await.unwrap() {
                BusEvent::Message(payload) => arrived.push(str::from_utf8(&payload).unwrap().parse::<u32>().unwrap()),
                BusEvent::Resumed => resumed += 1,
                BusEvent::Lost => panic!("lost again"),
            }
        }
        assert!(arrived.into_iter().eq(next + 100..next + 300), "round {round}: lost, twice or out of order");
        assert_eq!(resumed, 1);
        next += 300;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_queue_holds_is_not_caught_up_with() {
    let Some(server) = KafkaServer::shared().await else { return };
    let gated = Gated::at(&server.url());
    let (listener, publisher) = (Supervised::start(Through(Arc::clone(&gated))), bus_at(&server.url()).await);
    connected(&listener).await;
    connected(&*publisher).await;
    let subject = fresh("flooded");
    let mut subscription = listener.subscribe(&subject).await.unwrap();
    gated.shut();
    assert_eq!(within(subscription.next()).await, Some(BusEvent::Lost));
    publish(&*publisher, &subject, 0..4097).await;
    gated.open();
    assert_eq!(within(subscription.next()).await, Some(BusEvent::Resumed));
    publish(&*publisher, &subject, 4097..4098).await;
    assert_eq!(number(&mut subscription).await, 4097);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_to_nobody_is_accepted_and_makes_no_topic() {
    let Some(server) = KafkaServer::shared().await else { return };
    let (listener, publisher) = (bus_at(&server.url()).await, bus_at(&server.url()).await);
    connected(&*listener).await;
    connected(&*publisher).await;
    let (gone, here) = (fresh("gone"), fresh("here"));
    let mut subscription = listener.subscribe(&here).await.unwrap();
    publish(&*publisher, &here, 0..1).await;
    let batch = [&gone, &here, &gone].map(|subject| Outgoing { subject: subject.clone(), payload: "1".into() });
    let results = within(publisher.publish(batch.to_vec())).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!([number(&mut subscription).await, number(&mut subscription).await], [0, 1]);
    assert!(!has_topic(&operator(&server), &format!("switchboard.{gone}")).await);
    // It counts from the moment when somebody comes.
    let mut subscription = listener.subscribe(&gone).await.unwrap();
    publish(&*publisher, &gone, 7..8).await;
    assert_eq!(number(&mut subscription).await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subjects_that_kafka_takes_for_alike_do_not_mix() {
    let Some(server) = KafkaServer::shared().await else { return };
    let bus = bus_at(&server.url()).await;
    connected(&*bus).await;
    let name = fresh("x");
    let subjects = ["a.b", "a_b", "a-b"].map(|end| Subject::new(&format!("{name}.{end}")).unwrap());
    let mut subscriptions = within(async {
        loop {
            match try_join_all(subjects.iter().map(|subject| bus.subscribe(subject))).await {
                Ok(subscriptions) => break subscriptions,
                // A link that a busy machine does not answer in time is lost, and whoever subscribes does so again.
                Err(error) => assert_eq!(error.kind(), BusErrorKind::Disconnected, "{error}"),
            }
            connected(&*bus).await;
        }
    })
    .await;
    for (subject, n) in subjects.iter().zip(0..) {
        publish(&*bus, subject, n..n + 1).await;
    }
    for (subscription, n) in subscriptions.iter_mut().zip(0..) {
        assert_eq!(number(subscription).await, n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_keep_messages_for_a_minute_even_in_the_segment_in_use() {
    let Some(server) = KafkaServer::shared().await else { return };
    let bus = bus_at(&server.url()).await;
    connected(&*bus).await;
    let subject = fresh("kept");
    let _subscription = bus.subscribe(&subject).await.unwrap();
    let topic = format!("switchboard.{subject}");
    let described = operator(&server).describe_configs(&[ResourceSpecifier::Topic(&topic)], &AdminOptions::new()).await;
    let described = described.unwrap().remove(0).unwrap();
    for key in ["retention.ms", "segment.ms"] {
        assert_eq!(described.get(key).unwrap().value.as_deref(), Some("60000"), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_nobody_has_used_for_long_are_removed() {
    // Its brooms sweep everybody's topics.
    let Some(server) = KafkaServer::start_new().await else { return };
    let config = KafkaConfig { brokers: server.url() };
    let bus = || Supervised::start(KafkaBackend::with_idle_after(&config, Duration::from_secs(3)).unwrap());
    let (one, other) = (bus(), bus());
    connected(&one).await;
    connected(&other).await;
    let (left, quiet) = (fresh("left"), fresh("quiet"));
    let mut subscription = one.subscribe(&quiet).await.unwrap();
    drop(one.subscribe(&left).await.unwrap());
    let (operator, topic) = (operator(&server), |subject| format!("switchboard.{subject}"));
    eventually("the topic is removed", DEADLINE, async || !has_topic(&operator, &topic(&left)).await).await;
    // Twice the time, as the next one of that age shows.
    drop(one.subscribe(&left).await.unwrap());
    eventually("the topic is removed again", DEADLINE, async || !has_topic(&operator, &topic(&left)).await).await;
    assert!(has_topic(&operator, &topic(&quiet)).await, "somebody reads it");
    publish(&other, &quiet, 1..2).await;
    assert_eq!(number(&mut subscription).await, 1, "neither lost nor resumed nor a mark");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_removed_under_its_reader_comes_again() {
    let Some(server) = KafkaServer::shared().await else { return };
    let (listener, publisher) = (bus_at(&server.url()).await, bus_at(&server.url()).await);
    connected(&*listener).await;
    connected(&*publisher).await;
    let subject = fresh("removed");
    let mut subscription = listener.subscribe(&subject).await.unwrap();
    publish(&*publisher, &subject, 0..1).await;
    assert_eq!(number(&mut subscription).await, 0);
    let topic = format!("switchboard.{subject}");
    let removed = operator(&server).delete_topics(&[&topic], &AdminOptions::new()).await.unwrap();
    assert!(removed[0].is_ok(), "{removed:?}");
    assert_eq!(within(subscription.next()).await, Some(BusEvent::Lost));
    assert_eq!(within(subscription.next()).await, Some(BusEvent::Resumed));
    publish(&*publisher, &subject, 1..2).await;
    assert_eq!(number(&mut subscription).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_with_their_link_though_the_broker_does_not_answer() {
    let Some(server) = KafkaServer::start_new().await else { return };
    let bus = bus_at(&server.url()).await;
    connected(&*bus).await;
    let mut subscription = bus.subscribe(&fresh("frozen")).await.unwrap();
    assert!(connections(server.address().port()) >= 3);
    server.pause();
    let frozen = Instant::now();
    assert_eq!(within(subscription.next()).await, Some(BusEvent::Lost));
    println!("a broker that froze was found after {:?}", frozen.elapsed());
    assert!(!bus.state().borrow().is_connected());
    within(bus.close()).await.unwrap();
    eventually("no connection is left", DEADLINE, async || connections(server.address().port()) == 0).await;
}

/// Counts this process's end of connections to a local port; the server's end stands in the list the other way round.
fn connections(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("Linux has it");
    let remote = format!(":{port:04X}");
    let is_open = |line: &&str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns[2].ends_with(&remote) && columns[3] == "01"
    };
    table.lines().skip(1).filter(is_open).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_broker_is_named_as_a_hazard() {
    let Some(server) = KafkaServer::shared().await else { return };
    let config = config_of(BusKind::Kafka, "bus.kafka.brokers", &server.url());
    let inspection = within(switchboard::bus::inspect(&config)).await.unwrap();
    assert!(inspection.version.as_deref().is_some_and(|version| version.starts_with("Kafka, 1 broker")));
    assert!(inspection.hazards.iter().any(|hazard| hazard.contains("one broker")), "{:?}", inspection.hazards);
}
