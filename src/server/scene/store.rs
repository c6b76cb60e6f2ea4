use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::timeout;

use super::PATIENCE;
use crate::model::store::{
    Append, Beat, Beaten, Changes, Claim, Claimed, CursorMoved, CursorUpdate, Friend, Friendship, Head, History,
    Member, Meta, NodeRow, Outcome, Page, Presence, PresenceChange, Range, Store, StoreError, StoreErrorKind, User,
    UserChange,
};
use crate::model::{ConversationId, Group, Membership, Message, Millis, Name, NodeId, UserId};

/// What a node asks of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Direct,
    Append,
    Presence,
    Heads,
    Messages,
    ConversationsOf,
    Memberships,
    MembershipsIn,
    Cursors,
    Changes,
    PresenceChange,
    NodeBeat,
    Nodes,
    Other,
}

/// A node's own way to a log that it shares with other nodes: a call can be held before or after it has happened, fail,
/// or happen and lose its answer.
#[derive(Debug)]
pub(crate) struct ScriptedStore {
    log: Arc<dyn Store>,
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    next: HashMap<Call, VecDeque<Plan>>,
    away: HashSet<Call>,
    calls: HashMap<Call, usize>,
    changes_since: Option<Millis>,
}

#[derive(Debug)]
enum Plan {
    HoldBefore(Arc<Gate>),
    HoldAfter(Arc<Gate>),
    LoseAnswer,
    Fail(StoreErrorKind),
}

#[derive(Debug, Default)]
struct Gate {
    reached: watch::Sender<bool>,
    open: watch::Sender<bool>,
}

impl Gate {
    async fn pass(&self) {
        self.reached.send_replace(true);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

/// A call that is held. Dropping it lets the call go on.
#[derive(Debug)]
pub(crate) struct Held(Arc<Gate>);

impl Held {
    /// Waits until the call is there.
    pub(crate) async fn reached(&self) {
        let mut reached = self.0.reached.subscribe();
        let reached = timeout(PATIENCE, reached.wait_for(|reached| *reached)).await.map(|reached| reached.is_ok());
        assert_eq!(reached, Ok(true), "nobody makes the call that is held");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.open.send_replace(true);
    }
}

impl ScriptedStore {
    pub(crate) fn new(log: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { log, script: Mutex::default() })
    }

    /// Holds the next such call before it reaches the log.
    pub(crate) fn hold_before(&self, call: Call) -> Held {
        let gate = Arc::new(Gate::default());
        self.plan(call, Plan::HoldBefore(Arc::clone(&gate)));
        Held(gate)
    }

    /// Holds the answer to the next such call.
    pub(crate) fn hold_after(&self, call: Call) -> Held {
        let gate = Arc::new(Gate::default());
        self.plan(call, Plan::HoldAfter(Arc::clone(&gate)));
        Held(gate)
    }

    /// Lets the next such call happen and answers that nobody knows.
    pub(crate) fn lose_answer(&self, call: Call) {
        self.plan(call, Plan::LoseAnswer);
    }

    /// Fails the next such call.
    pub(crate) fn fail(&self, call: Call, kind: StoreErrorKind) {
        self.plan(call, Plan::Fail(kind));
    }

    /// Fails every such call as unavailable from now on, or lets them through again.
    pub(crate) fn away(&self, call: Call, away: bool) {
        let script = &mut self.script.lock().unwrap();
        if away {
            script.away.insert(call);
        } else {
            script.away.remove(&call);
        }
    }

    /// Counts such calls.
    pub(crate) fn calls(&self, call: Call) -> usize {
        self.script.lock().unwrap().calls.get(&call).copied().unwrap_or_default()
    }

    /// Returns since when it was last asked for changes.
    pub(crate) fn changes_since(&self) -> Option<Millis> {
        self.script.lock().unwrap().changes_since
    }

    fn plan(&self, call: Call, plan: Plan) {
        self.script.lock().unwrap().next.entry(call).or_default().push_back(plan);
    }

    async fn run<T>(&self, call: Call, run: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let (plan, away) = {
            let mut script = self.script.lock().unwrap();
            *script.calls.entry(call).or_default() += 1;
            (script.next.get_mut(&call).and_then(VecDeque::pop_front), script.away.contains(&call))
        };
        if away {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "the script says so"));
        }
        match plan {
            None => run.await,
            Some(Plan::HoldBefore(gate)) => {
                gate.pass().await;
                run.await
            }
            Some(Plan::HoldAfter(gate)) => {
                let result = run.await;
                gate.pass().await;
                result
            }
            Some(Plan::LoseAnswer) => {
                run.await?;
                Err(StoreError::new(StoreErrorKind::OutcomeUnknown, "the script says so"))
            }
            Some(Plan::Fail(kind)) => Err(StoreError::new(kind, "the script says so")),
        }
    }
}

#[async_trait]
impl Store for ScriptedStore {
    fn meta(&self) -> &Meta {
        self.log.meta()
    }

    async fn now(&self) -> Result<Millis, StoreError> {
        self.run(Call::Other, self.log.now()).await
    }

    async fn user_create(&self, name: &Name, password_hash: &str) -> Result<UserId, StoreError> {
        self.run(Call::Other, self.log.user_create(name, password_hash)).await
    }

    async fn user_by_name(&self, name: &Name) -> Result<Option<User>, StoreError> {
        self.run(Call::Other, self.log.user_by_name(name)).await
    }

    async fn users(&self, users: &[UserId]) -> Result<Vec<User>, StoreError> {
        self.run(Call::Other, self.log.users(users)).await
    }

    async fn user_list(&self, after: Option<&Name>, limit: usize) -> Result<Vec<User>, StoreError> {
        self.run(Call::Other, self.log.user_list(after, limit)).await
    }

    async fn user_change(&self, user: UserId, change: &UserChange) -> Result<bool, StoreError> {
        self.run(Call::Other, self.log.user_change(user, change)).await
    }

    async fn friend_add(&self, user: UserId, friend: UserId) -> Result<Friendship, StoreError> {
        self.run(Call::Other, self.log.friend_add(user, friend)).await
    }

    async fn friend_accept(&self, user: UserId, friend: UserId) -> Result<bool, StoreError> {
        self.run(Call::Other, self.log.friend_accept(user, friend)).await
    }

    async fn friend_remove(&self, user: UserId, friend: UserId) -> Result<bool, StoreError> {
        self.run(Call::Other, self.log.friend_remove(user, friend)).await
    }

    async fn friends(&self, users: &[UserId]) -> Result<Vec<Friend>, StoreError> {
        self.run(Call::Other, self.log.friends(users)).await
    }

    async fn block(&self, user: UserId, other: UserId, blocked: bool) -> Result<(), StoreError> {
        self.run(Call::Other, self.log.block(user, other, blocked)).await
    }

    async fn group_find(&self, prefix: &str, limit: usize) -> Result<Vec<Group>, StoreError> {
        self.run(Call::Other, self.log.group_find(prefix, limit)).await
    }

    async fn group_members(
        &self,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Member>, StoreError> {
        self.run(Call::Other, self.log.group_members(conversation, after, limit)).await
    }

    async fn direct(&self, pairs: &[(UserId, UserId)]) -> Result<Vec<Option<ConversationId>>, StoreError> {
        self.run(Call::Direct, self.log.direct(pairs)).await
    }

    async fn group_create(&self, owner: UserId, name: &str, description: &str) -> Result<Group, StoreError> {
        self.run(Call::Other, self.log.group_create(owner, name, description)).await
    }

    async fn group(&self, conversation: ConversationId) -> Result<Option<Group>, StoreError> {
        self.run(Call::Other, self.log.group(conversation)).await
    }

    async fn append(&self, entries: &[Append]) -> Result<Vec<Outcome>, StoreError> {
        self.run(Call::Append, self.log.append(entries)).await
    }

    async fn presence(&self, conversations: &[ConversationId], except: &NodeId) -> Result<Vec<Presence>, StoreError> {
        self.run(Call::Presence, self.log.presence(conversations, except)).await
    }

    async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Head>, StoreError> {
        self.run(Call::Heads, self.log.heads(conversations)).await
    }

    async fn messages(&self, ranges: &[Range], limit: usize) -> Result<Vec<Message>, StoreError> {
        self.run(Call::Messages, self.log.messages(ranges, limit)).await
    }

    async fn history(
        &self,
        user: UserId,
        conversation: ConversationId,
        page: Page,
        limit: usize,
    ) -> Result<Option<History>, StoreError> {
        self.run(Call::Other, self.log.history(user, conversation, page, limit)).await
    }

    async fn conversations_of(&self, users: &[UserId]) -> Result<Vec<(UserId, Head)>, StoreError> {
        self.run(Call::ConversationsOf, self.log.conversations_of(users)).await
    }

    async fn memberships(
        &self,
        users: &[UserId],
        before: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<Membership>, StoreError> {
        self.run(Call::Memberships, self.log.memberships(users, before, limit)).await
    }

    async fn memberships_in(
        &self,
        conversations: &[ConversationId],
        users: &[UserId],
    ) -> Result<Vec<Membership>, StoreError> {
        self.run(Call::MembershipsIn, self.log.memberships_in(conversations, users)).await
    }

    async fn cursors(&self, updates: &[CursorUpdate]) -> Result<Vec<CursorMoved>, StoreError> {
        self.run(Call::Cursors, self.log.cursors(updates)).await
    }

    async fn changes(&self, since: Millis) -> Result<Changes, StoreError> {
        self.script.lock().unwrap().changes_since = Some(since);
        self.run(Call::Changes, self.log.changes(since)).await
    }

    async fn presence_change(&self, node: &NodeId, epoch: u64, changes: &[PresenceChange]) -> Result<bool, StoreError> {
        self.run(Call::PresenceChange, self.log.presence_change(node, epoch, changes)).await
    }

    async fn online(&self, users: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        self.run(Call::Other, self.log.online(users)).await
    }

    async fn whereabouts(&self, users: &[UserId]) -> Result<Vec<(UserId, NodeId)>, StoreError> {
        self.run(Call::Other, self.log.whereabouts(users)).await
    }

    async fn prune(&self, before: Millis, limit: usize) -> Result<u64, StoreError> {
        self.run(Call::Other, self.log.prune(before, limit)).await
    }

    async fn node_claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        self.run(Call::Other, self.log.node_claim(claim)).await
    }

    async fn node_beat(&self, beat: &Beat) -> Result<Beaten, StoreError> {
        self.run(Call::NodeBeat, self.log.node_beat(beat)).await
    }

    async fn nodes(&self) -> Result<(Millis, Vec<NodeRow>), StoreError> {
        self.run(Call::Nodes, self.log.nodes()).await
    }

    async fn node_drain(&self, node: &NodeId, epoch: u64) -> Result<bool, StoreError> {
        self.run(Call::Other, self.log.node_drain(node, epoch)).await
    }

    async fn node_expire(&self, node: &NodeId, epoch: u64) -> Result<Option<Vec<UserId>>, StoreError> {
        self.run(Call::Other, self.log.node_expire(node, epoch)).await
    }

    async fn node_release(&self, node: &NodeId, epoch: u64) -> Result<(), StoreError> {
        self.run(Call::Other, self.log.node_release(node, epoch)).await
    }

    async fn close(&self) {
        self.log.close().await;
    }
}
