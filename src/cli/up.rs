//! `switchboard up`, also without a subcommand: a cluster of two nodes in one process, to try things out.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::serve::{StopSignals, close};
use super::{CliError, Globals};
use crate::bus::config::BrokerUrl;
use crate::bus::{self, BusConfig, BusKind, MessageBus};
use crate::client::{ChatClient, ClientErrorKind, Event, Events, Options, to_user};
use crate::config::Config;
use crate::model::store::{self, Store};
use crate::model::{NodeId, UserId};
use crate::protocol::{ErrorCode, Password};
use crate::server::{ListenConfig, Node, NodeConfig};
use crate::telemetry::Metrics;

/// Starts a two-node cluster in this process and shows that it works
#[derive(Debug, Default, clap::Args)]
pub struct Args {}

/// The second node listens this far above the first.
const PORT_STEP: u16 = 2;

/// How long the broker may take to answer before another is looked for.
const BROKER_WITHIN: Duration = Duration::from_secs(2);

/// How often a broker that starts is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long the demo may take.
const DEMO_WITHIN: Duration = Duration::from_secs(10);

/// The password of the two demo users.
const DEMO_PASSWORD: &str = "switchboard-demo";

/// Runs the cluster until it is told to stop.
pub async fn run(_args: Args, globals: &Globals) -> Result<(), CliError> {
    let config = Config::load(globals.config.as_deref(), &globals.overrides())?;
    let mut stop = StopSignals::new()?;
    let metrics = Metrics::install()?;
    tokio::spawn(async move { metrics.upkeep().await });
    let log = config.store.open().await?;
    let broker = Broker::find(&config.bus).await?;
    let (first, second) = tokio::try_join!(
        start(&config, "node-a", config.listen.clone(), &log, &broker),
        start(&config, "node-b", above(&config.listen)?, &log, &broker)
    )?;
    say(&format!(
        "node-a listens on {} (HTTP {}), node-b on {} (HTTP {}).",
        first.tcp(),
        first.http(),
        second.tcp(),
        second.http()
    ));
    say(&format!("The log is {}, the bus is {}.", store::shown(&config.store.url), broker.name));
    match timeout(DEMO_WITHIN, demo(&first, &second, &broker)).await {
        Ok(Ok(seen)) => say(&seen),
        Ok(Err(error)) => say(&format!("The demo message was not sent: {error}")),
        Err(_) => say("The demo message did not arrive in time, the log above says why."),
    }
    how_to_chat(&first, &second);
    stop.next().await;
    say("Stopping; a second signal stops at once.");
    let in_order = tokio::select! {
        in_order = close(vec![first, second]) => in_order,
        () = stop.next() => return Err(CliError::failed("stopped at once, by the second signal")),
    };
    if let Err(error) = broker.bus.close().await {
        tracing::warn!(%error, "the bus was not closed in order");
    }
    log.close().await;
    if in_order { Ok(()) } else { Err(CliError::failed("a node did not stop in order, the log says why")) }
}

#[allow(clippy::print_stdout, reason = "this is what the program was asked to show")]
fn say(line: &str) {
    println!("{line}");
}

async fn start(
    config: &Config,
    id: &str,
    listen: ListenConfig,
    log: &Arc<dyn Store>,
    broker: &Broker,
) -> Result<Node, CliError> {
    let id = NodeId::new(id).map_err(|error| CliError::failed_by("a node cannot be named", error))?;
    let node = Node::builder(Arc::clone(log))
        .bus(Arc::clone(&broker.bus))
        .node(NodeConfig { id, ..config.node.clone() })
        .listen(listen)
        .cluster(config.cluster.clone())
        .auth(config.auth.clone())
        .chat(config.chat.clone())
        .limits(config.limits.clone())
        .routing(config.bus.routing)
        .unsubscribe_after(config.bus.unsubscribe_after)
        .retain_days(config.store.retain_days);
    Ok(node.start().await?)
}

/// Returns where the second node listens.
fn above(listen: &ListenConfig) -> Result<ListenConfig, CliError> {
    let above = |key: &str, address: SocketAddr| -> Result<SocketAddr, CliError> {
        match address.port() {
            0 => Ok(address),
            port => {
                let port = port.checked_add(PORT_STEP);
                let port =
                    port.ok_or_else(|| CliError::failed(format!("{key}: the second node listens two ports above")))?;
                Ok(SocketAddr::new(address.ip(), port))
            }
        }
    };
    Ok(ListenConfig { tcp: above("listen.tcp", listen.tcp)?, http: above("listen.http", listen.http)? })
}

/// The bus of the cluster and, when it was started for it, its broker.
struct Broker {
    bus: Arc<dyn MessageBus>,
    name: String,
    /// Ended when it is dropped.
    _server: Option<Child>,
}

impl Broker {
    /// Takes the broker of the config if it answers; in place of a Redis that does not, a private one; in place of
    /// that, none.
    async fn find(config: &BusConfig) -> Result<Self, CliError> {
        let name = config.kind.name().to_owned();
        let url = config.redis.url.expose();
        if config.kind != BusKind::Redis || accepts(authority(url)).await {
            let bus = bus::connect(config).await?;
            let connected = connects(&bus).await;
            if !connected && config.kind != BusKind::Redis {
                say(&format!(
                    "No broker answers: {config}. The nodes start without it and use it as soon as it is there;\n\
                     on Debian, `scripts/brokers up {}` starts one.",
                    broker_name(config.kind)
                ));
            }
            if connected || config.kind != BusKind::Redis {
                return Ok(Self { bus, name, _server: None });
            }
            close_quietly(bus).await;
        }
        if let Some((server, address)) = private_redis().await {
            let mut private = config.clone();
            private.redis.url = BrokerUrl::new(format!("redis://{address}"));
            let bus = bus::connect(&private).await?;
            if connects(&bus).await {
                let name = format!("redis, a private server on {address}");
                return Ok(Self { bus, name, _server: Some(server) });
            }
            close_quietly(bus).await;
        }
        notice(config);
        let memory = BusConfig { kind: BusKind::Memory, ..config.clone() };
        Ok(Self { bus: bus::connect(&memory).await?, name: "memory, inside this process".to_owned(), _server: None })
    }

    fn kind(&self) -> &str {
        self.name.split(',').next().unwrap_or(&self.name)
    }
}

/// Returns what the script that starts brokers calls the one of a kind.
fn broker_name(kind: BusKind) -> &'static str {
    if kind == BusKind::Mqtt { "mosquitto" } else { kind.name() }
}

async fn connects(bus: &Arc<dyn MessageBus>) -> bool {
    let mut state = bus.state();
    timeout(BROKER_WITHIN, state.wait_for(|state| state.is_connected())).await.is_ok_and(|connected| connected.is_ok())
}

async fn close_quietly(bus: Arc<dyn MessageBus>) {
    if let Err(error) = bus.close().await {
        tracing::debug!(%error, "a bus that is not used was not closed in order");
    }
}

/// Returns the `host:port` of a URL, with Redis' own port when it names none.
fn authority(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split(['/', '?']).next().unwrap_or_default();
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { host.to_owned() } else { format!("{host}:6379") }
}

async fn accepts(address: String) -> bool {
    timeout(BROKER_WITHIN, TcpStream::connect(address)).await.is_ok_and(|connected| connected.is_ok())
}

/// Starts a Redis of our own, when the program is installed, on a free port, without files.
async fn private_redis() -> Option<(Child, String)> {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).ok()?.port();
    let port_text = port.to_string();
    let arguments = ["--bind", "127.0.0.1", "--port", &port_text, "--save", "", "--appendonly", "no"];
    let mut server = Command::new("redis-server")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let address = format!("127.0.0.1:{port}");
    let started = async {
        while server.try_wait().is_ok_and(|ended| ended.is_none()) && !accepts(address.clone()).await {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    timeout(BROKER_WITHIN, started).await.ok()?;
    Some((server, address))
}

fn notice(config: &BusConfig) {
    let line = "=".repeat(78);
    say(&format!(
        "{line}\n\
         No Redis answers at {} and no redis-server is installed.\n\
         The two nodes talk through this process instead: good for a look, not a cluster.\n\
         Get Redis: `apt-get install redis-server` (Debian, Ubuntu), `dnf install redis`\n\
         (Fedora), `brew install redis` (macOS), or `docker run -p 6379:6379 redis:7-alpine`;\n\
         then start again. Another address goes into bus.redis.url.\n\
         {line}",
        config.redis.url
    ));
}

/// Sends a message from a user on the first node to one on the second, and says how long it took.
async fn demo(first: &Node, second: &Node, broker: &Broker) -> Result<String, CliError> {
    let (alice, _alice_events, _) = user(first, "alice").await?;
    let (bob, mut bob_events, bob_id) = user(second, "bob").await?;
    let body = format!("hello from node-a, {}", std::process::id());
    let sent_at = Instant::now();
    let sending = alice.send(to_user(bob_id), body.clone()).await.map_err(demo_failed)?;
    let took = loop {
        match bob_events.next().await {
            Some(Event::Message(message)) if message.body == body => break sent_at.elapsed(),
            Some(_) => {}
            None => return Err(CliError::failed("bob's connection ended")),
        }
    };
    sending.await.map_err(demo_failed)?;
    alice.close().await;
    bob.close().await;
    let milliseconds = took.as_secs_f64() * 1_000.0;
    Ok(format!("alice on node-a to bob on node-b through {}: {milliseconds:.1} ms", broker.kind()))
}

async fn user(node: &Node, name: &str) -> Result<(ChatClient, Events, UserId), CliError> {
    let mut options = Options::new([node.tcp().to_string()], name, Password::new(DEMO_PASSWORD));
    options.register = true;
    let (client, mut events) = ChatClient::connect(options).await.map_err(|error| {
        if error.kind() == ClientErrorKind::Refused(ErrorCode::BadCredentials) {
            let context = format!("{name} has another password in this log than {DEMO_PASSWORD}");
            CliError::failed_by(context, error)
        } else {
            demo_failed(error)
        }
    })?;
    let mut id = None;
    loop {
        match events.next().await {
            Some(Event::Welcome(welcome)) => id = Some(welcome.user),
            Some(Event::CaughtUp) => break,
            Some(_) => {}
            None => break,
        }
    }
    let id = id.ok_or_else(|| CliError::failed(format!("{name} was not welcomed")))?;
    Ok((client, events, id))
}

fn demo_failed(error: crate::client::ClientError) -> CliError {
    CliError::failed_by("the demo users cannot chat", error)
}

fn how_to_chat(first: &Node, second: &Node) {
    let program = std::env::args().next().unwrap_or_else(|| "switchboard".to_owned());
    say(&format!(
        "\nChat in two more terminals, with the password {DEMO_PASSWORD}:\n\
         \n  {program} chat --server {} --name alice\n  {program} chat --server {} --name bob\n\
         \nAny other name can be registered there too. Ctrl-C stops the cluster; its log stays.",
        first.tcp(),
        second.tcp()
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_where_to_knock() {
        for (url, address) in [
            ("redis://127.0.0.1:6390", "127.0.0.1:6390"),
            ("redis://user:pa@ss@host/2", "host:6379"),
            ("redis://[::1]:7000/?protocol=resp3", "[::1]:7000"),
            ("redis://host", "host:6379"),
        ] {
            assert_eq!(authority(url), address);
        }
    }
}
