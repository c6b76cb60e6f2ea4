//! Cases about the beginning and the end of a bus.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    ContractBroker, accepted, connected, event, fresh, message, number, numbered, outgoing, publish, read_to, soon,
    subscribed, until,
};
use crate::bus::{BusErrorKind, BusEvent, BusState};

/// Everything that was accepted before or during `close` arrives; afterwards all calls fail with `Closed` and
/// subscriptions have ended.
pub async fn close_is_idempotent_and_flushes(broker: &dyn ContractBroker) {
    const MESSAGES: u64 = 500;
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    let subject = fresh("close");
    let mut subscription = subscribed(&*listener, &subject).await;
    let mut own = subscribed(&*publisher, &fresh("own")).await;
    let publishing = tokio::spawn({
        let (publisher, subject) = (Arc::clone(&publisher), subject.clone());
        async move {
            let batch = (0..MESSAGES).map(|n| outgoing(&subject, numbered(n))).collect();
            publisher.publish(batch).await
        }
    });
    tokio::task::yield_now().await;
    for _ in 0..2 {
        let begun = Instant::now();
        soon("close returns", publisher.close()).await.expect("a broker that answers lets a bus close");
        assert!(begun.elapsed() < Duration::from_secs(5), "close took {:?}", begun.elapsed());
    }
    let results = soon("publish answers", publishing).await.expect("publish does not panic");
    for (n, result) in results.iter().enumerate() {
        match result {
            Ok(_) => assert_eq!(number(&message(&mut subscription).await), n as u64),
            Err(error) => assert_eq!(error.kind(), BusErrorKind::Closed, "{error:?}"),
        }
    }
    assert_eq!(soon("the subscription ends", own.next()).await, None);
    assert!(!publisher.state().borrow().is_connected());
    let refused = publish(&*publisher, &subject, "x").await.expect_err("a closed bus publishes nothing");
    assert_eq!(refused.kind(), BusErrorKind::Closed);
    let refused = soon("subscribe answers", publisher.subscribe(&subject)).await.expect_err("a closed bus");
    assert_eq!(refused.kind(), BusErrorKind::Closed);
    // The other bus is none of its business.
    accepted(&*listener, &subject, "still").await;
    assert_eq!(&message(&mut subscription).await[..], b"still");
}

/// A bus starts while its broker is away: it is `Lost`, publishing fails, and a subscription made then heals by itself,
/// all within 5 s each.
pub async fn a_bus_without_its_broker_says_so_and_heals(broker: &dyn ContractBroker) {
    broker.kill().await;
    let begun = Instant::now();
    let bus = broker.bus().await;
    let subject = fresh("away");
    assert!(matches!(*bus.state().borrow(), BusState::Lost { .. }));
    let error = publish(&*bus, &subject, "x").await.expect_err("there is no broker");
    assert_eq!(error.kind(), BusErrorKind::Disconnected);
    let mut subscription = subscribed(&*bus, &subject).await;
    let mut abandoned = subscribed(&*bus, &fresh("abandoned")).await;
    assert_eq!(event(&mut subscription).await, BusEvent::Lost);
    assert_eq!(event(&mut abandoned).await, BusEvent::Lost);
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?} to say so", begun.elapsed());
    drop(abandoned);
    broker.start().await;
    read_to(&mut subscription, BusEvent::Resumed).await;
    until(&*bus, "the bus is connected", BusState::is_connected).await;
    accepted(&*bus, &subject, "hello").await;
    assert_eq!(&message(&mut subscription).await[..], b"hello");
}
