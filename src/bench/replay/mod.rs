//! Plays a chat log against a cluster: a user per speaker, all in one group, each on its own connection, open loop,
//! with a ledger that checks that everybody received everything exactly once and in order.

mod crew;
mod report;
mod script;
mod watcher;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

pub use report::{Latency, Report};
pub use script::{Pace, Script};

use self::crew::Crew;
use self::watcher::Watch;
use crate::client::{ChatClient, ClientError, to_conversation};
use crate::model::ConversationId;
use crate::protocol::Password;

/// How often progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long the last look at each session may take.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// The time between the last preparation and the first message.
const LEAD: Duration = Duration::from_millis(100);

/// How a log is played.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Addresses of a balancer or of nodes; with several, the users are spread over them in turn.
    pub servers: Vec<String>,
    /// The password of every user, the same in each run, so that a second run logs in again.
    pub password: Password,
    /// The name of the group that everybody joins; each run makes its own.
    pub group: String,
    /// The run ends after this long without progress while something is missing.
    pub patience: Duration,
    /// How many users log in at the same time.
    pub logins_at_once: usize,
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Users register and log in.
    LoggingIn,
    /// Users join the group.
    Joining,
    /// The log is played.
    Playing,
}

/// How far a run has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is going on.
    pub stage: Stage,
    /// How much of it is done: users, or messages that have been acknowledged.
    pub done: u64,
    /// How much there is.
    pub of: u64,
    /// Deliveries so far.
    pub deliveries: u64,
}

/// Why a log could not be played.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Nobody says anything in it.
    #[error("nobody says anything in this log; its lines should look like `[09:03] <nick> text`")]
    Empty,
    /// A user could not log in.
    #[error("`{name}` cannot log in")]
    Login {
        /// Who.
        name: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// A user's name is somebody else's.
    #[error("`{name}` is registered with another password; pass the one of the earlier replay as --password")]
    NameTaken {
        /// Who.
        name: String,
    },
    /// The group could not be made or joined.
    #[error("`{name}` cannot enter the group")]
    Group {
        /// Who.
        name: String,
        /// Why.
        #[source]
        source: ClientError,
    },
}

/// Plays a script and reports what became of every message. An error means that not everybody could get into the group
/// and nothing was played; everything else is in the report.
pub async fn replay(script: Script, plan: &Plan, progress: &watch::Sender<Progress>) -> Result<Report, ReplayError> {
    if script.lines.is_empty() {
        return Err(ReplayError::Empty);
    }
    let script = Arc::new(script);
    let watch = Arc::new(Watch::new(script.clone()));
    let crew = Crew::assemble(&script, plan, &watch, progress).await?;
    let start = watch.start(LEAD);
    let mut senders = JoinSet::new();
    for (user, client) in crew.clients.iter().enumerate() {
        senders.spawn(speak(user, client.clone(), crew.group, script.clone(), watch.clone(), start));
    }
    wait(&watch, plan.patience, start, progress).await;
    let elapsed = start.elapsed();
    senders.abort_all();
    // What was queued before these answers has been received with them: a duplicate that came late counts too.
    let last_look = join_all(crew.clients.iter().map(|client| client.history(crew.group, None, Some(1))));
    let settled = timeout(LAST_LOOK, last_look).await.is_ok_and(|pages| pages.iter().all(Result::is_ok));
    if !settled {
        tracing::debug!("not every session answered at the end");
    }
    let report = watch.report(elapsed);
    join_all(crew.clients.iter().map(ChatClient::close)).await;
    Ok(report)
}

/// Says one user's lines at their times, whatever became of the earlier ones.
async fn speak(
    user: usize,
    client: ChatClient,
    group: ConversationId,
    script: Arc<Script>,
    watch: Arc<Watch>,
    start: Instant,
) {
    for (place, line) in script.lines.iter().enumerate().filter(|(_, line)| line.user == user) {
        sleep_until(start + line.at).await;
        watch.attempted();
        // The observer hears of the outcome.
        if client.send_keyed(watch.key(place), to_conversation(group), line.text.clone()).await.is_err() {
            watch.lost_sender();
            return;
        }
    }
}

/// Waits until everything has arrived, or until nothing has for too long.
async fn wait(watch: &Watch, patience: Duration, start: Instant, progress: &watch::Sender<Progress>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    let mut last = (watch.counts(), Instant::now());
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let counts = watch.counts();
        progress.send_replace(Progress {
            stage: Stage::Playing,
            done: counts.acknowledged,
            of: watch.messages(),
            deliveries: counts.delivered,
        });
        if watch.is_complete(&counts) {
            return;
        }
        let idle = watch.is_waiting_for_the_log(&counts, now.saturating_duration_since(start));
        if counts != last.0 || idle {
            last = (counts, now);
        } else if now - last.1 > patience {
            return;
        }
    }
}

impl Report {
    /// Tells whether every message was acknowledged and reached everybody exactly once and in order.
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.verdict.attempted == self.messages as u64
    }
}

#[cfg(test)]
mod tests;
