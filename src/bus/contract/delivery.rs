//! Cases about messages while nothing breaks.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::Semaphore;

use super::{
    ContractBroker, accepted, connected, event, fresh, message, number, numbered, outgoing, read_to, soon, subscribed,
};
use crate::bus::{BusEvent, Claim};

/// A message published by somebody else the moment `subscribe` has returned arrives: 0 of 300 are lost.
pub async fn a_publish_right_after_subscribe_arrives(broker: &dyn ContractBroker) {
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    for round in 0..300 {
        let subject = fresh("barrier");
        let mut subscription = subscribed(&*listener, &subject).await;
        accepted(&*publisher, &subject, numbered(round)).await;
        assert_eq!(number(&message(&mut subscription).await), round);
    }
}

/// Two subscriptions on one bus and one on another: each gets every message, once, the publisher's own bus included.
pub async fn each_subscriber_gets_a_copy(broker: &dyn ContractBroker) {
    let (one, other) = (connected(broker).await, connected(broker).await);
    let subject = fresh("copies");
    let mut subscriptions =
        [subscribed(&*one, &subject).await, subscribed(&*one, &subject).await, subscribed(&*other, &subject).await];
    for n in 0..10 {
        accepted(&*one, &subject, numbered(n)).await;
    }
    for subscription in &mut subscriptions {
        for n in 0..10 {
            assert_eq!(number(&message(subscription).await), n);
        }
    }
}

/// Batches of one publisher arrive in the order in which they were given, if that is claimed; and all of them in any
/// case.
pub async fn messages_of_one_publisher_arrive_in_order(broker: &dyn ContractBroker) {
    const MESSAGES: u64 = 2000;
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    let subject = fresh("order");
    let mut subscription = subscribed(&*listener, &subject).await;
    for batch in (0..MESSAGES).collect::<Vec<_>>().chunks(37) {
        let batch = batch.iter().map(|n| outgoing(&subject, numbered(*n))).collect();
        let results = soon("publish answers", publisher.publish(batch)).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }
    let mut arrived = Vec::new();
    for _ in 0..MESSAGES {
        arrived.push(number(&message(&mut subscription).await));
    }
    if listener.guarantees().ordered != Claim::Yes {
        arrived.sort_unstable();
    }
    assert!(arrived.into_iter().eq(0..MESSAGES), "lost, repeated or out of order");
}

/// Every byte value, nothing at all, and 512 KiB come through as they are.
pub async fn binary_payloads_arrive_unchanged(broker: &dyn ContractBroker) {
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    let subject = fresh("binary");
    let mut subscription = subscribed(&*listener, &subject).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..512 * 1024_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for payload in [every_byte, Vec::new(), b"\r\n$-1\r\n\0".to_vec(), large] {
        let payload = Bytes::from(payload);
        accepted(&*publisher, &subject, payload.clone()).await;
        assert!(message(&mut subscription).await == payload, "a payload of {} bytes has changed", payload.len());
    }
}

/// Publishers that do not wait for each other lose nothing, and the order of each is kept.
pub async fn ten_thousand_messages_of_concurrent_publishers_all_arrive(broker: &dyn ContractBroker) {
    const PUBLISHERS: u64 = 10;
    const EACH: u64 = 1000;
    /// How many may be under way: less than a subscriber's queue holds, for this one may be held up.
    const WINDOW: usize = 2048;
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    let subject = fresh("flood");
    let mut subscription = subscribed(&*listener, &subject).await;
    let window = Arc::new(Semaphore::new(WINDOW));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|from| {
            let (publisher, subject, window) = (Arc::clone(&publisher), subject.clone(), Arc::clone(&window));
            tokio::spawn(async move {
                for n in 0..EACH {
                    window.acquire().await.expect("the window is never closed").forget();
                    accepted(&*publisher, &subject, numbered(from * EACH + n)).await;
                }
            })
        })
        .collect();
    let mut next: HashMap<u64, u64> = HashMap::new();
    for _ in 0..PUBLISHERS * EACH {
        let n = number(&message(&mut subscription).await);
        window.add_permits(1);
        let expected = next.entry(n / EACH).or_default();
        if listener.guarantees().ordered == Claim::Yes {
            assert_eq!(n % EACH, *expected, "of publisher {}", n / EACH);
        }
        *expected += 1;
    }
    assert!(next.values().all(|count| *count == EACH), "lost or repeated: {next:?}");
    for publisher in publishers {
        soon("the publishers end", publisher).await.expect("no publisher panics");
    }
}

/// Dropping one of two subscriptions ends that one only; dropping the last ends the broker's.
pub async fn a_dropped_subscription_gets_nothing_and_others_go_on(broker: &dyn ContractBroker) {
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    let (subject, control) = (fresh("dropped"), fresh("control"));
    let first = subscribed(&*listener, &subject).await;
    let mut second = subscribed(&*listener, &subject).await;
    drop(first);
    accepted(&*publisher, &subject, "still").await;
    assert_eq!(&message(&mut second).await[..], b"still");
    drop(second);
    // The end of a subscription is carried out before one that is asked for later, so nothing sent after this one's
    // barrier can arrive.
    let mut control_subscription = subscribed(&*listener, &control).await;
    let receipt = accepted(&*publisher, &subject, "nobody").await;
    if publisher.guarantees().tells_no_receivers == Claim::Yes {
        assert_eq!(receipt.receivers, Some(0), "the broker still has a subscription that nobody holds");
    }
    accepted(&*publisher, &control, "control").await;
    assert_eq!(&message(&mut control_subscription).await[..], b"control");
}

/// Adds subjects to a subscription, each heard from the moment its barrier has landed, in one queue; takes some out,
/// and has others subscribed anew.
pub async fn one_subscription_hears_many_subjects_until_they_are_taken_out(broker: &dyn ContractBroker) {
    const SUBJECTS: u64 = 100;
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    let mut subscription = subscribed(&*listener, &fresh("first")).await;
    let subjects = subscription.subjects();
    let many: Vec<_> = (0..SUBJECTS).map(|n| fresh(&format!("many.{n}"))).collect();
    for (subject, n) in many.iter().zip(0..) {
        soon("the barrier lands", subjects.add(subject)).await.expect("a connected bus subscribes");
        accepted(&*publisher, subject, numbered(n)).await;
        assert_eq!(number(&message(&mut subscription).await), n);
    }
    let (out, renewed) = many.split_at(many.len() / 2);
    out.iter().for_each(|subject| subjects.remove(subject));
    for subject in renewed {
        soon("the barrier lands", subjects.renew(subject)).await.expect("a connected bus subscribes");
    }
    for (subject, n) in many.iter().zip(0..) {
        accepted(&*publisher, subject, numbered(n)).await;
    }
    let mut arrived = Vec::new();
    for _ in renewed {
        arrived.push(number(&message(&mut subscription).await));
    }
    // Nothing is promised between subjects.
    arrived.sort_unstable();
    assert!(arrived.into_iter().eq(SUBJECTS / 2..SUBJECTS), "all of what is left, nothing of what was taken out");
}

/// However often a subject is left and joined, the last word counts.
pub async fn a_subject_can_be_left_and_joined_again_at_once(broker: &dyn ContractBroker) {
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    let subject = fresh("again");
    for round in 0..100 {
        let mut subscription = subscribed(&*listener, &subject).await;
        accepted(&*publisher, &subject, numbered(round)).await;
        assert_eq!(number(&message(&mut subscription).await), round);
    }
}

/// Calls whose futures are dropped, at whatever point, do the calls after them no harm: what those publish arrives, in
/// order, and the connection goes on. Of what the dropped ones had, any part may arrive.
pub async fn a_publish_that_nobody_waits_for_harms_no_other(broker: &dyn ContractBroker) {
    const ROUNDS: u64 = 50;
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    let subject = fresh("abandoned");
    let mut subscription = subscribed(&*listener, &subject).await;
    for round in 0..ROUNDS {
        let batch = (0..20).map(|_| outgoing(&subject, Bytes::from(vec![b'x'; 8 * 1024]))).collect();
        drop(publisher.publish(batch).now_or_never());
        accepted(&*publisher, &subject, numbered(round)).await;
    }
    let mut expected = 0;
    while expected < ROUNDS {
        let payload = message(&mut subscription).await;
        if payload.len() == 8 {
            assert_eq!(number(&payload), expected);
            expected += 1;
        }
    }
}

/// A subscriber that reads nothing is told `Lost`, then `Resumed`, and hears everything afterwards; another one misses
/// nothing.
pub async fn a_slow_subscriber_sees_lost_and_stalls_nobody(broker: &dyn ContractBroker) {
    const BATCH: u64 = 100;
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    let subject = fresh("slow");
    let mut slow = subscribed(&*listener, &subject).await;
    let mut quick = subscribed(&*listener, &subject).await;
    let mut published = 0;
    while slow.dropped() == 0 {
        assert!(published < 100_000, "a queue has no bound");
        let batch = (published..published + BATCH).map(|n| outgoing(&subject, numbered(n))).collect();
        let results = soon("publish answers", publisher.publish(batch)).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        for n in published..published + BATCH {
            assert_eq!(number(&message(&mut quick).await), n, "the quick subscriber is held up");
        }
        published += BATCH;
    }
    let mut expected = 0;
    loop {
        match event(&mut slow).await {
            BusEvent::Message(payload) => {
                assert_eq!(number(&payload), expected, "a message is missing and `Lost` has not been said");
                expected += 1;
            }
            BusEvent::Lost => break,
            BusEvent::Resumed => panic!("`Resumed` without `Lost`"),
        }
    }
    read_to(&mut slow, BusEvent::Resumed).await;
    accepted(&*publisher, &subject, numbered(published)).await;
    assert_eq!(number(&message(&mut slow).await), published);
}
