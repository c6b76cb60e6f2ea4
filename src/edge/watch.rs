//! Keeps the config of a running Nginx at the nodes that take new clients.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::process::Command;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::nginx::{Layout, render};
use super::page;
use super::roster::{Roster, Word, offered};
use super::{EdgeConfig, EdgeNode};
use crate::model::store::{Store, StoreError};

/// The node table and the nodes are asked this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Each reload leaves old workers behind until their connections end, so there is at most one in this time.
const RELOAD_AT_MOST_EVERY: Duration = Duration::from_secs(2);

/// What Nginx has refused is offered to it again after this long: the cause may have gone.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// Follows the node table and the nodes' own word, and tells Nginx when the set of nodes has changed.
///
/// The set is never empty: when no node is left, the last one stands. A config that Nginx refuses is not put in place.
#[derive(Debug)]
pub struct Watch {
    /// The log with the node table.
    pub store: Arc<dyn Store>,
    /// Everything but the nodes.
    pub edge: EdgeConfig,
    /// Where Nginx keeps its files.
    pub layout: Layout,
    /// The config that Nginx runs on.
    pub output: PathBuf,
    /// The program.
    pub program: PathBuf,
}

/// What Nginx was last given.
#[derive(Debug, Default)]
struct Standing {
    /// The set of nodes in its config.
    nodes: Option<Vec<EdgeNode>>,
    /// It has not been told of the config yet.
    reload_due: bool,
    reloaded_at: Option<Instant>,
    /// A set that it has refused, and when.
    refused: Option<(Vec<EdgeNode>, Instant)>,
    /// What was said last about trouble, so that it is not said every second.
    trouble: Option<String>,
}

impl Watch {
    /// Watches until it is stopped. Nginx runs on.
    pub async fn run(&self, stop: CancellationToken) {
        let (mut roster, mut standing) = (Roster::default(), Standing::default());
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match self.look(&mut roster).await {
                Ok(nodes) => self.follow(nodes, &mut standing).await,
                // What stands was right when the log was last heard.
                Err(error) => standing.complain(format!("the node table cannot be read: {error}")),
            }
        }
    }

    async fn look(&self, roster: &mut Roster) -> Result<Vec<EdgeNode>, StoreError> {
        let (now, rows) = self.store.nodes().await?;
        let asked = offered(&rows, now).into_iter().map(async |(node, http)| {
            let word = match page::get(http.as_str(), "/readyz").await {
                Ok(answer) if answer.status == 200 => Word::Ready,
                Ok(_) => Word::NotReady,
                Err(_) => Word::Silent,
            };
            (node, word)
        });
        Ok(roster.update(join_all(asked).await))
    }

    async fn follow(&self, nodes: Vec<EdgeNode>, standing: &mut Standing) {
        if standing.reloaded_at.is_some_and(|at| at.elapsed() < RELOAD_AT_MOST_EVERY) {
            return;
        }
        if nodes.is_empty() {
            standing.complain("no node takes new clients; the last config stands".to_owned());
            return;
        }
        if standing.nodes.as_ref() != Some(&nodes) {
            let refused = standing.refused.as_ref();
            if refused.is_some_and(|(set, at)| *set == nodes && at.elapsed() < REFUSED_FOR) {
                return;
            }
            match self.put(&nodes).await {
                Ok(()) => {
                    let named: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
                    tracing::info!(nodes = named.join(" "), "the balancer has other nodes");
                    (standing.nodes, standing.refused, standing.trouble) = (Some(nodes), None, None);
                    standing.reload_due = true;
                }
                Err(reason) => {
                    standing.complain(format!("the config was not put in place: {reason}"));
                    standing.refused = Some((nodes, Instant::now()));
                    return;
                }
            }
        }
        if standing.reload_due {
            standing.reloaded_at = Some(Instant::now());
            match self.nginx(&self.output, &["-s", "reload"]).await {
                Ok(()) => (standing.reload_due, standing.trouble) = (false, None),
                Err(reason) => standing.complain(format!("nginx was not told, is it running? {reason}")),
            }
        }
    }

    /// Has Nginx check a config of these nodes, and puts it in place in one step.
    async fn put(&self, nodes: &[EdgeNode]) -> Result<(), String> {
        let conf = render(&EdgeConfig { nodes: nodes.to_vec(), ..self.edge.clone() }, &self.layout);
        let mut name = self.output.clone().into_os_string();
        name.push(".new");
        let candidate = PathBuf::from(name);
        let cannot = |what: &str, path: &Path, error: io::Error| format!("cannot {what} {}: {error}", path.display());
        tokio::fs::write(&candidate, conf).await.map_err(|error| cannot("write", &candidate, error))?;
        self.nginx(&candidate, &["-t", "-q"]).await?;
        tokio::fs::rename(&candidate, &self.output).await.map_err(|error| cannot("replace", &self.output, error))
    }

    async fn nginx(&self, conf: &Path, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command.args(["-e", "stderr", "-c"]).arg(conf).args(arguments).kill_on_drop(true);
        match command.output().await {
            Ok(Output { status, .. }) if status.success() => Ok(()),
            Ok(Output { stderr, .. }) => Err(String::from_utf8_lossy(&stderr).trim().to_owned()),
            Err(error) => Err(format!("cannot run {}: {error}", self.program.display())),
        }
    }
}

impl Standing {
    fn complain(&mut self, trouble: String) {
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::warn!("{trouble}");
            self.trouble = Some(trouble);
        }
    }
}
