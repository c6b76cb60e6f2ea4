//! `switchboard drain`: has a node send its sessions to the others and end, by way of the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::say::say;
use super::serve::StopSignals;
use super::{CliError, Globals};
use crate::config::Config;
use crate::model::store::{self, NodeRow, NodeState, Store};
use crate::model::{Millis, NodeId};

/// How often the node's row is read.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Has a node send its sessions to the other nodes and end, and follows it until it has
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's name, its node.id
    node: String,
    /// The log, instead of the config's store.url
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Do not wait until the node has ended
    #[arg(long)]
    no_wait: bool,
}

/// Runs `switchboard drain`.
pub async fn run(args: Args, globals: &Globals) -> Result<(), CliError> {
    let overrides = globals.overrides().set("--store", "store.url", args.store);
    let config = Config::load(globals.config.as_deref(), &overrides)?;
    let node = NodeId::new(&args.node).map_err(|error| CliError::Usage(error.to_string()))?;
    // Asking about a log must not make one.
    if !store::exists(&config.store.url).await? {
        return Err(CliError::failed(format!(
            "there are no nodes: {} does not exist; correct store.url, in the config or by --store",
            store::shown(&config.store.url)
        )));
    }
    let mut stop = StopSignals::new()?;
    let log = config.store.open().await?;
    let done = drain(&log, &node, args.no_wait, &mut stop).await;
    log.close().await;
    done
}

async fn drain(log: &Arc<dyn Store>, node: &NodeId, no_wait: bool, stop: &mut StopSignals) -> Result<(), CliError> {
    let asked = ask(&**log, node).await?;
    if asked.drain_asked_at.is_some() || asked.state == NodeState::Draining {
        say(format_args!("{node} was draining already"))?;
    } else {
        say(format_args!("{node} is asked to drain, with {}", sessions(&asked)))?;
    }
    if no_wait {
        return Ok(());
    }
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = String::new();
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = stop.next() => return Err(CliError::failed(format!(
                "{node} drains on, nobody follows it any more; `switchboard drain {node}` does so again"
            ))),
        }
        let news = match log.nodes().await {
            Ok((now, rows)) => match judge(&asked, rows.iter().find(|row| row.node == *node), now) {
                Course::Under(news) => news,
                Course::Done(news) => return say(news),
                Course::Failed(why) => return Err(CliError::failed(why)),
            },
            Err(error) if error.is_retryable() => format!("the log does not answer, trying again: {error}"),
            Err(error) => return Err(error.into()),
        };
        if news != said {
            say(&news)?;
            said = news;
        }
    }
}

/// Writes the wish into the node's row. Returns the row as it was before.
async fn ask(log: &dyn Store, node: &NodeId) -> Result<NodeRow, CliError> {
    loop {
        let (now, rows) = log.nodes().await?;
        let row = rows.iter().find(|row| row.node == *node).ok_or_else(|| unknown(node, &rows))?;
        match row.state {
            NodeState::Stopped => {
                return Err(CliError::failed(format!("{node} has stopped already, there is nothing to drain")));
            }
            _ if row.state == NodeState::Expired || row.lease_until < now => {
                return Err(CliError::failed(format!(
                    "{node} is dead: it last renewed its lease {} s ago and has no sessions any more; end its process if \
                     there is one, and start it anew",
                    (now - row.beat_at) / 1_000
                )));
            }
            _ => {}
        }
        if log.node_drain(node, row.epoch).await? {
            return Ok(row.clone());
        }
        // Somebody else has the row by now, or nobody.
    }
}

fn unknown(node: &NodeId, rows: &[NodeRow]) -> CliError {
    if rows.is_empty() {
        return CliError::failed(format!("there is no node {node}: no node has ever used this log"));
    }
    let known: Vec<String> = rows.iter().map(|row| format!("{} ({})", row.node, row.state.as_str())).collect();
    CliError::failed(format!("there is no node {node}; the log knows {}", known.join(", ")))
}

/// How far a node has come that was asked to drain.
#[derive(Debug, PartialEq, Eq)]
enum Course {
    Under(String),
    Done(String),
    Failed(String),
}

/// Compares a node's row with what it was when it was asked.
fn judge(asked: &NodeRow, row: Option<&NodeRow>, now: Millis) -> Course {
    let node = &asked.node;
    let Some(row) = row else {
        return Course::Failed(format!("the row of {node} is gone from the log; somebody has deleted it"));
    };
    if row.holder != asked.holder {
        // Whatever starts a node again is quicker than a look.
        return Course::Done(format!("the process that was asked has ended, and {node} runs again as another one"));
    }
    if row.state == NodeState::Stopped {
        return Course::Done(format!("{node} has drained"));
    }
    if row.state == NodeState::Expired || row.lease_until < now {
        return Course::Failed(format!(
            "{node} died while it drained; its sessions come back to the other nodes, and nothing that was acknowledged is \
             lost"
        ));
    }
    if row.epoch != asked.epoch {
        return Course::Failed(format!(
            "{node} lost its lease before it had read that it shall drain, and has taken a new one; ask it again"
        ));
    }
    Course::Under(match row.state {
        NodeState::Draining => format!("{node} drains, {} left", sessions(row)),
        _ => format!("{node} has not begun yet, with {}", sessions(row)),
    })
}

fn sessions(row: &NodeRow) -> String {
    match row.sessions {
        1 => "1 session".to_owned(),
        sessions => format!("{sessions} sessions"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: NodeState) -> NodeRow {
        NodeRow {
            node: NodeId::new("node-a").unwrap(),
            epoch: 7,
            holder: "here pid 1".to_owned(),
            tcp: "t:1".to_owned(),
            http: "h:1".to_owned(),
            weight: 1,
            state,
            bus_ok: true,
            heard_at: None,
            dirty_since: None,
            sessions: 480,
            beat_at: 1_000,
            lease_until: 6_000,
            drain_asked_at: None,
        }
    }

    fn course(row: &NodeRow, now: Millis) -> Course {
        judge(&self::row(NodeState::Ready), Some(row), now)
    }

    #[test]
    fn a_node_that_drains_is_followed_until_it_has_stopped() {
        let (ready, draining) = (row(NodeState::Ready), row(NodeState::Draining));
        assert_eq!(course(&ready, 1_500), Course::Under("node-a has not begun yet, with 480 sessions".to_owned()));
        assert_eq!(course(&draining, 6_000), Course::Under("node-a drains, 480 sessions left".to_owned()));
        let last = NodeRow { sessions: 1, ..draining };
        assert_eq!(course(&last, 2_000), Course::Under("node-a drains, 1 session left".to_owned()));
        let stopped = NodeRow { lease_until: 1_900, ..row(NodeState::Stopped) };
        assert_eq!(course(&stopped, 2_000), Course::Done("node-a has drained".to_owned()));
    }

    #[test]
    fn a_node_that_does_not_get_through_with_it_is_told_from_one_that_is_back_already() {
        let failed = |row: &NodeRow, now, why: &str| match course(row, now) {
            Course::Failed(said) => assert!(said.contains(why), "{said}"),
            other => panic!("{other:?}"),
        };
        failed(&row(NodeState::Draining), 6_001, "died while it drained");
        failed(&NodeRow { epoch: 8, ..row(NodeState::Expired) }, 2_000, "died while it drained");
        failed(&NodeRow { epoch: 9, ..row(NodeState::Ready) }, 2_000, "ask it again");
        let again = NodeRow { epoch: 8, holder: "here pid 2".to_owned(), ..row(NodeState::Starting) };
        assert!(matches!(course(&again, 2_000), Course::Done(said) if said.contains("runs again")));
        assert!(matches!(judge(&again, None, 0), Course::Failed(_)));
    }
}
