//! Hears what other nodes publish to this one and gives it to the timelines.

use std::sync::Arc;

use metrics::counter;
use tokio_util::sync::CancellationToken;

use super::envelope::{Delivery, Origin, Packet, Recipients};
use super::timelines::Fed;
use crate::bus::{BusEvent, Subscription};
use crate::model::{Millis, UserId};
use crate::server::core::Core;
use crate::telemetry;

/// What was missed while the bus was lost began at most this much before the loss was noticed, in milliseconds.
const NOTICE_SLACK: Millis = 10_000;

/// Runs the inbox until the bus closes or the node stops.
pub(crate) async fn run(core: Arc<Core>, mut inbox: Subscription, stop: CancellationToken) {
    let mut lost_at = None;
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = inbox.next() => event,
        };
        match event {
            None => return,
            Some(BusEvent::Message(payload)) => receive(&core, payload),
            Some(BusEvent::Lost) => {
                lost_at.get_or_insert(core.lease.database_now() - NOTICE_SLACK);
                core.health.bus_lost();
            }
            Some(BusEvent::Resumed) => {
                let since = lost_at.take().unwrap_or(core.lease.database_now() - NOTICE_SLACK);
                core.health.bus_resumed(since);
            }
        }
    }
}

fn receive(core: &Core, payload: bytes::Bytes) {
    // On the subjects of its users and groups a node hears itself, too; only its canaries are meant for it.
    let own = |origin: &Origin| origin.node == core.node && origin.epoch == core.lease.epoch();
    let wanted = |origin: &Origin, canary| origin.cluster == core.cluster_id && own(origin) == canary;
    match Packet::decode(payload, wanted) {
        Ok((_, Some(Packet::Messages(deliveries)))) => {
            deliveries.into_iter().for_each(|delivery| deliver(core, delivery));
        }
        Ok((_, Some(Packet::Notices(notices)))) => notices.iter().for_each(|notice| notice.deliver(core, None)),
        Ok((origin, Some(Packet::Sweep { since }))) => {
            tracing::debug!(peer = %origin.node, since, "a peer asks for a sweep");
            core.repairs.sweep(since);
        }
        Ok((_, Some(Packet::Canary { number }))) => core.health.heard_canary(number, core.lease.database_now()),
        Ok((origin, None)) if origin.cluster == core.cluster_id => {}
        Ok((_, None)) => counter!(telemetry::ENVELOPES_MALFORMED).increment(1),
        Err(error) => {
            counter!(telemetry::ENVELOPES_MALFORMED).increment(1);
            tracing::warn!(%error, "an envelope could not be read, sweeping instead");
            core.repairs.sweep(core.lease.database_now());
        }
    }
}

fn deliver(core: &Core, delivery: Delivery) {
    let Delivery { conversation, entry, to } = delivery;
    let born = entry.seq == 1;
    match (core.timelines.feed(conversation, entry, None), to) {
        (Fed::Unknown, Recipients::Listeners) => {}
        (Fed::Unknown, Recipients::Members) => core.repairs.adopt_anybody(conversation),
        (Fed::Unknown, Recipients::Users(users)) => core.repairs.adopt_users(conversation, here(core, users)),
        (Fed::Taken { joined, parked, .. }, to) => {
            core.repairs.adopt_users(conversation, here(core, joined));
            if let Recipients::Users(users) = to
                && born
            {
                // Whoever logged in just now has made the timeline of a conversation that is new to the others.
                core.repairs.adopt_users(conversation, here(core, users));
            }
            if parked {
                core.repairs.holes();
            }
        }
    }
}

fn here(core: &Core, users: Vec<UserId>) -> impl Iterator<Item = UserId> {
    users.into_iter().filter(|user| core.locals.has(*user))
}
