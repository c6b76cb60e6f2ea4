//! Puts a node together, runs it, and stops it in order.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::{self, Announcer, ClaimError, Farewell, Health, PresenceBook};
use super::config::{AuthConfig, ChatConfig, ClusterConfig, LimitsConfig, ListenConfig, NodeConfig};
use super::core::Core;
use super::flow::{self, Appender, CommitGate, Locals, Post, Repairs, Router, Subscriptions, Timelines, Work};
use super::front;
use super::http::{self, WebSockets};
use super::service::{self, Cursors, LogReader, Passwords, Tokens};
use crate::bus::{BusConfig, BusError, BusErrorKind, Claim, MessageBus, Routing, Subject, Subscription};
use crate::model::store::{NodeState, Store};
use crate::protocol::CloseReason;

/// How long each phase of stopping may take.
const PHASE: Duration = Duration::from_secs(5);

/// How long a node that drains waits until its row says so. A log that is away must not hold it.
const ROW_WITHIN: Duration = Duration::from_secs(2);

/// The log of a node whose bus has not been named yet.
#[derive(Debug, Clone)]
#[must_use = "a node needs a bus"]
pub struct NodeOnLog {
    store: Arc<dyn Store>,
}

/// What a node is made of.
#[derive(Debug, Clone)]
#[must_use = "nothing runs before `start`"]
pub struct NodeBuilder {
    node: NodeConfig,
    listen: ListenConfig,
    cluster: ClusterConfig,
    auth: AuthConfig,
    chat: ChatConfig,
    limits: LimitsConfig,
    routing: Routing,
    unsubscribe_after: Duration,
    retain_days: u32,
    store: Arc<dyn Store>,
    bus: Arc<dyn MessageBus>,
}

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{key} = \"{address}\" cannot be listened on: choose another port there, or stop what uses this one")]
    Listen {
        /// The key of the config.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The node's row cannot be had.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The bus refuses the inbox.
    #[error("the node's inbox cannot be subscribed")]
    Bus(#[from] BusError),
    /// A value of the config cannot work.
    #[error("{0}")]
    Config(String),
}

/// A node that is put together and does nothing yet.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) core: Arc<Core>,
    /// For the appender.
    pub(super) posts: Receiver<Post>,
    /// For the router.
    pub(super) work: Receiver<Work>,
    pub(super) inbox: Subscription,
}

/// A running node. Dropping it aborts nothing in order; [`stop`](Self::stop) does.
#[derive(Debug)]
pub struct Node {
    core: Arc<Core>,
    tcp: SocketAddr,
    http: SocketAddr,
    /// How long it goes on for its sessions when it drains.
    notice: Duration,
    /// Another process has taken its id.
    ousted: bool,
    /// Ends the TCP front, and sends guests of both fronts away.
    unready: CancellationToken,
    /// Ends the HTTP front, whose pages say meanwhile that the node stops, and the tasks behind both.
    quit: CancellationToken,
    quit_router: CancellationToken,
    router: JoinHandle<()>,
    front: JoinHandle<()>,
    http_front: JoinHandle<()>,
    /// Connections on which something may still have to be written.
    connections: TaskTracker,
    tasks: TaskTracker,
    lease: JoinHandle<Result<(), ClaimError>>,
}

impl NodeOnLog {
    /// Sets what carries messages to the other nodes, everything else at its default. It may be shared with other nodes
    /// of the process, and it may come from outside this crate: any [`Backend`](crate::bus::supervisor::Backend) makes
    /// a bus.
    pub fn bus(self, bus: Arc<dyn MessageBus>) -> NodeBuilder {
        NodeBuilder {
            node: NodeConfig::default(),
            listen: ListenConfig::default(),
            cluster: ClusterConfig::default(),
            auth: AuthConfig::default(),
            chat: ChatConfig::default(),
            limits: LimitsConfig::default(),
            routing: Routing::default(),
            unsubscribe_after: BusConfig::default().unsubscribe_after,
            retain_days: 0,
            store: self.store,
            bus,
        }
    }
}

impl NodeBuilder {
    /// Sets who the node is.
    pub fn node(mut self, node: NodeConfig) -> Self {
        self.node = node;
        self
    }

    /// Sets where it listens; port 0 takes any free port.
    pub fn listen(mut self, listen: ListenConfig) -> Self {
        self.listen = listen;
        self
    }

    /// Sets which cluster it belongs to.
    pub fn cluster(mut self, cluster: ClusterConfig) -> Self {
        self.cluster = cluster;
        self
    }

    /// Sets how it authenticates.
    pub fn auth(mut self, auth: AuthConfig) -> Self {
        self.auth = auth;
        self
    }

    /// Sets who may do what.
    pub fn chat(mut self, chat: ChatConfig) -> Self {
        self.chat = chat;
        self
    }

    /// Sets after how many days the node deletes entries of the log; 0, the default, keeps them for ever.
    pub fn retain_days(mut self, days: u32) -> Self {
        self.retain_days = days;
        self
    }

    /// Sets what one client may cost.
    pub fn limits(mut self, limits: LimitsConfig) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how messages are addressed; the same on all nodes of a cluster.
    pub fn routing(mut self, routing: Routing) -> Self {
        self.routing = routing;
        self
    }

    /// Sets how long the subject of a user or a group stays subscribed when the last session here has gone.
    pub fn unsubscribe_after(mut self, linger: Duration) -> Self {
        self.unsubscribe_after = linger;
        self
    }

    /// Starts the node: takes its ports and its row, subscribes its inbox, and is ready. A bus that is away is no
    /// error: the node starts degraded.
    pub async fn start(self) -> Result<Node, StartError> {
        let (tcp_listener, tcp) = bind("listen.tcp", self.listen.tcp)?;
        let (http_listener, http) = bind("listen.http", self.listen.http)?;
        let advertised = |address: SocketAddr| match self.node.advertise.as_str() {
            "" => address.to_string(),
            host => format!("{host}:{}", address.port()),
        };
        let (tcp_name, http_name, weight) = (advertised(tcp), advertised(http), self.node.weight);
        let notice = self.node.drain_notice;
        let keep = (self.retain_days > 0).then(|| Duration::from_secs(u64::from(self.retain_days) * 24 * 3_600));
        let Parts { core, posts, work, inbox } = self.assemble(&tcp_name, &http_name).await?;
        let (unready, quit) = (CancellationToken::new(), CancellationToken::new());
        let (connections, tasks) = (TaskTracker::new(), TaskTracker::new());
        let (same, stop) = (|| Arc::clone(&core), || quit.clone());
        tasks.spawn(flow::appender::run(same(), posts, stop()));
        let quit_router = CancellationToken::new();
        let router = tokio::spawn(flow::router::run(same(), work, quit_router.clone()));
        tasks.spawn(flow::subscriptions::run(same(), inbox.subjects(), stop()));
        tasks.spawn(flow::inbox::run(same(), inbox, stop()));
        tasks.spawn(flow::repair::run(same(), stop()));
        tasks.spawn(cluster::run_presence(same(), stop()));
        tasks.spawn(cluster::run_announcer(same(), stop()));
        tasks.spawn(cluster::run_health(same(), stop()));
        tasks.spawn(cluster::run_fencing(same(), stop()));
        tasks.spawn(cluster::run_canary(same(), stop()));
        tasks.spawn(service::run_cursors(same(), stop()));
        if let Some(keep) = keep {
            tasks.spawn(cluster::run_retention(same(), keep, stop()));
        }
        core.lease.set_state(NodeState::Ready);
        let lease = tokio::spawn(cluster::run_lease(same(), tcp_name, http_name, weight, stop()));
        let front = tokio::spawn(front::run_listener(same(), tcp_listener, connections.clone(), unready.clone()));
        let websockets = WebSockets { connections: connections.clone(), stop: unready.clone() };
        let http_front = tokio::spawn(http::run(same(), http_listener, websockets, quit.clone()));
        let (epoch, per_user) = (core.lease.epoch(), core.subscriptions.per_user());
        tracing::info!(node = %core.node, epoch, %tcp, %http, per_user, "the node is ready");
        Ok(Node {
            core,
            tcp,
            http,
            notice,
            ousted: false,
            unready,
            quit,
            quit_router,
            router,
            front,
            http_front,
            connections,
            tasks,
            lease,
        })
    }

    /// Takes the node's row and subscribes its inbox. Nothing runs yet.
    pub(super) async fn assemble(self, tcp: &str, http: &str) -> Result<Parts, StartError> {
        let Self { node, cluster, auth, chat, limits, routing, unsubscribe_after, store, bus, .. } = self;
        let passwords = Passwords::new(&auth).map_err(StartError::Config)?;
        let meta = store.meta().clone();
        let subject_prefix = format!("{}.{}", cluster.name, meta.cluster_id);
        let subject = Subject::new(&format!("{subject_prefix}.n.{}", node.id))
            .map_err(|error| StartError::Config(format!("cluster.name or node.id: {error}")))?;
        let lease = cluster::claim(&*store, &node.id, tcp, http, node.weight).await?;
        let inbox = subscribe(&*bus, &subject).await?;
        let health = Health::new(bus.state().borrow().is_connected(), lease.started_at());
        let ((appender, posts), (router, work)) = (Appender::new(), Router::new());
        let guarantees = bus.guarantees();
        let per_user = routing.is_per_user(&guarantees);
        if per_user && guarantees.per_user_subjects != Claim::Yes {
            tracing::warn!("a subject per user is costly on this broker, bus.routing = \"auto\" does without");
        }
        let subscriptions = Subscriptions::new(per_user, unsubscribe_after);
        let core = Arc::new(Core {
            node: node.id,
            cluster_id: meta.cluster_id.clone(),
            subject_prefix,
            limits,
            friends_only: chat.require_friends,
            reader: LogReader::spawn(&store),
            tokens: Tokens::new(&meta, auth.token_ttl),
            store,
            bus,
            lease,
            presence: PresenceBook::default(),
            announcer: Announcer::default(),
            health,
            locals: Locals::default(),
            subscriptions,
            timelines: Timelines::new(),
            commits: CommitGate::default(),
            repairs: Repairs::default(),
            appender,
            router,
            cursors: Cursors::default(),
            passwords,
            sessions: AtomicU64::new(0),
            farewell: OnceLock::new(),
        });
        Ok(Parts { core, posts, work, inbox })
    }
}

impl Node {
    /// Begins a node on a log, which may be shared with other nodes of the process; [`NodeOnLog::bus`] comes next.
    pub fn builder(store: Arc<dyn Store>) -> NodeOnLog {
        NodeOnLog { store }
    }

    /// Returns the address of the TCP front.
    pub fn tcp(&self) -> SocketAddr {
        self.tcp
    }

    /// Returns the address of the HTTP front.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Returns how many users' sessions the node has.
    pub fn sessions(&self) -> usize {
        self.core.locals.count()
    }

    /// Waits until the node cannot go on: another process has taken its id. Cancel-safe.
    pub async fn failed(&mut self) -> ClaimError {
        match (&mut self.lease).await {
            Ok(Err(error)) => {
                self.ousted = true;
                error
            }
            Ok(Ok(())) | Err(_) => std::future::pending().await,
        }
    }

    /// Waits until an operator wants the node drained, which its row says. Cancel-safe.
    pub fn asked_to_drain(&self) -> impl Future<Output = ()> + Send + use<> {
        self.core.lease.asked_to_drain()
    }

    /// Stops in order: no new connections; sessions are told that the server shuts down, or that another process has
    /// taken the node's id; what was accepted is committed, answered and published; cursors and presence are written; the
    /// lease is given back. Every phase is bounded. Returns whether all of it was done in time.
    pub async fn stop(self) -> bool {
        let reason = if self.ousted { CloseReason::Fenced } else { CloseReason::Shutdown };
        self.leave(reason).await
    }

    /// Stops in the same order for other nodes to take over: the node's row says so first, then balancers get
    /// `node.drain_notice` to leave it, and its sessions are sent to the others one after the other.
    pub async fn drain(self) -> bool {
        self.leave(CloseReason::Drain).await
    }

    async fn leave(self, reason: CloseReason) -> bool {
        let Self {
            core, notice, unready, quit, quit_router, router, front, http_front, connections, tasks, lease, ..
        } = self;
        let (drains, sessions) = (reason == CloseReason::Drain, core.locals.count());
        tracing::info!(node = %core.node, reason = reason.as_str(), sessions, "the node lets go of its sessions");
        core.farewell.get_or_init(|| Farewell::new(reason, sessions));
        core.lease.set_state(NodeState::Draining);
        // Whoever comes back through a balancer that follows the node table must not come here.
        if drains && timeout(ROW_WITHIN, core.lease.wrote(NodeState::Draining)).await.is_err() {
            tracing::warn!("the node table could not be told that the node drains");
        }
        unready.cancel();
        let mut in_time = timeout(PHASE, front).await.is_ok();
        if drains {
            // Over at once when nobody is there.
            let left = timeout(notice, core.locals.emptied()).await.is_ok();
            tracing::info!(sessions = core.locals.count(), left, "the balancers have had time to leave the node");
        }
        connections.close();
        cluster::send_away(&core).await;
        // Guests are in no list: their connections hear of it themselves.
        let served = async { tokio::join!(core.locals.emptied(), connections.wait()) };
        in_time &= timeout(PHASE, served).await.is_ok();
        if drains {
            // Nobody else knows who was here: friends of those who do not come back hear of it now, or never.
            let told = async {
                core.presence.written().await;
                core.announcer.told().await;
            };
            if timeout(PHASE, told).await.is_err() {
                tracing::warn!("friends could not be told who has gone");
            }
        }
        quit.cancel();
        tasks.close();
        // The ports are free when the node has stopped.
        let ended = async { tokio::join!(tasks.wait(), http_front) };
        in_time &= timeout(PHASE, ended).await.is_ok();
        // The router ends behind everything that gives it work.
        quit_router.cancel();
        in_time &= timeout(PHASE, router).await.is_ok();
        in_time &= timeout(PHASE, cluster::release(&core)).await.is_ok_and(|done| done.is_ok());
        lease.abort();
        tracing::info!(node = %core.node, in_time, "the node has stopped");
        in_time
    }
}

/// Subscribes; a link that breaks meanwhile is no error.
async fn subscribe(bus: &dyn MessageBus, subject: &Subject) -> Result<Subscription, BusError> {
    loop {
        match bus.subscribe(subject).await {
            // A broker that refuses it will refuse it again.
            Err(error) if error.is_retryable() && error.kind() != BusErrorKind::Rejected => {
                tracing::debug!(%error, "the inbox is subscribed again")
            }
            result => return result,
        }
    }
}

fn bind(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { key, address, source };
    let listener = front::listen(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
