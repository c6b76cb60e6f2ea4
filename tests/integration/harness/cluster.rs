use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use switchboard::bus::contract::{ContractBroker, Needs};
use switchboard::bus::memory::MemoryBroker;
use switchboard::bus::{BusConfig, MessageBus, Routing};
use switchboard::model::NodeId;
use switchboard::model::store::{self, Store};
use switchboard::server::{AuthConfig, LimitsConfig, ListenConfig, Node, NodeConfig};
use tokio::time::timeout;

use super::DEADLINE;
use super::broker::Place;
#[cfg(feature = "redis")]
use super::redis::{Redis, RedisServer, bus_at};
use super::server::Program;

/// What carries messages between the nodes of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bus {
    /// A broker in this process.
    Memory,
    /// A real Redis that other tests use too.
    #[cfg(feature = "redis")]
    Redis,
    /// A real Redis that the test may break.
    #[cfg(feature = "redis")]
    OwnRedis,
}

/// The broker of a test. Clones are handles of the same one.
#[derive(Clone)]
pub(crate) enum Broker {
    Memory(MemoryBroker),
    #[cfg(feature = "redis")]
    Redis(Arc<Place<Redis>>),
    /// One of another kind, which nobody may break.
    Other(Arc<dyn ContractBroker>),
}

/// How a test wants its cluster.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// How many nodes.
    pub(crate) nodes: usize,
    /// What one client may cost.
    pub(crate) limits: LimitsConfig,
    /// How messages are addressed.
    pub(crate) routing: Routing,
    /// How long subjects linger that nobody needs.
    pub(crate) unsubscribe_after: Duration,
    /// Whether the nodes start while the broker is away.
    pub(crate) without_broker: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let BusConfig { routing, unsubscribe_after, .. } = BusConfig::default();
        Self { nodes: 2, limits: LimitsConfig::default(), routing, unsubscribe_after, without_broker: false }
    }
}

/// Nodes in this process on free ports, each with its own connection to one broker, on one log in memory.
pub(crate) struct Cluster {
    /// The log.
    pub(crate) log: Arc<dyn Store>,
    /// The broker.
    pub(crate) broker: Broker,
    nodes: Vec<Option<Node>>,
    buses: Vec<Arc<dyn MessageBus>>,
}

/// Runs a case on a new cluster, which has to stop in order when the case is done. Without the broker it is skipped.
pub(crate) async fn run(bus: Bus, settings: Settings, case: impl AsyncFnOnce(&mut Cluster)) {
    let Some(mut cluster) = Cluster::start(bus, settings).await else { return };
    case(&mut cluster).await;
    cluster.stop().await;
}

/// Runs a case on a real broker that others use too. Without the broker it is skipped.
pub(crate) async fn run_at<P: Program>(settings: Settings, case: impl AsyncFnOnce(&mut Cluster)) {
    let Some(place) = Place::<P>::that(Needs::Shared).await else { return };
    let mut cluster = Cluster::on(Broker::Other(Arc::new(place)), settings).await;
    case(&mut cluster).await;
    cluster.stop().await;
}

/// Runs a case on a real Redis of its own, of which each node is a user called as the node. Without the broker it is
/// skipped.
#[cfg(feature = "redis")]
pub(crate) async fn run_as_users(settings: Settings, case: impl AsyncFnOnce(&mut Cluster, &RedisServer)) {
    let Some(place) = Place::<Redis>::that(Needs::Own).await.map(Arc::new) else { return };
    let server = place.own();
    let log = store::open("memory:").await.expect("a log in memory");
    let broker = Broker::Redis(Arc::clone(&place));
    let mut cluster = Cluster { log, broker, nodes: Vec::new(), buses: Vec::new() };
    for node in 0..settings.nodes {
        let name = name_of(node);
        server.command(&format!("ACL SETUSER {name} on >secret ~* &* +@all")).await;
        let bus = bus_at(&format!("redis://{name}:secret@{}", server.address())).await;
        let log = Arc::clone(&cluster.log);
        cluster.add_node_on(&settings, log, bus).await;
    }
    case(&mut cluster, server).await;
    cluster.stop().await;
}

/// Runs a case on nodes of which each has its own store, as processes do, with a broker in this process.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) async fn run_on(logs: Vec<Arc<dyn Store>>, case: impl AsyncFnOnce(&mut Cluster)) {
    let (log, broker) = (Arc::clone(&logs[0]), Broker::Memory(MemoryBroker::new()));
    let mut cluster = Cluster { log, broker, nodes: Vec::new(), buses: Vec::new() };
    for log in &logs {
        cluster.add_node(&Settings::default(), Arc::clone(log)).await;
    }
    case(&mut cluster).await;
    cluster.stop().await;
    for log in logs {
        log.close().await;
    }
}

impl Cluster {
    async fn start(bus: Bus, settings: Settings) -> Option<Self> {
        let broker = Broker::start(bus).await?;
        if settings.without_broker {
            broker.cut();
        }
        Some(Self::on(broker, settings).await)
    }

    async fn on(broker: Broker, settings: Settings) -> Self {
        let log = store::open("memory:").await.expect("a log in memory");
        let mut cluster = Self { log, broker, nodes: Vec::new(), buses: Vec::new() };
        for _ in 0..settings.nodes {
            let log = Arc::clone(&cluster.log);
            cluster.add_node(&settings, log).await;
        }
        cluster
    }

    /// Runs a case on this cluster and on another one, which has a log of its own and the same broker.
    pub(crate) async fn beside(&mut self, case: impl AsyncFnOnce(&mut Cluster, &mut Cluster)) {
        let mut other = Self::on(self.broker.clone(), Settings::default()).await;
        case(self, &mut other).await;
        other.stop().await;
    }

    async fn add_node(&mut self, settings: &Settings, log: Arc<dyn Store>) {
        let bus = self.broker.connect().await;
        self.add_node_on(settings, log, bus).await;
    }

    async fn add_node_on(&mut self, settings: &Settings, log: Arc<dyn Store>, bus: Arc<dyn MessageBus>) {
        if !settings.without_broker {
            let mut state = bus.state();
            let connected = timeout(DEADLINE, state.wait_for(|state| state.is_connected())).await;
            connected.expect("the bus connects in time").expect("the bus lives");
        }
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let id = NodeId::new(&name_of(self.nodes.len())).expect("a valid id");
        let node = Node::builder(log)
            .bus(Arc::clone(&bus))
            .node(NodeConfig { id, drain_notice: Duration::ZERO, ..NodeConfig::default() })
            .listen(ListenConfig { tcp: any_port, http: any_port })
            .auth(cheap_passwords())
            .limits(settings.limits.clone())
            .routing(settings.routing)
            .unsubscribe_after(settings.unsubscribe_after);
        self.nodes.push(Some(node.start().await.expect("the node starts")));
        self.buses.push(bus);
    }

    /// Returns where a node accepts clients.
    pub(crate) fn tcp(&self, node: usize) -> SocketAddr {
        self.node(node).tcp()
    }

    /// Returns where a node answers health checks.
    pub(crate) fn http(&self, node: usize) -> SocketAddr {
        self.node(node).http()
    }

    /// Counts the sessions of a node.
    pub(crate) fn sessions(&self, node: usize) -> usize {
        self.node(node).sessions()
    }

    /// Stops one node. Returns whether it stopped in order.
    pub(crate) fn stop_node(&mut self, node: usize) -> impl Future<Output = bool> + Send + use<> {
        let stopping = self.nodes[node].take().expect("the node runs");
        stopping.stop()
    }

    /// Drains one node. Returns whether it stopped in order.
    pub(crate) fn drain_node(&mut self, node: usize) -> impl Future<Output = bool> + Send + use<> {
        let draining = self.nodes[node].take().expect("the node runs");
        draining.drain()
    }

    fn node(&self, node: usize) -> &Node {
        self.nodes[node].as_ref().expect("the node runs")
    }

    async fn stop(self) {
        for (number, node) in self.nodes.into_iter().enumerate() {
            if let Some(node) = node {
                assert!(node.stop().await, "{} did not stop in order", name_of(number));
            }
        }
        for bus in self.buses {
            drop(bus.close().await);
        }
        self.log.close().await;
    }
}

/// Returns the id of a node of a test: `node-0`, `node-1`, ..
pub(crate) fn name_of(node: usize) -> String {
    format!("node-{node}")
}

/// Returns the cheapest parameters that argon2 takes: these tests are not about guessing passwords.
fn cheap_passwords() -> AuthConfig {
    AuthConfig { argon2_memory_kib: 8, argon2_passes: 1, argon2_lanes: 1, ..AuthConfig::default() }
}

impl Broker {
    /// Starts the broker, or takes the one that tests share. `None`: there is none, which has been said.
    pub(crate) async fn start(bus: Bus) -> Option<Self> {
        match bus {
            Bus::Memory => Some(Self::Memory(MemoryBroker::new())),
            #[cfg(feature = "redis")]
            Bus::Redis => Place::that(Needs::Shared).await.map(|place| Self::Redis(Arc::new(place))),
            #[cfg(feature = "redis")]
            Bus::OwnRedis => Place::that(Needs::Own).await.map(|place| Self::Redis(Arc::new(place))),
        }
    }

    async fn connect(&self) -> Arc<dyn MessageBus> {
        match self {
            Self::Memory(broker) => broker.connect(),
            #[cfg(feature = "redis")]
            Self::Redis(place) => place.bus().await,
            Self::Other(broker) => broker.bus().await,
        }
    }

    /// Returns where the real Redis is.
    #[cfg(feature = "redis")]
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Redis(place) => place.url(),
            Self::Memory(_) | Self::Other(_) => panic!("this case is for a real Redis"),
        }
    }

    /// Takes the broker away, without warning.
    pub(crate) fn cut(&self) {
        match self {
            Self::Memory(broker) => {
                broker.refuse(true);
                broker.disconnect();
            }
            #[cfg(feature = "redis")]
            Self::Redis(place) => place.own().kill(),
            Self::Other(_) => panic!("a broker that others use is not to be broken"),
        }
    }

    /// Brings it back.
    pub(crate) async fn heal(&self) {
        match self {
            Self::Memory(broker) => broker.refuse(false),
            #[cfg(feature = "redis")]
            Self::Redis(place) => place.own().start().await,
            Self::Other(_) => panic!("a broker that others use is not to be broken"),
        }
    }

    /// Returns the broker in this process, with its faults.
    pub(crate) fn in_memory(&self) -> &MemoryBroker {
        match self {
            Self::Memory(broker) => broker,
            _ => panic!("this case is for the broker in memory"),
        }
    }
}

/// Stamps cases to which the broker does not matter, in both routings, each on a cluster of its own.
macro_rules! on_any_bus {
    ($($case:ident)*) => {
        mod memory {
            $crate::harness::cluster::in_both_routings! {
                Memory, $crate::harness::cluster::Settings::default(); $($case)*
            }
        }
    };
}

/// Stamps cases on the broker in memory and on a real Redis, in both routings, each on a cluster of its own.
macro_rules! on_each_bus {
    ($($case:ident)*) => {
        $crate::harness::on_each_bus!($crate::harness::cluster::Settings::default(), Redis; $($case)*);
    };
    ($settings:expr, $redis:ident; $($case:ident)*) => {
        mod memory {
            $crate::harness::cluster::in_both_routings! { Memory, $settings; $($case)* }
        }
        #[cfg(feature = "redis")]
        mod redis {
            $crate::harness::cluster::in_both_routings! { $redis, $settings; $($case)* }
        }
    };
}

/// Stamps cases that stand two modules above, on one bus.
macro_rules! in_both_routings {
    ($bus:ident, $settings:expr; $($case:ident)*) => {
        mod per_user {
            $crate::harness::cluster::routed! { $bus, PerUser, $settings; $($case)* }
        }
        mod per_node {
            $crate::harness::cluster::routed! { $bus, PerNode, $settings; $($case)* }
        }
    };
}

macro_rules! routed {
    ($bus:ident, $routing:ident, $settings:expr; $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                use $crate::harness::cluster::{Bus, Settings, run};
                let settings = Settings { routing: switchboard::bus::Routing::$routing, ..$settings };
                run(Bus::$bus, settings, super::super::$case).await;
            }
        )*
    };
}

pub(crate) use in_both_routings;
pub(crate) use on_any_bus;
pub(crate) use on_each_bus;
pub(crate) use routed;
