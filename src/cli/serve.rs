//! `switchboard serve`: one node, as a process of its own.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{CliError, Globals};
use crate::bus;
use crate::config::Config;
use crate::server::Node;
use crate::telemetry::Metrics;

/// Runs one node until it is told to stop
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's name, instead of the config's node.id
    #[arg(long, value_name = "ID")]
    pub node: Option<String>,
    /// Where to accept clients, instead of the config's listen.tcp
    #[arg(long, value_name = "ADDRESS")]
    pub tcp: Option<String>,
    /// Where to answer health checks, instead of the config's listen.http
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<String>,
    /// The log, instead of the config's store.url
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
}

/// Runs the node.
pub async fn run(args: Args, globals: &Globals) -> Result<(), CliError> {
    let overrides = globals
        .overrides()
        .set("--node", "node.id", args.node)
        .set("--tcp", "listen.tcp", args.tcp)
        .set("--http", "listen.http", args.http)
        .set("--store", "store.url", args.store);
    let config = Config::load(globals.config.as_deref(), &overrides)?;
    let mut stop = StopSignals::new()?;
    let metrics = Metrics::install()?;
    tokio::spawn(async move { metrics.upkeep().await });
    let log = config.store.open().await?;
    let broker = bus::connect(&config.bus).await?;
    let mut node = Node::builder(log.clone())
        .bus(broker.clone())
        .node(config.node)
        .listen(config.listen)
        .cluster(config.cluster)
        .auth(config.auth)
        .chat(config.chat)
        .limits(config.limits)
        .routing(config.bus.routing)
        .unsubscribe_after(config.bus.unsubscribe_after)
        .retain_days(config.store.retain_days)
        .start()
        .await?;
    let asked = node.asked_to_drain();
    let failure = tokio::select! {
        () = stop.next() => None,
        () = asked => None,
        error = node.failed() => Some(error),
    };
    let leaving = async { if failure.is_none() { node.drain().await } else { node.stop().await } };
    let stopped = tokio::select! {
        stopped = leaving => stopped,
        () = stop.next() => return Err(CliError::failed("stopped at once, by the second signal")),
    };
    if let Err(error) = broker.close().await {
        tracing::warn!(%error, "the bus was not closed in order");
    }
    log.close().await;
    match failure {
        Some(error) => Err(CliError::from(error)),
        None if stopped => Ok(()),
        None => Err(CliError::failed("the node did not stop in order, its log says why")),
    }
}

/// Stops nodes one after the other. Returns whether all of them stopped in order.
pub(super) async fn close(nodes: Vec<Node>) -> bool {
    let mut in_order = true;
    for node in nodes {
        in_order &= node.stop().await;
    }
    in_order
}

/// SIGTERM and SIGINT.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Begins to catch them.
    pub(super) fn new() -> Result<Self, CliError> {
        let catch = |kind| signal(kind).map_err(|error| CliError::failed_by("signals cannot be caught", error));
        Ok(Self { terminate: catch(SignalKind::terminate())?, interrupt: catch(SignalKind::interrupt())? })
    }

    /// Waits for the next one. Cancel-safe.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
