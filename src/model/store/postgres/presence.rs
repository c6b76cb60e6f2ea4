use std::collections::BTreeMap;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::{PgConnection, Row};

use super::PostgresStore;
use super::columns;
use super::decode::{broken, conversation, conversation_kind, node, user, user_id};
use super::remote::Failure;
use crate::model::store::{NAMED_RECIPIENTS, Presence, PresenceChange, StoreError};
use crate::model::{ConversationId, NodeId, UserId};

const WHERE_MEMBERS_ARE: &str = "
    SELECT c.id, c.kind, p.node, CASE WHEN count(*) <= $3 THEN array_agg(m.user_id ORDER BY m.user_id) ELSE '{}' END
        FROM UNNEST($1::bigint[]) AS e (id) JOIN conversations AS c ON c.id = e.id
            JOIN members AS m ON m.conversation = c.id JOIN presence AS p ON p.user_id = m.user_id
        WHERE p.node <> $2 GROUP BY c.id, p.node";

/// Changes nothing unless the node `$1` holds the epoch `$2`, which nobody can take from it meanwhile.
const CHANGE: &str = "
    WITH held AS MATERIALIZED (
        SELECT node, epoch FROM nodes
            WHERE node = $1 AND epoch = $2 AND state NOT IN ('stopped', 'expired') FOR SHARE
    ), gone AS (
        DELETE FROM presence AS p USING held WHERE p.node = held.node AND p.user_id = ANY($4)
    ), here AS (
        INSERT INTO presence (user_id, node, epoch)
            SELECT e.user_id, held.node, held.epoch FROM held CROSS JOIN UNNEST($3::bigint[]) AS e (user_id)
            ON CONFLICT (user_id, node) DO UPDATE SET epoch = excluded.epoch
    )
    SELECT count(*) FROM held";

const ONLINE: &str = "SELECT DISTINCT user_id FROM presence WHERE user_id = ANY($1) ORDER BY user_id";

const WHEREABOUTS: &str = "
    SELECT user_id, node FROM presence WHERE user_id = ANY($1) ORDER BY user_id, node COLLATE \"C\"";

/// The node, its epoch, who is there, and who is not.
type Change = (NodeId, i64, Vec<i64>, Vec<i64>);

impl PostgresStore {
    pub(super) async fn find_nodes_of_members(
        &self,
        conversations: &[ConversationId],
        except: &NodeId,
    ) -> Result<Vec<Presence>, StoreError> {
        let mut ids = columns::conversations(conversations);
        ids.sort_unstable();
        ids.dedup();
        let ask = async |c: &mut PgConnection| {
            let ask = sqlx::query(WHERE_MEMBERS_ARE).bind(&ids).bind(except.as_str()).bind(NAMED_RECIPIENTS as i64);
            ask.fetch_all(c).await
        };
        let rows = self.pool.read("reading presence", ask).await?;
        let rows = rows.iter().map(|row| {
            let users: Vec<i64> =
                row.try_get(3).map_err(|error| broken("an invalid list of users").caused_by(error))?;
            Ok(Presence {
                conversation: conversation(row, 0)?,
                kind: conversation_kind(row, 1)?,
                node: node(row, 2)?,
                users: users.into_iter().map(user_id).collect::<Result<_, _>>()?,
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
        self.pool.write("changing presence", change, write).await
    }

    pub(super) async fn find_online(&self, users: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        let ids = columns::users(users);
        let read = self.pool.read("reading presence", async |c| sqlx::query(ONLINE).bind(&ids).fetch_all(c).await);
        read.await?.iter().map(|row| user(row, 0)).collect()
    }

    pub(super) async fn find_nodes_of_users(&self, users: &[UserId]) -> Result<Vec<(UserId, NodeId)>, StoreError> {
        let ids = columns::users(users);
        let read = self.pool.read("reading presence", async |c| sqlx::query(WHEREABOUTS).bind(&ids).fetch_all(c).await);
        read.await?.iter().map(|row| Ok((user(row, 0)?, node(row, 1)?))).collect()
    }
}

fn write<'c>(
    connection: &'c mut PgConnection,
    (node, epoch, here, gone): &'c Change,
) -> BoxFuture<'c, Result<bool, Failure>> {
    async move {
        let ask = sqlx::query_scalar(CHANGE).bind(node.as_str()).bind(epoch).bind(here).bind(gone);
        let held: i64 = ask.fetch_one(connection).await?;
        Ok(held == 1)
    }
    .boxed()
}
