//! Makes good what a node owes its sessions after it has lost its lease: until then it is not ready.
//!
//! While another node took it for dead, senders did not see its sessions: their presence was deleted. So it is written
//! anew, everything is subscribed anew, and behind both the log is swept since the last beat that was good.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::lease::Debt;
use crate::server::core::Core;

/// How long the bus may take to subscribe everything. A node goes on without it as it does at any other time: the log is
/// swept often until all of it is heard.
const BUS_WITHIN: Duration = Duration::from_secs(5);

/// Runs until the node stops.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let healing = async {
        loop {
            let debt = core.lease.owes().await;
            make_good(&core, debt).await;
            // Another one is begun with if the lease was lost again meanwhile.
            core.lease.settle(debt);
        }
    };
    stop.run_until_cancelled(healing).await;
}

async fn make_good(core: &Core, debt: Debt) {
    core.presence.rewritten().await;
    if timeout(BUS_WITHIN, core.subscriptions.renew_all(core.lease.database_now())).await.is_err() {
        tracing::warn!("the bus takes long to subscribe everything anew, going on without it");
    }
    core.repairs.swept(debt.since).await;
    tracing::info!(epoch = core.lease.epoch(), "what was missed without a lease is made good");
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::bus::{Routing, Subject};
    use crate::model::UserId;
    use crate::model::store::NodeState;
    use crate::protocol::SendTarget;
    use crate::server::flow::Address;
    use crate::server::scene::{Call, Client, Cluster, Host, eventually};

    async fn row_state(cluster: &Cluster, host: &Host) -> NodeState {
        let (_, rows) = cluster.log.nodes().await.unwrap();
        rows.iter().find(|row| row.node == host.core.node).unwrap().state
    }

    /// A node with a user on it, to whom another node's user has spoken.
    async fn scene(routing: Routing) -> (Cluster, Host, Host, Client, Client) {
        let cluster = Cluster::routed(routing).await;
        let (a, b) = cluster.pair().await;
        let [alice, bob] = cluster.users(["alice", "bob"]).await;
        let (mut alice, mut bob) = (Client::login(&a, alice).await, Client::login(&b, bob).await);
        alice.sent("before", SendTarget::User { to: bob.user }, "before").await;
        bob.hears("before").await;
        (cluster, a, b, alice, bob)
    }

    fn subjects(host: &Host, user: UserId) -> [Subject; 2] {
        [Address::Inbox, Address::User(user)].map(|address| host.core.subject_of(address))
    }

    #[tokio::test]
    async fn a_fenced_node_is_ready_only_when_its_presence_its_subjects_and_its_log_are_made_good() {
        let (cluster, _a, b, mut alice, mut bob) = scene(Routing::PerUser).await;
        let subjects = subjects(&b, bob.user);
        // Nothing but a new subscription brings them back.
        subjects.iter().for_each(|subject| cluster.broker.forget(subject));
        let presence = b.store.hold_before(Call::PresenceChange);
        b.fence(&cluster).await;
        presence.reached().await;
        b.core.repairs.swept(b.core.lease.database_now()).await;
        let beats = b.store.calls(Call::NodeBeat);
        eventually("beats", || b.store.calls(Call::NodeBeat) > beats + 2).await;
        assert_eq!(b.core.lease.state(), NodeState::Expired, "no sender sees its sessions");
        // What nobody else has brought is in the log when the node says that it is ready.
        alice.sent("unseen", SendTarget::User { to: bob.user }, "unseen").await;
        b.store.away(Call::Changes, true);
        drop(presence);
        eventually("everything is subscribed anew", || {
            subjects.iter().all(|subject| cluster.broker.listeners(subject) > 0)
        })
        .await;
        let reads = b.store.calls(Call::Changes);
        eventually("the log is asked for what was missed", || b.store.calls(Call::Changes) > reads + 1).await;
        assert_eq!(b.core.lease.state(), NodeState::Expired);
        let beats = b.store.calls(Call::NodeBeat);
        eventually("a beat", || b.store.calls(Call::NodeBeat) > beats + 1).await;
        assert_eq!(row_state(&cluster, &b).await, NodeState::Starting, "its row says so too, and that it lives");
        b.store.away(Call::Changes, false);
        eventually("it is ready again", || b.core.lease.state() == NodeState::Ready).await;
        b.core.lease.wrote(NodeState::Ready).await;
        bob.hears("unseen").await;
        alice.sent("seen", SendTarget::User { to: bob.user }, "seen").await;
        bob.hears("seen").await;
    }

    #[tokio::test]
    async fn a_node_that_is_fenced_again_before_it_has_made_all_good_begins_anew() {
        let (cluster, _a, b, _alice, _bob) = scene(Routing::PerNode).await;
        let sweep = b.store.hold_before(Call::Changes);
        b.fence(&cluster).await;
        sweep.reached().await;
        let epoch = b.core.lease.epoch();
        let presence = b.store.hold_before(Call::PresenceChange);
        b.fence(&cluster).await;
        presence.reached().await;
        assert_eq!(b.core.lease.epoch(), epoch + 1);
        drop(sweep);
        // What was owed for the first time is made good by now.
        b.core.repairs.swept(b.core.lease.database_now()).await;
        assert_eq!(b.core.lease.state(), NodeState::Expired);
        drop(presence);
        eventually("it is ready again", || b.core.lease.state() == NodeState::Ready).await;
    }

    #[tokio::test]
    async fn a_node_that_drains_goes_on_with_it_when_it_is_fenced() {
        let (cluster, _a, b, _alice, bob) = scene(Routing::PerNode).await;
        b.core.lease.set_state(NodeState::Draining);
        b.core.lease.wrote(NodeState::Draining).await;
        let (rewritten, beats) = (b.store.calls(Call::PresenceChange), b.store.calls(Call::NodeBeat));
        b.fence(&cluster).await;
        eventually("its presence is written anew", || b.store.calls(Call::PresenceChange) > rewritten).await;
        b.core.presence.rewritten().await;
        assert_eq!(cluster.log.online(&[bob.user]).await.unwrap(), [bob.user]);
        eventually("two beats", || b.store.calls(Call::NodeBeat) > beats + 2).await;
        assert_eq!(b.core.lease.state(), NodeState::Draining);
        assert_eq!(row_state(&cluster, &b).await, NodeState::Draining);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bus_that_does_not_subscribe_holds_a_fenced_node_for_five_seconds_and_no_more() {
        let (cluster, _a, b, _alice, _bob) = scene(Routing::PerUser).await;
        cluster.broker.stall(crate::bus::memory::Operation::Subscribe);
        b.fence(&cluster).await;
        eventually("it has noticed", || b.core.lease.state() == NodeState::Expired).await;
        let begun = tokio::time::Instant::now();
        while b.core.lease.state() != NodeState::Ready {
            sleep(Duration::from_millis(1)).await;
            assert!(begun.elapsed() < Duration::from_millis(6_500), "it waits for the bus for ever");
        }
        assert!(begun.elapsed() >= BUS_WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_whose_row_was_not_renewed_for_as_long_as_a_lease_holds_is_overdue_until_it_is() {
        let cluster = Cluster::new().await;
        let a = cluster.node("node-a").await;
        a.core.lease.wrote(NodeState::Ready).await;
        a.store.away(Call::NodeBeat, true);
        advance(Duration::from_millis(3_900)).await;
        assert!(!a.core.lease.is_overdue());
        advance(Duration::from_millis(1_200)).await;
        assert!(a.core.lease.is_overdue());
        a.store.away(Call::NodeBeat, false);
        eventually("its row is renewed", || !a.core.lease.is_overdue()).await;
    }
}
