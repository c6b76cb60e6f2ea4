use switchboard::bus::contract::DEADLINE;
use switchboard::bus::{BusErrorKind, BusEvent, Outgoing, Subject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::broker::Place;
use crate::harness::redis::{Redis, RedisServer, bus_at};

switchboard::bus_contract!(contract, Place::<Redis>::that);

/// Sends one command as an operator would, and returns the first bytes of the answer.
async fn command(server: &RedisServer, command: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).await.expect("Redis listens");
    stream.write_all(format!("{command}\r\n").as_bytes()).await.expect("Redis reads");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.expect("Redis answers");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_loss_of_either_connection_is_a_loss_and_heals() {
    let Some(server) = RedisServer::start_new().await else { return };
    let bus = bus_at(&server.url()).await;
    let subject = Subject::new("either").unwrap();
    let mut subscription = bus.subscribe(&subject).await.unwrap();
    bus.state().wait_for(|state| state.is_connected()).await.unwrap();
    for kind in ["pubsub", "normal"] {
        // Whatever came before: `Lost` and `Resumed` of the start or of the last round, and its message.
        let sent = bus.publish(vec![Outgoing { subject: subject.clone(), payload: kind.into() }]).await;
        assert_eq!(sent[0].as_ref().unwrap().receivers, Some(1));
        while within(subscription.next()).await != Some(BusEvent::Message(kind.into())) {}
        let cut = command(&server, &format!("CLIENT KILL TYPE {kind}")).await;
        assert_eq!(cut, ":1\r\n", "one connection of type {kind} was expected");
        assert_eq!(within(subscription.next()).await, Some(BusEvent::Lost), "{kind}");
        assert_eq!(within(subscription.next()).await, Some(BusEvent::Resumed), "{kind}");
    }
}

#[tokio::test]
async fn a_subject_that_redis_refuses_does_its_neighbours_no_harm() {
    let Some(server) = RedisServer::start_new().await else { return };
    let rule = "ACL SETUSER limited on >pass ~* +@all resetchannels &allowed.*";
    assert_eq!(command(&server, rule).await, "+OK\r");
    let bus = bus_at(&format!("redis://limited:pass@{}", server.address())).await;
    within(bus.state().wait_for(|state| state.is_connected())).await.unwrap();
    let subjects = ["allowed.a", "secret", "allowed.b"].map(|name| Subject::new(name).unwrap());
    let subscribing = subjects.each_ref().map(|subject| bus.subscribe(subject));
    let mut subscriptions = within(futures_util::future::join_all(subscribing)).await;
    assert_eq!(subscriptions[1].as_ref().unwrap_err().kind(), BusErrorKind::Rejected);
    let batch = subjects.map(|subject| Outgoing { subject, payload: "x".into() }).to_vec();
    let results = within(bus.publish(batch)).await;
    assert_eq!(results[1].as_ref().unwrap_err().kind(), BusErrorKind::Rejected);
    for index in [0, 2] {
        assert_eq!(results[index].as_ref().unwrap().receivers, Some(1));
        let subscription = subscriptions[index].as_mut().unwrap();
        assert_eq!(within(subscription.next()).await, Some(BusEvent::Message("x".into())));
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it happens in time")
}
