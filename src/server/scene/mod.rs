//! What tests of the server play in: nodes without sockets on one log in memory and one broker in memory, and clients
//! without connections.

mod client;
mod store;

pub(crate) use client::{Client, PATIENCE};
pub(crate) use store::{Call, Held, ScriptedStore};

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::cluster;
use super::config::{LimitsConfig, NodeConfig};
use super::core::Core;
use super::flow::{self, Packet};
use super::node::{Node, Parts};
use super::service;
use crate::bus::Routing;
use crate::bus::memory::MemoryBroker;
use crate::model::store::{Append, NodeState, Outcome, Store, open};
use crate::model::{ConversationId, Key, MessageKind, Name, NodeId, Seq, UserId};

/// A log, a broker, and nodes on both.
pub(crate) struct Cluster {
    pub(crate) log: Arc<dyn Store>,
    pub(crate) broker: MemoryBroker,
    routing: Routing,
}

/// A node without sockets.
pub(crate) struct Host {
    pub(crate) core: Arc<Core>,
    pub(crate) store: Arc<ScriptedStore>,
    stop: CancellationToken,
    lease: JoinHandle<Result<(), cluster::ClaimError>>,
    _stop: DropGuard,
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        Self::routed(Routing::Auto).await
    }

    pub(crate) async fn routed(routing: Routing) -> Self {
        Self { log: open("memory:").await.unwrap(), broker: MemoryBroker::new(), routing }
    }

    pub(crate) async fn node(&self, id: &str) -> Host {
        self.start(id, LimitsConfig::default()).await
    }

    pub(crate) async fn start(&self, id: &str, limits: LimitsConfig) -> Host {
        let store = ScriptedStore::new(Arc::clone(&self.log));
        let bus = self.broker.connect();
        let builder = Node::builder(Arc::clone(&store) as Arc<dyn Store>)
            .bus(bus)
            .node(NodeConfig { id: NodeId::new(id).unwrap(), ..NodeConfig::default() })
            .limits(limits)
            .routing(self.routing);
        let Parts { core, posts, work, inbox } = builder.assemble("127.0.0.1:1", "127.0.0.1:2").await.unwrap();
        let stop = CancellationToken::new();
        let (same, ends) = (|| Arc::clone(&core), || stop.clone());
        tokio::spawn(flow::appender::run(same(), posts, ends()));
        tokio::spawn(flow::router::run(same(), work, ends()));
        tokio::spawn(flow::subscriptions::run(same(), inbox.subjects(), ends()));
        tokio::spawn(flow::inbox::run(same(), inbox, ends()));
        tokio::spawn(cluster::run_presence(same(), ends()));
        tokio::spawn(cluster::run_announcer(same(), ends()));
        tokio::spawn(service::run_cursors(same(), ends()));
        core.lease.set_state(NodeState::Ready);
        tokio::spawn(flow::repair::run(same(), ends()));
        tokio::spawn(cluster::run_health(same(), ends()));
        tokio::spawn(cluster::run_fencing(same(), ends()));
        tokio::spawn(cluster::run_canary(same(), ends()));
        let (tcp, http) = ("127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned());
        let lease = tokio::spawn(cluster::run_lease(same(), tcp, http, 1, ends()));
        Host { core, store, lease, _stop: stop.clone().drop_guard(), stop }
    }

    /// Delivers the next packet to nobody; canaries come and go all the time and do not count.
    pub(crate) fn lose_next(&self) {
        let due = std::sync::atomic::AtomicBool::new(true);
        self.broker.drop_if(move |outgoing| {
            !Packet::is_canary(&outgoing.payload) && due.swap(false, std::sync::atomic::Ordering::AcqRel)
        });
    }

    /// Registers a user.
    pub(crate) async fn user(&self, name: &str) -> UserId {
        self.log.user_create(&Name::new(name).unwrap(), "no password").await.unwrap()
    }

    /// Registers as many users as there are names.
    pub(crate) async fn users<const N: usize>(&self, names: [&str; N]) -> [UserId; N] {
        let mut users = Vec::new();
        for name in names {
            users.push(self.user(name).await);
        }
        users.try_into().unwrap()
    }

    /// Two nodes that hear each other.
    pub(crate) async fn pair(&self) -> (Host, Host) {
        let pair = (self.node("node-a").await, self.node("node-b").await);
        pair.0.hears().await;
        pair.1.hears().await;
        pair
    }

    /// Makes a group of the first user that the others join, by the log alone.
    pub(crate) async fn group(&self, members: &[UserId]) -> ConversationId {
        let group = self.log.group_create(members[0], "a group", "").await.unwrap().conversation;
        for member in &members[1..] {
            self.write(group, *member, MessageKind::Join, "").await;
        }
        group
    }

    /// Finds the direct conversation of two users.
    pub(crate) async fn direct(&self, one: UserId, other: UserId) -> ConversationId {
        self.log.direct(&[(one, other)]).await.unwrap()[0].unwrap()
    }

    /// Writes an entry into the log, as a node does that dies before it tells anybody.
    pub(crate) async fn write(&self, to: ConversationId, from: UserId, kind: MessageKind, body: &str) -> Seq {
        let key = Key::new(&format!("{:032x}", rand::random::<u128>())).unwrap();
        let entry = Append { conversation: to, sender: from, key, kind, body: body.to_owned(), friends_only: false };
        match self.log.append(&[entry]).await.unwrap()[..] {
            [Outcome::Stored { seq, .. }] => seq,
            ref other => panic!("not stored: {other:?}"),
        }
    }
}

impl Host {
    /// Ends the node's tasks, as a crash does: its row and its presence stay.
    pub(crate) fn crash(&self) {
        self.stop.cancel();
        self.lease.abort();
    }

    /// Takes the node's lease away, as other nodes do when it does not beat for too long.
    pub(crate) async fn fence(&self, cluster: &Cluster) {
        cluster.log.node_release(&self.core.node, self.core.lease.epoch()).await.unwrap();
    }

    /// Waits until the node's bus is connected and its inbox hears it.
    pub(crate) async fn hears(&self) {
        let mut state = self.core.bus.state();
        state.wait_for(crate::bus::BusState::is_connected).await.unwrap();
        eventually("the inbox hears", || self.core.health.bus_ok()).await;
    }
}

/// Waits until something is so, letting everything else go on.
pub(crate) async fn eventually(what: &str, is: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is() {
        assert!(tokio::time::Instant::now() < deadline, "{what}: never");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}
