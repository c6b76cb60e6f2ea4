//! Sends the node its canaries, and notices when they do not come.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::health::CANARY_EVERY;
use crate::bus::Outgoing;
use crate::server::core::Core;
use crate::server::flow::{Address, Packet};

/// Runs until the node stops.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut ticks = interval(CANARY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {
                let core = Arc::clone(&core);
                tokio::spawn(async move { send(&core).await });
            }
            () = sleep_until(core.health.canary_due()) => if core.health.miss_canary() {
                // A broker may have forgotten the node, or have refused it. It is asked again for as long as nothing comes.
                core.subscriptions.renew(Address::Inbox, core.lease.database_now());
            },
        }
    }
}

/// Sends one. That it does not arrive is what it is for, so a failure needs no other word.
async fn send(core: &Core) {
    let payload = Packet::Canary { number: core.health.next_canary() }.encode(&core.origin());
    let canary = Outgoing { subject: core.inbox_of(&core.node), payload };
    match timeout(CANARY_EVERY, core.bus.publish(vec![canary])).await {
        Ok(results) if results.iter().all(Result::is_ok) => {}
        Ok(_) | Err(_) => tracing::debug!("a canary was not accepted"),
    }
}
