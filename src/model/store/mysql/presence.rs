use std::collections::{BTreeMap, BTreeSet};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::MySqlConnection;

use super::MysqlStore;
use super::decode::{broken, conversation, conversation_kind, json, node, text, user, user_id};
use super::heads::ids;
use super::remote::Failure;
use crate::model::store::{NAMED_RECIPIENTS, Presence, PresenceChange, StoreError};
use crate::model::{ConversationId, NodeId, UserId};

/// The list of users is cut off where it gets long, and then it is not wanted.
const WHERE_MEMBERS_ARE: &str = concat!(
    "SELECT c.id, c.kind, p.node, CASE WHEN count(*) <= ?
            THEN GROUP_CONCAT(m.user_id ORDER BY m.user_id SEPARATOR ',') ELSE '' END FROM ",
    ids!(),
    " STRAIGHT_JOIN conversations AS c ON c.id = e.id
        STRAIGHT_JOIN members AS m ON m.conversation = c.id
        STRAIGHT_JOIN presence AS p ON p.user_id = m.user_id
        WHERE p.node <> ? GROUP BY c.id, c.kind, p.node"
);

/// Nobody can take the epoch from the node meanwhile.
const HOLD: &str = "
    SELECT 1 FROM nodes WHERE node = ? AND epoch = ? AND state NOT IN ('stopped', 'expired') LOCK IN SHARE MODE";

const COME: &str = concat!(
    "INSERT INTO presence (user_id, node, epoch) SELECT e.id, ?, ? FROM ",
    ids!(),
    " ON DUPLICATE KEY UPDATE epoch = VALUES(epoch)"
);

const GO: &str = concat!("DELETE p FROM ", ids!(), " STRAIGHT_JOIN presence AS p ON p.user_id = e.id AND p.node = ?");

const ONLINE: &str = concat!(
    "SELECT DISTINCT p.user_id FROM ",
    ids!(),
    " STRAIGHT_JOIN presence AS p ON p.user_id = e.id ORDER BY p.user_id"
);

const WHEREABOUTS: &str = concat!(
    "SELECT p.user_id, p.node FROM ",
    ids!(),
    " STRAIGHT_JOIN presence AS p ON p.user_id = e.id ORDER BY p.user_id, p.node"
);

/// The node, its epoch, who is there, and who is not.
type Change = (NodeId, i64, Vec<i64>, Vec<i64>);

impl MysqlStore {
    pub(super) async fn find_nodes_of_members(
        &self,
        conversations: &[ConversationId],
        except: &NodeId,
    ) -> Result<Vec<Presence>, StoreError> {
        let ids = json(&conversations.iter().collect::<BTreeSet<_>>());
        let ask = async |c: &mut MySqlConnection| {
            let ask = sqlx::query(WHERE_MEMBERS_ARE).bind(NAMED_RECIPIENTS as i64).bind(&ids).bind(except.as_str());
            ask.fetch_all(c).await
        };
        let rows = self.pool.read("reading presence", ask).await?;
        let rows = rows.iter().map(|row| {
            let list = text(row, 3)?;
            let users = list
                .split(',')
                .filter(|id| !id.is_empty())
                .map(|id| user_id(id.parse().map_err(|error| broken("an invalid list of users").caused_by(error))?));
            Ok(Presence {
                conversation: conversation(row, 0)?,
                kind: conversation_kind(row, 1)?,
                node: node(row, 2)?,
                users: users.collect::<Result<_, StoreError>>()?,
            })
        });
        rows.collect()
    }

    pub(super) async fn change_presence(
        &self,
        node: &NodeId,
        epoch: u64,
        changes: &[PresenceChange],
    ) -> Result<bool, StoreError> {
        let last: BTreeMap<UserId, bool> = changes.iter().map(|change| (change.user, change.here)).collect();
        let having = |here| last.iter().filter(move |(_, is)| **is == here).map(|(user, _)| user.get().cast_signed());
        let change = (node.clone(), epoch.cast_signed(), having(true).collect(), having(false).collect());
        self.pool.transaction("changing presence", change, write).await
    }

    pub(super) async fn find_online(&self, users: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        let ids = json(&users.iter().collect::<BTreeSet<_>>());
        let read = self.pool.read("reading presence", async |c| sqlx::query(ONLINE).bind(&ids).fetch_all(c).await);
        read.await?.iter().map(|row| user(row, 0)).collect()
    }

    pub(super) async fn find_nodes_of_users(&self, users: &[UserId]) -> Result<Vec<(UserId, NodeId)>, StoreError> {
        let ids = json(&users.iter().collect::<BTreeSet<_>>());
        let read = self.pool.read("reading presence", async |c| sqlx::query(WHEREABOUTS).bind(&ids).fetch_all(c).await);
        read.await?.iter().map(|row| Ok((user(row, 0)?, node(row, 1)?))).collect()
    }
}

fn write<'c>(
    connection: &'c mut MySqlConnection,
    (node, epoch, here, gone): &'c Change,
) -> BoxFuture<'c, Result<bool, Failure>> {
    async move {
        if sqlx::query(HOLD).bind(node.as_str()).bind(epoch).fetch_optional(&mut *connection).await?.is_none() {
            return Ok(false);
        }
        if !here.is_empty() {
            let come = sqlx::query(COME).bind(node.as_str()).bind(epoch).bind(json(here));
            come.execute(&mut *connection).await?;
        }
        if !gone.is_empty() {
            sqlx::query(GO).bind(json(gone)).bind(node.as_str()).execute(connection).await?;
        }
        Ok(true)
    }
    .boxed()
}
