//! Cases in which the broker breaks.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{
    ContractBroker, accepted, connected, event, fresh, message, number, numbered, outgoing, publish, read_to,
    subscribed, until,
};
use crate::bus::{BusErrorKind, BusEvent, BusState, MessageBus, Subject, Subscription};

/// An orderly restart.
pub async fn a_restart_surfaces_and_heals(broker: &dyn ContractBroker) {
    let mut nodes = Nodes::start(broker).await;
    broker.restart().await;
    nodes.have_lost().await;
    nodes.heal().await;
}

/// An end without warning, and a start after everybody has noticed.
pub async fn a_kill_surfaces_and_heals(broker: &dyn ContractBroker) {
    let mut nodes = Nodes::start(broker).await;
    broker.kill().await;
    nodes.have_lost().await;
    nodes.are_refused().await;
    broker.start().await;
    nodes.heal().await;
}

/// A broker that no longer answers though its connections stay open.
pub async fn a_pause_surfaces_and_heals(broker: &dyn ContractBroker) {
    let mut nodes = Nodes::start(broker).await;
    broker.pause().await;
    nodes.have_lost().await;
    nodes.are_refused().await;
    broker.resume().await;
    nodes.heal().await;
}

/// The broker is restarted under load: up to `Lost` no message is missing, and from `Resumed` on neither.
pub async fn a_loss_during_a_flood_surfaces_and_heals(broker: &dyn ContractBroker) {
    let (listener, publisher) = (connected(broker).await, connected(broker).await);
    let subject = fresh("flood");
    let mut subscription = subscribed(&*listener, &subject).await;
    let window = Arc::new(Semaphore::new(1000));
    let flood = tokio::spawn(flood(Arc::clone(&publisher), subject.clone(), Arc::clone(&window)));
    let mut expected = 0;
    loop {
        match event(&mut subscription).await {
            BusEvent::Message(payload) => {
                assert_eq!(number(&payload), expected, "a hole that nobody was told of");
                expected += 1;
                window.add_permits(1);
            }
            BusEvent::Lost => break,
            BusEvent::Resumed => panic!("`Resumed` without `Lost`"),
        }
        if expected == 500 {
            broker.restart().await;
        }
    }
    flood.abort();
    read_to(&mut subscription, BusEvent::Resumed).await;
    until(&*publisher, "the publisher is connected again", BusState::is_connected).await;
    let last = numbered(u64::MAX);
    accepted(&*publisher, &subject, last.clone()).await;
    while message(&mut subscription).await != last {}
}

/// Publishes ascending numbers until it fails, with no more under way than the window lets through.
async fn flood(bus: Arc<dyn MessageBus>, subject: Subject, window: Arc<Semaphore>) {
    const BATCH: u32 = 10;
    for first in (0..).step_by(BATCH as usize) {
        window.acquire_many(BATCH).await.expect("the window is never closed").forget();
        let batch = (first..first + u64::from(BATCH)).map(|n| outgoing(&subject, numbered(n))).collect();
        if bus.publish(batch).await.iter().any(Result::is_err) {
            return;
        }
    }
}

/// Two buses, each subscribed to a subject of its own and to a shared one.
struct Nodes {
    buses: [Arc<dyn MessageBus>; 2],
    subscriptions: Vec<Subscription>,
}

impl Nodes {
    async fn start(broker: &dyn ContractBroker) -> Self {
        let buses = [connected(broker).await, connected(broker).await];
        let shared = fresh("shared");
        let mut subscriptions = Vec::new();
        for bus in &buses {
            subscriptions.push(subscribed(&**bus, &shared).await);
            subscriptions.push(subscribed(&**bus, &fresh("inbox")).await);
        }
        let mut nodes = Self { buses, subscriptions };
        nodes.hear_everything(0).await;
        nodes
    }

    /// Every subscription hears of the loss.
    async fn have_lost(&mut self) {
        for subscription in &mut self.subscriptions {
            assert_eq!(event(subscription).await, BusEvent::Lost);
        }
    }

    /// The state follows, and calls behave as they do without a connection.
    async fn are_refused(&mut self) {
        for bus in &self.buses {
            until(&**bus, "the state is lost", |state| !state.is_connected()).await;
            let error = publish(&**bus, &fresh("refused"), "x").await.expect_err("there is no broker");
            assert_eq!(error.kind(), BusErrorKind::Disconnected);
        }
        // Subscribed while there is no connection, it heals like the others.
        let mut late = subscribed(&*self.buses[0], &fresh("late")).await;
        assert_eq!(event(&mut late).await, BusEvent::Lost);
        self.subscriptions.push(late);
    }

    /// Every subscription hears `Resumed`, the state follows, and from then on nothing is missing.
    async fn heal(&mut self) {
        for subscription in &mut self.subscriptions {
            assert_eq!(event(subscription).await, BusEvent::Resumed);
        }
        for bus in &self.buses {
            until(&**bus, "the bus is connected again", |state| matches!(state, BusState::Connected { epoch: 2 }))
                .await;
        }
        self.hear_everything(1).await;
    }

    async fn hear_everything(&mut self, round: u64) {
        for index in 0..self.subscriptions.len() {
            let subject = self.subscriptions[index].subject().clone();
            for (from, bus) in (0..).zip(&self.buses) {
                accepted(&**bus, &subject, numbered(round * 10 + from)).await;
                for subscription in self.subscriptions.iter_mut().filter(|other| *other.subject() == subject) {
                    assert_eq!(number(&message(subscription).await), round * 10 + from);
                }
            }
        }
    }
}
