//! What every backend is held to: one list of cases, stamped on each of them against a real broker.
//!
//! A backend outside this crate enables the feature `contract`, implements [`ContractBroker`] and writes one line in a
//! test file:
//!
//! ```ignore
//! switchboard::bus_contract!(my_broker, MyBroker::start);
//! ```
//!
//! The function takes a [`Needs`] and makes an `Option<impl ContractBroker>`. It is called for each case. `None` is a
//! skip, about which the function has said enough itself.

pub mod claims;
pub mod delivery;
pub mod faults;
pub mod lifecycle;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{BusError, BusEvent, BusState, MessageBus, Outgoing, Receipt, Subject, Subscription};

/// How long anything may take before a case fails. Generous: a busy machine is no reason to fail.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// What a case does to its broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// It only uses the broker, under subjects of its own.
    Shared,
    /// It breaks the broker, so it needs one that nobody else uses.
    Own,
}

/// A broker that the suite uses, and breaks in the cases that need their [`Own`](Needs::Own).
#[async_trait]
pub trait ContractBroker: Send + Sync {
    /// Makes a bus with connections of its own. It need not be connected yet.
    async fn bus(&self) -> Arc<dyn MessageBus>;

    /// Ends the broker without any warning.
    async fn kill(&self);

    /// Starts it again at the same address, once it has been ended.
    async fn start(&self);

    /// Ends it in order and starts it again.
    async fn restart(&self);

    /// Stops it from answering, its connections staying open, as `SIGSTOP` does.
    async fn pause(&self);

    /// Lets it go on.
    async fn resume(&self);
}

/// Stamps the contract on a backend: a module of its name with a test for each case.
#[macro_export]
macro_rules! bus_contract {
    ($backend:ident, $start:path) => {
        mod $backend {
            use super::*;
            $crate::bus_contract! { @cases $start;
                Shared delivery: a_publish_right_after_subscribe_arrives;
                Shared delivery: each_subscriber_gets_a_copy;
                Shared delivery: messages_of_one_publisher_arrive_in_order;
                Shared delivery: binary_payloads_arrive_unchanged;
                Shared delivery: ten_thousand_messages_of_concurrent_publishers_all_arrive;
                Shared delivery: a_dropped_subscription_gets_nothing_and_others_go_on;
                Shared delivery: one_subscription_hears_many_subjects_until_they_are_taken_out;
                Shared delivery: a_subject_can_be_left_and_joined_again_at_once;
                Shared delivery: a_publish_that_nobody_waits_for_harms_no_other;
                Shared delivery: a_slow_subscriber_sees_lost_and_stalls_nobody;
                Shared claims: the_largest_payload_arrives_and_a_larger_one_is_refused;
                Shared claims: receivers_are_counted;
                Shared claims: a_subject_per_user_is_affordable;
                Own claims: an_unconfirmed_publish_is_no_success;
                Own claims: what_was_accepted_survives_what_is_claimed;
                Shared lifecycle: close_is_idempotent_and_flushes;
                Own lifecycle: a_bus_without_its_broker_says_so_and_heals;
                Own faults: a_restart_surfaces_and_heals;
                Own faults: a_kill_surfaces_and_heals;
                Own faults: a_pause_surfaces_and_heals;
                Own faults: a_loss_during_a_flood_surfaces_and_heals;
            }
        }
    };
    (@cases $start:path; $($needs:ident $group:ident: $case:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(broker) = $start($crate::bus::contract::Needs::$needs).await {
                    $crate::bus::contract::$group::$case(&broker).await;
                }
            }
        )*
    };
}

/// Awaits something that must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// Makes a bus and waits until it is connected.
async fn connected(broker: &dyn ContractBroker) -> Arc<dyn MessageBus> {
    let bus = broker.bus().await;
    until(&*bus, "the bus is connected", BusState::is_connected).await;
    bus
}

/// Waits for a state of a bus.
async fn until(bus: &dyn MessageBus, what: &str, fits: impl Fn(&BusState) -> bool) -> BusState {
    let mut state = bus.state();
    *soon(what, state.wait_for(|state| fits(state))).await.expect("a bus keeps its state for as long as it lives")
}

/// Makes a subject that no other case and no other run uses.
fn fresh(name: &str) -> Subject {
    Subject::new(&format!("contract.{:016x}.{name}", rand::random::<u64>())).expect("segments of plain characters")
}

fn outgoing(subject: &Subject, payload: impl Into<Bytes>) -> Outgoing {
    Outgoing { subject: subject.clone(), payload: payload.into() }
}

/// Publishes one message.
async fn publish(bus: &dyn MessageBus, subject: &Subject, payload: impl Into<Bytes>) -> Result<Receipt, BusError> {
    let mut results = soon("publish answers", bus.publish(vec![outgoing(subject, payload)])).await;
    assert_eq!(results.len(), 1, "one result per message");
    results.remove(0)
}

/// Publishes one message that must be accepted.
async fn accepted(bus: &dyn MessageBus, subject: &Subject, payload: impl Into<Bytes>) -> Receipt {
    publish(bus, subject, payload).await.expect("a connected bus takes a message")
}

async fn subscribed(bus: &dyn MessageBus, subject: &Subject) -> Subscription {
    soon("subscribe returns", bus.subscribe(subject)).await.expect("a connected bus subscribes")
}

async fn event(subscription: &mut Subscription) -> BusEvent {
    soon("an event arrives", subscription.next()).await.expect("the bus is open")
}

/// Takes the next event, which must be a message.
async fn message(subscription: &mut Subscription) -> Bytes {
    match event(subscription).await {
        BusEvent::Message(payload) => payload,
        other => panic!("a message was expected, not {other:?}"),
    }
}

/// Reads on until an event, past all others.
async fn read_to(subscription: &mut Subscription, wanted: BusEvent) {
    while event(subscription).await != wanted {}
}

/// Takes a payload as the number that it was made of.
fn number(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload.try_into().expect("eight bytes"))
}

fn numbered(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

#[cfg(test)]
mod memory {
    use super::*;
    use crate::bus::memory::MemoryBroker;

    #[async_trait]
    impl ContractBroker for MemoryBroker {
        async fn bus(&self) -> Arc<dyn MessageBus> {
            self.connect()
        }

        async fn kill(&self) {
            self.refuse(true);
            self.disconnect();
        }

        async fn start(&self) {
            self.refuse(false);
        }

        async fn restart(&self) {
            self.kill().await;
            self.start().await;
        }

        async fn pause(&self) {
            MemoryBroker::pause(self);
        }

        async fn resume(&self) {
            MemoryBroker::resume(self);
        }
    }

    async fn start(_: Needs) -> Option<MemoryBroker> {
        Some(MemoryBroker::new())
    }

    crate::bus_contract!(on_memory, start);
}
