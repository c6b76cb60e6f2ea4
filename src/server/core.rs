//! What the parts of a node share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::cluster::{Announcer, Farewell, Health, Lease, PresenceBook};
use super::config::LimitsConfig;
use super::flow::{
    Address, Appender, CommitGate, Locals, Origin, Repairs, Router, SessionNumber, Subscriptions, Timelines,
};
use super::service::{Cursors, LogReader, Passwords, Tokens};
use crate::bus::{MessageBus, Subject};
use crate::model::NodeId;
use crate::model::store::Store;
use crate::protocol::CloseReason;

/// One node, without its sockets. Every task of the node holds it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) node: NodeId,
    pub(crate) cluster_id: String,
    /// The segments before the node's part of a subject.
    pub(crate) subject_prefix: String,
    pub(crate) limits: LimitsConfig,
    /// Only friends may write to each other.
    pub(crate) friends_only: bool,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn MessageBus>,
    pub(crate) lease: Lease,
    pub(crate) presence: PresenceBook,
    pub(crate) announcer: Announcer,
    pub(crate) health: Health,
    pub(crate) locals: Locals,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) timelines: Timelines,
    pub(crate) commits: CommitGate,
    pub(crate) repairs: Repairs,
    pub(crate) appender: Appender,
    pub(crate) router: Router,
    pub(crate) cursors: Cursors,
    pub(crate) reader: LogReader,
    pub(crate) passwords: Passwords,
    pub(crate) tokens: Tokens,
    pub(crate) sessions: AtomicU64,
    /// What sessions are told, once the node lets go of them.
    pub(crate) farewell: OnceLock<Farewell>,
}

impl Core {
    /// Returns the subject on which a node hears the others.
    pub(crate) fn inbox_of(&self, node: &NodeId) -> Subject {
        Subject::new(&format!("{}.n.{node}", self.subject_prefix)).expect("checked when the node was built")
    }

    /// Returns the subject of an address.
    pub(crate) fn subject_of(&self, address: Address) -> Subject {
        let text = match address {
            Address::Inbox => return self.inbox_of(&self.node),
            Address::User(user) => format!("{}.u.{user}", self.subject_prefix),
            Address::Group(group) => format!("{}.g.{group}", self.subject_prefix),
        };
        Subject::new(&text).expect("the prefix was checked when the node was built, and ids are short")
    }

    /// Returns what a packet of this moment says of its origin.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            cluster: self.cluster_id.clone(),
            node: self.node.clone(),
            epoch: self.lease.epoch(),
            sent_at: unix_now(),
            trace: rand::random(),
        }
    }

    /// Returns what a session is told that the node lets go of.
    pub(crate) fn farewell(&self) -> Farewell {
        *self.farewell.get_or_init(|| Farewell::new(CloseReason::Shutdown, self.locals.count()))
    }

    /// Returns a number that no session of this node has had.
    pub(crate) fn next_session(&self) -> SessionNumber {
        self.sessions.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Returns this machine's clock.
pub(crate) fn unix_now() -> crate::model::Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |duration| duration.as_millis() as crate::model::Millis)
}
