//! Cases that hold a backend to what its [`Guarantees`](crate::bus::Guarantees) claim.

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    ContractBroker, DEADLINE, accepted, connected, event, fresh, message, numbered, outgoing, publish, soon,
    subscribed, until,
};
use crate::bus::{BusErrorKind, BusEvent, BusState, Claim};

/// A payload of `max_payload` bytes arrives; one byte more is `TooLarge`, and does the rest of its batch no harm.
pub async fn the_largest_payload_arrives_and_a_larger_one_is_refused(broker: &dyn ContractBroker) {
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    let max = publisher.guarantees().max_payload;
    let subject = fresh("large");
    let mut subscription = subscribed(&*listener, &subject).await;
    let sizes = [max, max + 1, 1];
    let batch = sizes.iter().map(|size| outgoing(&subject, Bytes::from(vec![b'x'; *size]))).collect();
    let results = soon("publish answers", publisher.publish(batch)).await;
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    assert_eq!(results[1].as_ref().map_err(|error| error.kind()).err(), Some(BusErrorKind::TooLarge));
    assert_eq!(message(&mut subscription).await.len(), max);
    assert_eq!(message(&mut subscription).await.len(), 1);
}

/// The receipt says 0 for a subject without subscribers, and counts the buses that have any, as far as each is claimed.
pub async fn receivers_are_counted(broker: &dyn ContractBroker) {
    let (one, other) = (connected(broker).await, connected(broker).await);
    let guarantees = one.guarantees();
    let claimed = |receivers: u64| {
        let claim = if receivers == 0 { guarantees.tells_no_receivers } else { guarantees.counts_receivers };
        (claim == Claim::Yes).then_some(receivers)
    };
    let subject = fresh("counted");
    let mut held = Vec::new();
    for (bus, receivers) in [&one, &other].into_iter().zip(0..) {
        assert_eq!(accepted(&**bus, &subject, "x").await.receivers, claimed(receivers));
        held.push(subscribed(&**bus, &subject).await);
        held.push(subscribed(&**bus, &subject).await);
    }
    assert_eq!(accepted(&*one, &subject, "x").await.receivers, claimed(2));
}

/// Five thousand subjects are subscribed, reached and left within the deadline.
pub async fn a_subject_per_user_is_affordable(broker: &dyn ContractBroker) {
    const USERS: u64 = 5000;
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    if listener.guarantees().per_user_subjects != Claim::Yes {
        return;
    }
    let cluster = fresh("users");
    let users: Vec<_> = (0..USERS)
        .map(|user| crate::bus::Subject::new(&format!("{cluster}.{user}")).expect("a plain subject"))
        .collect();
    let mut subscribing = JoinSet::new();
    for subject in users.clone() {
        let listener = std::sync::Arc::clone(&listener);
        subscribing.spawn(async move { subscribed(&*listener, &subject).await });
    }
    let mut subscriptions = soon("all are subscribed", subscribing.join_all()).await;
    let batch = users.iter().map(|subject| outgoing(subject, subject.as_str().to_owned())).collect();
    let results = soon("publish answers", publisher.publish(batch)).await;
    assert!(results.iter().all(Result::is_ok), "a publish to a user's subject failed");
    for subscription in &mut subscriptions {
        let expected = subscription.subject().clone();
        assert_eq!(message(subscription).await, expected.as_str());
    }
    drop(subscriptions);
    let mut control = subscribed(&*listener, &users[0]).await;
    accepted(&*publisher, &users[0], "after").await;
    assert_eq!(&message(&mut control).await[..], b"after");
}

/// While the broker does not answer, a publish is no success, if success is claimed to be the broker's word.
pub async fn an_unconfirmed_publish_is_no_success(broker: &dyn ContractBroker) {
    let bus = connected(broker).await;
    let subject = fresh("unconfirmed");
    broker.pause().await;
    let result = publish(&*bus, &subject, "x").await;
    broker.resume().await;
    if bus.guarantees().confirmed == Claim::Yes {
        let error = result.expect_err("a broker that does not answer has not confirmed");
        assert!(error.is_retryable(), "{error:?}");
    }
}

/// What was accepted before a fault arrives after it, where that is claimed.
pub async fn what_was_accepted_survives_what_is_claimed(broker: &dyn ContractBroker) {
    let guarantees = broker.bus().await.guarantees();
    let claimed = [guarantees.at_least_once, guarantees.survives_broker_restart].contains(&Claim::Yes);
    if !claimed {
        return;
    }
    const MESSAGES: u64 = 100;
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    let subject = fresh("kept");
    let mut subscription = subscribed(&*listener, &subject).await;
    let mut missing: Vec<Bytes> = (0..MESSAGES).map(numbered).collect();
    for payload in &missing {
        accepted(&*publisher, &subject, payload.clone()).await;
    }
    broker.restart().await;
    until(&*listener, "the bus is connected again", BusState::is_connected).await;
    let all = async {
        while !missing.is_empty() {
            if let BusEvent::Message(payload) = event(&mut subscription).await {
                missing.retain(|other| *other != payload);
            }
        }
    };
    let arrived = tokio::time::timeout(DEADLINE, all).await;
    assert!(arrived.is_ok(), "accepted, claimed to survive, and lost: {} messages", missing.len());
}
