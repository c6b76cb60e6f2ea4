use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::RngExt;
use switchboard::bus::contract::DEADLINE;
use switchboard::bus::{
    BusErrorKind, BusEvent, BusState, MessageBus, Outgoing, Receipt, Subject, Subscription, inspect,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::harness::broker::{Place, bus_at, config_of};
use crate::harness::eventually;
use crate::harness::rabbitmq::{Rabbitmq, RabbitmqServer};
use crate::harness::server::Program;

/// How many connections a link has.
const CONNECTIONS: usize = 2;

switchboard::bus_contract!(contract, Place::<Rabbitmq>::that);

#[tokio::test]
async fn every_link_has_a_queue_of_its_own_that_the_broker_did_not_name() {
    let Some(server) = RabbitmqServer::shared().await else { return };
    let host = server.virtual_host().await;
    let buses = [host.bus().await, host.bus().await];
    for bus in &buses {
        connected(bus).await;
    }
    let queues = host.queues().await;
    assert!(queues.len() == 2 && queues[0] != queues[1], "{queues:?}");
    assert!(queues.iter().all(|name| name.starts_with("switchboard.") && name.len() == 44), "{queues:?}");
    // Each hears what the other subscribes to as well.
    let subject = Subject::new("shared").unwrap();
    let mut subscriptions = [buses[0].subscribe(&subject).await.unwrap(), buses[1].subscribe(&subject).await.unwrap()];
    publish(&buses[0], &subject, "x").await.unwrap();
    for subscription in &mut subscriptions {
        assert_eq!(event(subscription).await, BusEvent::Message("x".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_calls_at_once_each_is_told_which_of_its_messages_reached_nobody() {
    const CALLS: usize = 16;
    const ROUNDS: usize = 20;
    let Some(server) = RabbitmqServer::shared().await else { return };
    let host = server.virtual_host().await;
    let bus = host.bus().await;
    connected(&bus).await;
    let [heard, unheard] = ["heard", "unheard"].map(|name| Subject::new(name).unwrap());
    let _subscription = bus.subscribe(&heard).await.unwrap();
    let calls = (0..CALLS).map(|_| {
        let (bus, heard, unheard) = (Arc::clone(&bus), heard.clone(), unheard.clone());
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                let pattern: Vec<bool> = (0..40).map(|_| rand::rng().random()).collect();
                let subject = |reached: &bool| if *reached { heard.clone() } else { unheard.clone() };
                // All are alike, so that nothing but their place tells one from another.
                let outgoing = |reached| Outgoing { subject: subject(reached), payload: "same".into() };
                let results = bus.publish(pattern.iter().map(outgoing).collect()).await;
                let receipt = |reached: &bool| Receipt { receivers: (!reached).then_some(0) };
                let expected: Vec<Receipt> = pattern.iter().map(receipt).collect();
                assert_eq!(results.into_iter().map(Result::unwrap).collect::<Vec<_>>(), expected);
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        within(call).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_given_up_do_no_harm_to_those_that_follow() {
    let Some(server) = RabbitmqServer::shared().await else { return };
    let host = server.virtual_host().await;
    let bus = host.bus().await;
    connected(&bus).await;
    let [heard, unheard] = ["heard", "unheard"].map(|name| Subject::new(name).unwrap());
    let _subscription = bus.subscribe(&heard).await.unwrap();
    let batch = |subject: &Subject| {
        (0..100).map(|_| Outgoing { subject: subject.clone(), payload: "x".into() }).collect::<Vec<_>>()
    };
    for _ in 0..50 {
        // It is dropped as soon as its frames have been handed over, with all of its returned messages to come.
        futures_util::future::poll_immediate(bus.publish(batch(&unheard))).await;
        let results = within(bus.publish(batch(&heard))).await;
        assert!(results.iter().all(|result| result.as_ref().unwrap().receivers.is_none()), "{results:?}");
    }
    assert!(matches!(*bus.state().borrow(), BusState::Connected { epoch: 1 }));
}

#[tokio::test]
async fn the_loss_of_either_connection_is_a_loss_and_heals() {
    let Some(server) = RabbitmqServer::shared().await else { return };
    let host = server.virtual_host().await;
    let bus = host.bus().await;
    connected(&bus).await;
    let subject = Subject::new("either").unwrap();
    let mut subscription = bus.subscribe(&subject).await.unwrap();
    for role in ["publishing", "listening"] {
        // In order, as an operator does, and without a word.
        for way in ["rabbit_networking:close_connection(Pid, \"cut\")", "exit(Pid, kill)"] {
            let pids = host.connections(role).await;
            let [pid] = pids.as_slice() else { panic!("one connection was expected: {pids:?}") };
            server.evaluate(&format!("Pid = list_to_pid(\"{pid}\"), {way}")).await;
            assert_eq!(event(&mut subscription).await, BusEvent::Lost, "{role}: {way}");
            assert_eq!(event(&mut subscription).await, BusEvent::Resumed, "{role}: {way}");
            publish(&bus, &subject, role).await.unwrap();
            assert_eq!(event(&mut subscription).await, BusEvent::Message(role.into()), "{role}: {way}");
        }
    }
}

#[tokio::test]
async fn a_queue_or_an_exchange_that_is_deleted_is_a_loss_and_heals() {
    let Some(server) = RabbitmqServer::shared().await else { return };
    let host = server.virtual_host().await;
    let bus = host.bus().await;
    connected(&bus).await;
    let subject = Subject::new("deleted").unwrap();
    let mut subscription = bus.subscribe(&subject).await.unwrap();
    let queue =
        "[rabbit_amqqueue:delete(Queue, false, false, <<\"test\">>) || Queue <- rabbit_amqqueue:list(<<\"$\">>)]";
    let exchange = "rabbit_exchange:delete({resource, <<\"$\">>, exchange, <<\"switchboard\">>}, false, <<\"test\">>)";
    for delete in [queue, exchange] {
        server.evaluate(&delete.replace('$', host.name())).await;
        assert_eq!(event(&mut subscription).await, BusEvent::Lost, "{delete}");
        assert_eq!(event(&mut subscription).await, BusEvent::Resumed, "{delete}");
        publish(&bus, &subject, "x").await.unwrap();
        assert_eq!(event(&mut subscription).await, BusEvent::Message("x".into()), "{delete}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_is_a_loss_that_lasts_until_it_ends() {
    let Some(server) = RabbitmqServer::start_new().await else { return };
    let gate = Gate::before(server.address()).await;
    let url = gate.url(&server.url());
    let bus = bus_at(Rabbitmq::KIND, Rabbitmq::KEY, &url).await;
    connected(&bus).await;
    let subject = Subject::new("alarm").unwrap();
    let mut subscription = bus.subscribe(&subject).await.unwrap();
    let config = config_of(Rabbitmq::KIND, Rabbitmq::KEY, &server.url());
    assert_eq!(within(inspect(&config)).await.unwrap().hazards, Vec::<String>::new());
    server.set_memory_alarm(true).await;
    // Nobody publishes.
    assert_eq!(event(&mut subscription).await, BusEvent::Lost);
    let error = publish(&bus, &subject, "x").await.unwrap_err();
    assert_eq!(error.kind(), BusErrorKind::Disconnected);
    let hazards = within(inspect(&config)).await.unwrap().hazards;
    assert!(hazards.len() == 1 && hazards[0].contains("low on memory"), "{hazards:?}");
    // Attempts that come to nothing leave nothing behind, though the broker reads nothing any more.
    let made = gate.made() + 3 * CONNECTIONS;
    eventually("it goes on trying", DEADLINE, async || gate.made() >= made).await;
    eventually("what it gave up is gone", DEADLINE, async || gate.alive() <= CONNECTIONS).await;
    server.set_memory_alarm(false).await;
    assert_eq!(event(&mut subscription).await, BusEvent::Resumed);
    // It has not been connected in between.
    within(bus.state().wait_for(|state| matches!(state, BusState::Connected { epoch: 2 }))).await.unwrap();
    publish(&bus, &subject, "x").await.unwrap();
    assert_eq!(event(&mut subscription).await, BusEvent::Message("x".into()));
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let Some(server) = RabbitmqServer::shared().await else { return };
    let address = server.address();
    for (url, told) in [
        (format!("amqp://guest:secret@{address}"), "user and password in bus.rabbitmq.url"),
        (format!("amqp://guest:guest@{address}/absent"), "virtual host in bus.rabbitmq.url"),
    ] {
        let error = within(inspect(&config_of(Rabbitmq::KIND, Rabbitmq::KEY, &url))).await.unwrap_err();
        assert_eq!(error.kind(), BusErrorKind::Rejected);
        let text = format!("{error} {error:?}");
        assert!(text.contains(told) && !text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn a_user_who_may_not_bind_is_told_so() {
    let Some(server) = RabbitmqServer::shared().await else { return };
    let host = server.virtual_host().await;
    let nothing =
        "rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, <<\"$\">>, <<>>, <<>>, <<>>, <<\"test\">>)";
    server.evaluate(&nothing.replace('$', host.name())).await;
    let error = within(inspect(&config_of(Rabbitmq::KIND, Rabbitmq::KEY, &host.url()))).await.unwrap_err();
    assert!(error.kind() == BusErrorKind::Rejected && error.to_string().contains("permission"), "{error:?}");
}

#[tokio::test]
async fn the_broker_says_which_version_it_is() {
    let Some(server) = RabbitmqServer::shared().await else { return };
    let inspection = within(inspect(&config_of(Rabbitmq::KIND, Rabbitmq::KEY, &server.url()))).await.unwrap();
    let version = inspection.version.unwrap();
    assert!(version.starts_with("RabbitMQ ") && version.contains('.'), "{version}");
}

#[tokio::test]
async fn the_queue_of_a_node_that_is_gone_is_gone_from_the_broker() {
    let Some(server) = RabbitmqServer::shared().await else { return };
    let host = server.virtual_host().await;
    let gate = Gate::before(server.address()).await;
    // The broker waits for twice as long.
    let url = gate.url(&host.url()) + "?heartbeat=2";
    let (closed, dropped) = (host.bus().await, host.bus().await);
    let silent = bus_at(Rabbitmq::KIND, Rabbitmq::KEY, &url).await;
    for bus in [&closed, &dropped, &silent] {
        connected(bus).await;
    }
    assert_eq!(host.queues().await.len(), 3);
    closed.close().await.unwrap();
    eventually("the closed bus has no queue", DEADLINE, async || host.queues().await.len() == 2).await;
    drop(dropped);
    eventually("the dropped bus has no queue", DEADLINE, async || host.queues().await.len() == 1).await;
    let mut subscription = silent.subscribe(&Subject::new("silent").unwrap()).await.unwrap();
    gate.shut();
    assert_eq!(event(&mut subscription).await, BusEvent::Lost);
    drop(silent);
    eventually("the bus behind the gate has no queue", DEADLINE, async || host.queues().await.is_empty()).await;
}

#[tokio::test]
async fn an_attempt_that_is_given_up_leaves_no_connection_behind() {
    // It accepts whoever comes, and answers nobody.
    let silence = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://{}", silence.local_addr().unwrap());
    let _bus = bus_at(Rabbitmq::KIND, Rabbitmq::KEY, &url).await;
    let mut accepted = Vec::new();
    while accepted.len() < 4 {
        accepted.push(within(silence.accept()).await.unwrap().0);
    }
    // These are of the first attempt.
    for mut stream in accepted.drain(..2) {
        let mut said = Vec::new();
        within(stream.read_to_end(&mut said)).await.ok();
        assert_eq!(said, b"AMQP\0\0\x09\x01");
    }
}

/// Passes connections on until it is shut; from then on it keeps them open, and nothing comes through.
struct Gate {
    server: SocketAddr,
    near: SocketAddr,
    open: watch::Sender<bool>,
    made: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Gate {
    async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = listener.local_addr().unwrap();
        let open = watch::Sender::new(true);
        let (made, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let gate = Self { server, near, open: open.clone(), made: Arc::clone(&made), ended: Arc::clone(&ended) };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                made.fetch_add(1, Ordering::SeqCst);
                let (mut state, ended) = (open.subscribe(), Arc::clone(&ended));
                tokio::spawn(async move {
                    let far = TcpStream::connect(server).await.unwrap();
                    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) =
                        (near.into_split(), far.into_split());
                    let inwards = async {
                        copy(&mut near_in, &mut far_out).await.ok();
                        ended.fetch_add(1, Ordering::SeqCst);
                        far_out.shutdown().await.ok();
                    };
                    let outwards = async {
                        copy(&mut far_in, &mut near_out).await.ok();
                        near_out.shutdown().await.ok();
                    };
                    tokio::select! {
                        _ = async { tokio::join!(inwards, outwards) } => {}
                        () = async { drop(state.wait_for(|open| !open).await) } => std::future::pending().await,
                    }
                });
            }
        });
        gate
    }

    /// Returns a URL of the server as it leads through here.
    fn url(&self, url: &str) -> String {
        url.replace(&self.server.to_string(), &self.near.to_string())
    }

    fn shut(&self) {
        self.open.send_replace(false);
    }

    /// Returns how many connections have been made.
    fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    /// Returns how many of them their client has not closed.
    fn alive(&self) -> usize {
        let ended = self.ended.load(Ordering::SeqCst);
        self.made() - ended
    }
}

async fn connected(bus: &Arc<dyn MessageBus>) {
    within(bus.state().wait_for(BusState::is_connected)).await.unwrap();
}

async fn publish(
    bus: &Arc<dyn MessageBus>,
    subject: &Subject,
    payload: &'static str,
) -> Result<Receipt, switchboard::bus::BusError> {
    within(bus.publish(vec![Outgoing { subject: subject.clone(), payload: payload.into() }])).await.remove(0)
}

async fn event(subscription: &mut Subscription) -> BusEvent {
    within(subscription.next()).await.expect("the bus is open")
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens in time")
}
