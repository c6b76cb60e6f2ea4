//! One task that commits: takes what senders want to say in batches, gives it to the log, answers, and passes it on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::local::LocalSession;
use super::router::Routed;
use super::timeline::Entry;
use super::timelines::Fed;
use crate::model::store::{Append, Outcome, StoreError, StoreErrorKind};
use crate::model::{ConversationId, Key, Message, MessageKind, Millis, Name, Seq, UserId};
use crate::protocol::{RequestId, SendTarget, ServerFrame};
use crate::server::core::Core;
use crate::server::service::ServiceError;
use crate::telemetry;

/// Posts that wait for the appender. When it is full, sessions stop reading their sockets.
const QUEUE: usize = 2048;

/// The most entries in one transaction.
const BATCH: usize = 512;

/// Above this many messages in the last batches per second, commits are spaced, so that each carries more.
const BUSY_RATE: f64 = 4_000.0;
const SPACING: Duration = Duration::from_micros(1_500);

/// How long a batch is tried again while the log is away before its senders are told.
const PATIENCE: Duration = Duration::from_secs(3);

/// Pairs of users whose direct conversation is remembered.
const MAX_PAIRS: usize = 100_000;

/// Something a sender wants in the log.
#[derive(Debug)]
pub(crate) struct Post {
    /// Who.
    pub(crate) sender: UserId,
    /// Their name.
    pub(crate) name: Name,
    /// Unique per sender for ever.
    pub(crate) key: Key,
    /// Where to.
    pub(crate) target: SendTarget,
    /// Text, join or leave.
    pub(crate) kind: MessageKind,
    /// The text.
    pub(crate) body: String,
    /// Who is told.
    pub(crate) answer: Answer,
}

/// Who is told what became of a post.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The session that sent it, with `sent` or `error`.
    Session(Arc<LocalSession>, Option<RequestId>),
    /// A use case that goes on from there.
    Caller(oneshot::Sender<Result<Posted, ServiceError>>),
}

/// Where a post stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Posted {
    /// The conversation.
    pub(crate) conversation: ConversationId,
    /// Its position; 0 for a join that was none.
    pub(crate) seq: Seq,
    /// When.
    pub(crate) at: Millis,
}

/// The way to the appender.
#[derive(Debug)]
pub(crate) struct Appender {
    queue: mpsc::Sender<Post>,
}

impl Appender {
    /// Makes the queue.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Post>) {
        let (queue, posts) = mpsc::channel(QUEUE);
        (Self { queue }, posts)
    }

    /// Queues a post at once, or gives it back when the queue is full or the node stops.
    pub(crate) fn try_post(&self, post: Post) -> Result<(), Post> {
        self.queue.try_send(post).map_err(|error| match error {
            TrySendError::Full(post) | TrySendError::Closed(post) => post,
        })
    }

    /// Queues a post, waiting for room. Fails when the node stops.
    pub(crate) async fn post(&self, post: Post) -> Result<(), Post> {
        self.queue.send(post).await.map_err(|error| error.0)
    }
}

impl Post {
    /// Answers a post that will not be tried.
    pub(crate) fn refuse(self, error: ServiceError) {
        self.answer.refuse(self.key, error);
    }
}

impl Answer {
    fn refuse(self, key: Key, error: ServiceError) {
        match self {
            Self::Session(session, id) => {
                session.outbox.keep_promise(&error.into_frame(id, Some(key)));
            }
            Self::Caller(caller) => drop(caller.send(Err(error))),
        }
    }

    fn accept(self, key: Key, posted: Posted) {
        match self {
            Self::Session(session, id) => {
                let Posted { conversation, seq, at } = posted;
                session.outbox.keep_promise(&ServerFrame::Sent { id, key, conversation, seq, at });
            }
            Self::Caller(caller) => drop(caller.send(Ok(posted))),
        }
    }
}

/// Runs the appender until the node stops and the queue is empty.
pub(crate) async fn run(core: Arc<Core>, mut posts: mpsc::Receiver<Post>, stop: CancellationToken) {
    let mut appending = Appending { core, pairs: HashMap::new(), pace: Pace::default() };
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        appending.pace.wait().await;
        tokio::select! {
            biased;
            count = posts.recv_many(&mut batch, BATCH) => if count == 0 { return },
            () = stop.cancelled(), if !posts.is_closed() => {
                posts.close();
                continue;
            }
        }
        let count = batch.len();
        appending.append(std::mem::take(&mut batch)).await;
        appending.pace.committed(count);
        gauge!(telemetry::APPEND_QUEUE).set(posts.len() as f64);
        batch.reserve(BATCH);
    }
}

struct Appending {
    core: Arc<Core>,
    pairs: HashMap<(UserId, UserId), ConversationId>,
    pace: Pace,
}

impl Appending {
    async fn append(&mut self, posts: Vec<Post>) {
        if let Err(error) = self.resolve(&posts).await {
            let error = ServiceError::from(error);
            posts.into_iter().for_each(|post| post.answer.refuse(post.key, error.clone()));
            return;
        }
        let mut entries = Vec::with_capacity(posts.len());
        let mut kept = Vec::with_capacity(posts.len());
        for mut post in posts {
            match self.conversation_of(&post) {
                Ok(conversation) => {
                    let (sender, key, kind) = (post.sender, post.key.clone(), post.kind);
                    let (body, friends_only) = (std::mem::take(&mut post.body), self.core.friends_only);
                    entries.push(Append { conversation, sender, key, kind, body, friends_only });
                    kept.push(post);
                }
                Err(error) => post.answer.refuse(post.key, error),
            }
        }
        if entries.is_empty() {
            return;
        }
        let gate = self.core.commits.commit().await;
        let outcomes = match commit(&self.core, &entries).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                drop(gate);
                let error = ServiceError::from(error);
                kept.into_iter().for_each(|post| post.answer.refuse(post.key, error.clone()));
                return;
            }
        };
        let mut routed = Vec::with_capacity(entries.len());
        for ((post, entry), outcome) in kept.into_iter().zip(entries).zip(outcomes) {
            routed.extend(pass_on(&self.core, post, entry, outcome));
        }
        drop(gate);
        self.core.router.route(&self.core, routed);
    }

    /// Looks up or creates the direct conversations of the batch, in a transaction of its own.
    async fn resolve(&mut self, posts: &[Post]) -> Result<(), StoreError> {
        if self.pairs.len() > MAX_PAIRS {
            self.pairs.clear();
        }
        let mut unknown: Vec<(UserId, UserId)> = posts
            .iter()
            .filter_map(|post| match post.target {
                SendTarget::User { to } => Some(pair(post.sender, to)),
                SendTarget::Conversation { .. } => None,
            })
            .filter(|pair| !self.pairs.contains_key(pair))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        unknown.sort_unstable();
        unknown.dedup();
        let deadline = Instant::now() + PATIENCE;
        let found = loop {
            match self.core.store.direct(&unknown).await {
                Err(error) if error.is_retryable() && Instant::now() < deadline => sleep(jitter()).await,
                result => break result?,
            }
        };
        let found = unknown.into_iter().zip(found).filter_map(|(pair, conversation)| Some((pair, conversation?)));
        self.pairs.extend(found);
        Ok(())
    }

    fn conversation_of(&self, post: &Post) -> Result<ConversationId, ServiceError> {
        match post.target {
            SendTarget::Conversation { conversation } => Ok(conversation),
            SendTarget::User { to } => {
                let conversation = self.pairs.get(&pair(post.sender, to)).copied();
                conversation.ok_or_else(|| ServiceError::not_found(format!("there is no user {to}")))
            }
        }
    }
}

/// Commits a batch, trying again while the log is away: its keys make that safe even when the outcome is unknown.
async fn commit(core: &Core, entries: &[Append]) -> Result<Vec<Outcome>, StoreError> {
    let started = Instant::now();
    let since = core.lease.database_now();
    let mut unknown = false;
    loop {
        match core.store.append(entries).await {
            Ok(outcomes) => {
                histogram!(telemetry::APPEND_BATCH).record(entries.len() as f64);
                histogram!(telemetry::APPEND_SECONDS).record(started.elapsed().as_secs_f64());
                counter!(telemetry::MESSAGES_APPENDED).increment(entries.len() as u64);
                return Ok(outcomes);
            }
            Err(error) if error.is_retryable() && started.elapsed() < PATIENCE => {
                unknown |= error.kind() == StoreErrorKind::OutcomeUnknown;
                tracing::warn!(%error, entries = entries.len(), "the log did not take a batch, trying again");
                sleep(jitter()).await;
            }
            Err(error) => {
                unknown |= error.kind() == StoreErrorKind::OutcomeUnknown;
                if unknown {
                    // It may be stored, and then nobody was told of it.
                    core.router.failed(core, since, "it is not known whether a batch was stored");
                }
                tracing::error!(%error, unknown, entries = entries.len(), "the log did not take a batch");
                return Err(error);
            }
        }
    }
}

/// Answers one post and gives what was stored to the timeline. Returns what other nodes are to get.
fn pass_on(core: &Core, post: Post, entry: Append, outcome: Outcome) -> Option<Routed> {
    let Append { conversation, sender, key, kind, body, .. } = entry;
    let (seq, at) = match outcome {
        // A resend is routed again: the first time may have ended between the commit and the bus.
        Outcome::Stored { seq, at } | Outcome::Repeat { seq, at } => (seq, at),
        Outcome::AlreadyMember => {
            post.answer.accept(key, Posted { conversation, seq: 0, at: 0 });
            return None;
        }
        refused => {
            post.answer.refuse(key, ServiceError::refused(refused));
            return None;
        }
    };
    let message = Message { conversation, seq, from: sender, name: post.name, key: key.clone(), kind, body, at };
    let entry = Entry::encode(message);
    let own = match &post.answer {
        Answer::Session(session, _) => Some(session),
        Answer::Caller(_) => None,
    };
    let other = match post.target {
        SendTarget::User { to } => Some(to),
        SendTarget::Conversation { .. } => None,
    };
    match core.timelines.feed(conversation, entry.clone(), own) {
        Fed::Unknown => core.repairs.adopt_users(conversation, other.into_iter().chain([sender])),
        Fed::Taken { joined, parked, stranger } => {
            // Whoever logged in just now has made the timeline of a conversation that is new to the others.
            let born = other.filter(|_| seq == 1);
            let missing = joined.into_iter().chain(stranger.then_some(sender)).chain(born);
            core.repairs.adopt_users(conversation, missing);
            if parked {
                core.repairs.holes();
            }
        }
    }
    post.answer.accept(key, Posted { conversation, seq, at });
    Some(Routed { conversation, entry })
}

fn pair(one: UserId, other: UserId) -> (UserId, UserId) {
    (one.min(other), one.max(other))
}

fn jitter() -> Duration {
    Duration::from_millis(rand::random_range(20..100))
}

/// Spaces commits out under load, so that they carry more; at a low rate it commits at once.
#[derive(Debug)]
struct Pace {
    last: Instant,
    /// Messages per second, an exponential average over some batches.
    rate: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { last: Instant::now(), rate: 0.0 }
    }
}

impl Pace {
    async fn wait(&self) {
        if self.rate > BUSY_RATE {
            sleep_until(self.last + SPACING).await;
        }
    }

    fn committed(&mut self, count: usize) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64().max(1e-6);
        let weight = (seconds * 10.0).min(1.0);
        self.rate += (count as f64 / seconds - self.rate) * weight;
        self.last = now;
    }
}
