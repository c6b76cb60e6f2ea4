use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::{Backend, Incoming, Link, Supervised};
use crate::bus::memory::{MemoryBackend, MemoryBroker, MemoryLink, Operation};
use crate::bus::{
    BusError, BusErrorKind, BusEvent, BusState, Guarantees, MessageBus, Outgoing, Receipt, Subject, Subscription,
};

fn subject(name: &str) -> Subject {
    Subject::new(name).unwrap()
}

fn batch(name: &str) -> Vec<Outgoing> {
    vec![Outgoing { subject: subject(name), payload: Bytes::from_static(b"x") }]
}

async fn publish(bus: &dyn MessageBus, name: &str) -> Result<Receipt, BusError> {
    bus.publish(batch(name)).await.remove(0)
}

async fn connected(bus: &dyn MessageBus) {
    bus.state().wait_for(BusState::is_connected).await.unwrap();
}

async fn lost(bus: &dyn MessageBus) {
    bus.state().wait_for(|state| !state.is_connected()).await.unwrap();
}

/// Takes an event that is already there.
fn waiting(subscription: &mut Subscription) -> Option<BusEvent> {
    tokio::task::coop::unconstrained(subscription.next()).now_or_never().flatten()
}

#[tokio::test(start_paused = true)]
async fn attempts_begin_at_once_and_go_on_for_ever_at_most_a_second_apart() {
    let broker = MemoryBroker::new();
    broker.refuse(true);
    let bus = broker.connect();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(broker.attempts(), 1);
    sleep(Duration::from_secs(600)).await;
    let attempts = broker.attempts();
    assert!((600..=2000).contains(&attempts), "{attempts} attempts in ten minutes");
    broker.refuse(false);
    timeout(Duration::from_millis(1001), connected(&*bus)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_given_up() {
    let broker = MemoryBroker::new();
    broker.stall(Operation::Connect);
    let bus = broker.connect();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(broker.attempts(), 0);
    broker.resume();
    timeout(Duration::from_secs(1), connected(&*bus)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_half_open_link_is_found_within_three_seconds() {
    let broker = MemoryBroker::new();
    let bus = broker.connect();
    connected(&*bus).await;
    let mut subscription = bus.subscribe(&subject("a")).await.unwrap();
    sleep(Duration::from_secs(30)).await;
    assert!(bus.state().borrow().is_connected(), "a broker that answers pings is left alone");
    let paused = Instant::now();
    broker.pause();
    let in_flight = publish(&*bus, "a");
    let (result, ()) = tokio::join!(in_flight, lost(&*bus));
    assert!(paused.elapsed() <= Duration::from_millis(3010), "found after {:?}", paused.elapsed());
    assert!(paused.elapsed() >= Duration::from_secs(2), "given up after {:?}", paused.elapsed());
    assert_eq!(result.unwrap_err().kind(), BusErrorKind::Disconnected);
    assert_eq!(waiting(&mut subscription), Some(BusEvent::Lost));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(waiting(&mut subscription), None);
    broker.resume();
    assert_eq!(subscription.next().await, Some(BusEvent::Resumed));
    assert!(bus.state().borrow().is_connected(), "whoever hears `Resumed` finds the bus connected");
    publish(&*bus, "a").await.unwrap();
    assert!(matches!(subscription.next().await, Some(BusEvent::Message(_))));
}

#[tokio::test(start_paused = true)]
async fn a_publish_without_an_answer_times_out_though_pings_are_answered() {
    let broker = MemoryBroker::new();
    let bus = broker.connect();
    connected(&*bus).await;
    broker.stall(Operation::Publish);
    let begun = Instant::now();
    assert_eq!(publish(&*bus, "a").await.unwrap_err().kind(), BusErrorKind::Timeout);
    assert!(begun.elapsed() <= Duration::from_millis(5010), "{:?}", begun.elapsed());
    assert!(bus.state().borrow().is_connected());
}

#[tokio::test(start_paused = true)]
async fn a_barrier_that_takes_too_long_breaks_the_link_and_leaves_nothing_behind() {
    let broker = MemoryBroker::new();
    let bus = broker.connect();
    connected(&*bus).await;
    broker.stall(Operation::Subscribe);
    let begun = Instant::now();
    let error = bus.subscribe(&subject("a")).await.unwrap_err();
    assert_eq!(error.kind(), BusErrorKind::Disconnected);
    assert!(begun.elapsed() <= Duration::from_millis(5010), "{:?}", begun.elapsed());
    assert!(!bus.state().borrow().is_connected());
    broker.resume();
    connected(&*bus).await;
    assert_eq!(broker.subjects(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_breaks_during_a_subscribe_fails_it_and_leaves_nothing_behind() {
    let broker = MemoryBroker::new();
    let bus = broker.connect();
    connected(&*bus).await;
    broker.stall(Operation::Subscribe);
    let name = subject("a");
    let breaking = async {
        sleep(Duration::from_secs(1)).await;
        broker.disconnect();
    };
    let (result, ()) = tokio::join!(bus.subscribe(&name), breaking);
    assert_eq!(result.unwrap_err().kind(), BusErrorKind::Disconnected);
    broker.resume();
    connected(&*bus).await;
    assert_eq!(broker.subjects(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_subscribe_leaves_nothing_behind() {
    let broker = MemoryBroker::new();
    let bus = broker.connect();
    connected(&*bus).await;
    broker.stall(Operation::Subscribe);
    assert!(timeout(Duration::from_secs(1), bus.subscribe(&subject("a"))).await.is_err());
    broker.resume();
    let _control = bus.subscribe(&subject("control")).await.unwrap();
    assert_eq!(broker.subjects(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_resumed_before_every_barrier_has_landed() {
    let broker = MemoryBroker::new();
    broker.refuse(true);
    let bus = broker.connect();
    let mut subscriptions = Vec::new();
    for n in 0..2500 {
        subscriptions.push(bus.subscribe(&subject(&format!("n.{n}"))).await.unwrap());
    }
    assert!(subscriptions.iter_mut().all(|subscription| waiting(subscription) == Some(BusEvent::Lost)));
    broker.stall(Operation::Subscribe);
    broker.refuse(false);
    sleep(Duration::from_secs(3)).await;
    // One that comes while the barriers of the others are awaited.
    let mut late = bus.subscribe(&subject("late")).await.unwrap();
    assert_eq!(waiting(&mut late), Some(BusEvent::Lost));
    assert!(!bus.state().borrow().is_connected());
    assert!(subscriptions.iter_mut().all(|subscription| waiting(subscription).is_none()));
    broker.resume();
    connected(&*bus).await;
    assert_eq!(broker.subjects(), 2501);
    subscriptions.push(late);
    for subscription in &mut subscriptions {
        assert_eq!(subscription.next().await, Some(BusEvent::Resumed));
    }
}

/// A broker that answers each request to subscribe when it is told to, and notes how much was asked for at once.
#[derive(Debug, Clone)]
struct Deliberate {
    broker: MemoryBroker,
    answers: Arc<Semaphore>,
    asked: Arc<Mutex<Vec<usize>>>,
}

struct DeliberateLink(Deliberate, MemoryLink);

impl Backend for Deliberate {
    type Link = DeliberateLink;

    fn guarantees(&self) -> Guarantees {
        MemoryBackend::new(self.broker.clone()).guarantees()
    }

    async fn connect(&self, incoming: Incoming) -> Result<DeliberateLink, BusError> {
        let link = MemoryBackend::new(self.broker.clone()).connect(incoming).await?;
        Ok(DeliberateLink(self.clone(), link))
    }
}

impl Link for DeliberateLink {
    async fn subscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        self.0.asked.lock().unwrap().push(subjects.len());
        self.0.answers.acquire().await.unwrap().forget();
        self.1.subscribe(subjects).await
    }

    async fn unsubscribe(&self, subjects: &[Subject]) -> Result<(), BusError> {
        self.1.unsubscribe(subjects).await
    }

    async fn publish(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>> {
        self.1.publish(batch).await
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.1.ping().await
    }

    async fn close(&self) -> Result<(), BusError> {
        self.1.close().await
    }
}

#[tokio::test(start_paused = true)]
async fn thousands_of_subjects_are_subscribed_a_thousand_at_a_time_and_resumed_follows_the_last() {
    let broker = MemoryBroker::new();
    broker.refuse(true);
    let (answers, asked) = (Arc::new(Semaphore::new(0)), Arc::default());
    let backend = Deliberate { broker: broker.clone(), answers: Arc::clone(&answers), asked: Arc::clone(&asked) };
    let bus = Supervised::start(backend);
    let mut subscription = bus.subscribe(&subject("first")).await.unwrap();
    let subjects = subscription.subjects();
    for n in 1..2500 {
        subjects.add(&subject(&format!("u.{n}"))).await.unwrap();
    }
    assert_eq!(waiting(&mut subscription), Some(BusEvent::Lost));
    broker.refuse(false);
    for chunks in 1..=3 {
        sleep(Duration::from_millis(1_500)).await;
        assert_eq!(*asked.lock().unwrap(), [1000, 1000, 500][..chunks], "the next follows the answer to the last");
        assert_eq!(waiting(&mut subscription), None);
        assert!(!bus.state().borrow().is_connected());
        answers.add_permits(1);
    }
    connected(&bus).await;
    assert_eq!(broker.subjects(), 2500);
    assert_eq!(subscription.next().await, Some(BusEvent::Resumed));
    assert_eq!(waiting(&mut subscription), None, "it is said once");
}

#[tokio::test(start_paused = true)]
async fn subjects_of_one_subscription_come_and_go_and_end_with_it() {
    let broker = MemoryBroker::new();
    let bus = broker.connect();
    connected(&*bus).await;
    let mut subscription = bus.subscribe(&subject("a")).await.unwrap();
    let subjects = subscription.subjects();
    subjects.add(&subject("b")).await.unwrap();
    subjects.add(&subject("b")).await.unwrap();
    for name in ["b", "a"] {
        publish(&*bus, name).await.unwrap();
        assert!(matches!(waiting(&mut subscription), Some(BusEvent::Message(_))));
        assert_eq!(waiting(&mut subscription), None, "once");
    }
    // Another one of the same subject is another queue.
    let mut other = bus.subscribe(&subject("b")).await.unwrap();
    subjects.remove(&subject("b"));
    publish(&*bus, "b").await.unwrap();
    assert!(matches!(waiting(&mut other), Some(BusEvent::Message(_))));
    assert_eq!(waiting(&mut subscription), None);
    drop(other);
    for n in 0..100 {
        subjects.add(&subject(&format!("u.{n}"))).await.unwrap();
    }
    assert_eq!(broker.subjects(), 101);
    drop(subscription);
    let _control = bus.subscribe(&subject("control")).await.unwrap();
    assert_eq!(broker.subjects(), 1);
    assert_eq!(subjects.add(&subject("late")).await.unwrap_err().kind(), BusErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_subject_that_is_taken_out_while_it_comes_and_added_again_is_there() {
    let broker = MemoryBroker::new();
    let bus = broker.connect();
    connected(&*bus).await;
    let mut subscription = bus.subscribe(&subject("a")).await.unwrap();
    let subjects = subscription.subjects();
    for _ in 0..3 {
        broker.stall(Operation::Subscribe);
        let barriers = [subjects.add(&subject("b")), {
            subjects.remove(&subject("b"));
            subjects.add(&subject("b"))
        }];
        sleep(Duration::from_secs(1)).await;
        broker.resume();
        for barrier in barriers {
            barrier.await.unwrap();
        }
        publish(&*bus, "b").await.unwrap();
        assert!(matches!(subscription.next().await, Some(BusEvent::Message(_))));
        // And the end meets the next beginning.
        broker.stall(Operation::Subscribe);
        subjects.remove(&subject("b"));
        sleep(Duration::from_secs(1)).await;
        let barrier = subjects.add(&subject("b"));
        broker.resume();
        barrier.await.unwrap();
        assert_eq!(broker.listeners(&subject("b")), 1);
        subjects.remove(&subject("b"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_subject_that_is_renewed_is_subscribed_though_the_broker_forgot_it() {
    let broker = MemoryBroker::new();
    let bus = broker.connect();
    connected(&*bus).await;
    let subscription = bus.subscribe(&subject("a")).await.unwrap();
    broker.forget(&subject("a"));
    subscription.subjects().add(&subject("a")).await.unwrap();
    assert_eq!(broker.listeners(&subject("a")), 0, "nobody knows");
    subscription.subjects().renew(&subject("a")).await.unwrap();
    assert_eq!(broker.listeners(&subject("a")), 1);
}

#[tokio::test(start_paused = true)]
async fn a_subject_that_is_added_while_the_link_breaks_comes_with_resumed() {
    let broker = MemoryBroker::new();
    let bus = broker.connect();
    connected(&*bus).await;
    let mut subscription = bus.subscribe(&subject("a")).await.unwrap();
    let subjects = subscription.subjects();
    broker.stall(Operation::Subscribe);
    let barrier = subjects.add(&subject("b"));
    sleep(Duration::from_secs(1)).await;
    broker.disconnect();
    assert_eq!(barrier.await.unwrap_err().kind(), BusErrorKind::Disconnected);
    assert_eq!(subscription.next().await, Some(BusEvent::Lost));
    // Without a link there is nothing to wait for.
    subjects.add(&subject("c")).await.unwrap();
    broker.resume();
    assert_eq!(subscription.next().await, Some(BusEvent::Resumed));
    assert_eq!(broker.subjects(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_dropped_while_disconnected_is_forgotten() {
    let broker = MemoryBroker::new();
    broker.refuse(true);
    let bus = broker.connect();
    drop(bus.subscribe(&subject("a")).await.unwrap());
    let kept = bus.subscribe(&subject("b")).await.unwrap();
    broker.refuse(false);
    connected(&*bus).await;
    assert_eq!(broker.subjects(), 1);
    drop(kept);
    let _control = bus.subscribe(&subject("control")).await.unwrap();
    assert_eq!(broker.subjects(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_back_within_the_shortest_delays() {
    let broker = MemoryBroker::new();
    let bus = broker.connect();
    let mut subscription = bus.subscribe(&subject("a")).await.unwrap();
    connected(&*bus).await;
    while waiting(&mut subscription).is_some() {}
    for epoch in 2..10 {
        let begun = Instant::now();
        broker.disconnect();
        assert_eq!(subscription.next().await, Some(BusEvent::Lost));
        assert_eq!(subscription.next().await, Some(BusEvent::Resumed));
        assert!(begun.elapsed() <= Duration::from_millis(210), "{:?}", begun.elapsed());
        assert_eq!(*bus.state().borrow(), BusState::Connected { epoch });
    }
}

#[tokio::test(start_paused = true)]
async fn close_is_bounded_when_the_broker_does_not_answer() {
    let broker = MemoryBroker::new();
    let bus = broker.connect();
    connected(&*bus).await;
    let mut subscription = bus.subscribe(&subject("a")).await.unwrap();
    broker.pause();
    let begun = Instant::now();
    let (result, closed) = tokio::join!(publish(&*bus, "a"), async {
        tokio::task::yield_now().await;
        bus.close().await
    });
    assert!(begun.elapsed() <= Duration::from_millis(2010), "{:?}", begun.elapsed());
    assert_eq!(closed.unwrap_err().kind(), BusErrorKind::Timeout);
    assert_eq!(result.unwrap_err().kind(), BusErrorKind::Disconnected);
    assert_eq!(subscription.next().await, None);
    assert_eq!(publish(&*bus, "a").await.unwrap_err().kind(), BusErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn close_without_a_connection_returns_at_once() {
    let broker = MemoryBroker::new();
    broker.refuse(true);
    let bus = broker.connect();
    sleep(Duration::from_secs(5)).await;
    let begun = Instant::now();
    bus.close().await.unwrap();
    bus.close().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let attempts = broker.attempts();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(broker.attempts(), attempts, "a closed bus goes on connecting");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_bus_ends_its_subscriptions_and_its_connection() {
    let broker = MemoryBroker::new();
    let bus = broker.connect();
    connected(&*bus).await;
    let mut subscription = bus.subscribe(&subject("a")).await.unwrap();
    drop(bus);
    assert_eq!(subscription.next().await, None);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(broker.subjects(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_memory_broker_drops_and_delays_as_it_is_told() {
    let broker = MemoryBroker::new();
    let bus = broker.connect();
    connected(&*bus).await;
    let mut subscription = bus.subscribe(&subject("a")).await.unwrap();
    let send = async |text: &'static str| {
        let outgoing = Outgoing { subject: subject("a"), payload: Bytes::from_static(text.as_bytes()) };
        bus.publish(vec![outgoing]).await.remove(0).unwrap();
    };
    broker.drop_next(1);
    broker.drop_if(|outgoing| outgoing.payload.starts_with(b"bad"));
    for text in ["first", "bad", "second"] {
        send(text).await;
    }
    assert_eq!(waiting(&mut subscription), Some(BusEvent::Message("second".into())));
    broker.delay(Duration::from_secs(3));
    send("late").await;
    broker.delay(Duration::ZERO);
    send("not overtaking").await;
    let begun = Instant::now();
    assert_eq!(subscription.next().await, Some(BusEvent::Message("late".into())));
    assert!(begun.elapsed() >= Duration::from_secs(3));
    assert_eq!(subscription.next().await, Some(BusEvent::Message("not overtaking".into())));
}
