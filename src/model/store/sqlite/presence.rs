use std::collections::BTreeMap;

use super::SqliteStore;
use super::decode::{broken, conversation, conversation_kind, json, node, number, text, user, user_id};
use crate::model::store::{NAMED_RECIPIENTS, Presence, PresenceChange, StoreError};
use crate::model::{ConversationId, NodeId, UserId};

pub(super) const WHERE_MEMBERS_ARE: &str = "
    SELECT c.id, c.kind, p.node, CASE WHEN count(*) <= $3 THEN json_group_array(m.user) ELSE '[]' END
        FROM json_each($1) AS e CROSS JOIN conversations AS c ON c.id = e.value
            CROSS JOIN members AS m ON m.conversation = c.id CROSS JOIN presence AS p ON p.user = m.user
        WHERE p.node <> $2 GROUP BY c.id, p.node";

/// Changes nothing unless the node `$1` holds the epoch `$2`, and tells whether it does.
const CHANGE: &str = "
    BEGIN IMMEDIATE;
    SELECT count(*) FROM nodes WHERE node = $1 AND epoch = $2 AND state NOT IN ('stopped', 'expired');
    INSERT INTO presence (user, node, epoch) SELECT value, $1, $2 FROM json_each($3)
        WHERE EXISTS (SELECT 1 FROM nodes WHERE node = $1 AND epoch = $2 AND state NOT IN ('stopped', 'expired'))
        ON CONFLICT (user, node) DO UPDATE SET epoch = excluded.epoch;
    DELETE FROM presence WHERE node = $1 AND user IN (SELECT value FROM json_each($4))
        AND EXISTS (SELECT 1 FROM nodes WHERE node = $1 AND epoch = $2 AND state NOT IN ('stopped', 'expired'));
    COMMIT";

pub(super) const ONLINE: &str =
    "SELECT DISTINCT user FROM presence WHERE user IN (SELECT value FROM json_each($1)) ORDER BY user";

pub(super) const WHEREABOUTS: &str =
    "SELECT user, node FROM presence WHERE user IN (SELECT value FROM json_each($1)) ORDER BY user, node";

impl SqliteStore {
    pub(super) async fn find_nodes_of_members(
        &self,
        conversations: &[ConversationId],
        except: &NodeId,
    ) -> Result<Vec<Presence>, StoreError> {
        let mut conversations = conversations.to_vec();
        conversations.sort_unstable();
        conversations.dedup();
        let ask = sqlx::query(WHERE_MEMBERS_ARE)
            .bind(json(&conversations))
            .bind(except.as_str().to_owned())
            .bind(NAMED_RECIPIENTS as i64);
        let sets = self.connections.read("reading presence", ask).await?;
        let rows = sets[0].iter().map(|row| {
            let users: Vec<i64> = serde_json::from_str(&text(row, 3)?)
                .map_err(|error| broken("an invalid list of users").caused_by(error))?;
            let mut users = users.into_iter().map(user_id).collect::<Result<Vec<UserId>, _>>()?;
            users.sort_unstable();
            Ok(Presence {
                conversation: conversation(row, 0)?,
                kind: conversation_kind(row, 1)?,
                node: node(row, 2)?,
                users,
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
        let having = |here| last.iter().filter(|(_, is)| **is == here).map(|(user, _)| *user).collect::<Vec<_>>();
        let ask = sqlx::query(CHANGE)
            .bind(node.as_str().to_owned())
            .bind(epoch.cast_signed())
            .bind(json(&having(true)))
            .bind(json(&having(false)));
        let sets = self.connections.write("changing presence", ask).await?;
        Ok(number::<u64>(&sets[1][0], 0)? == 1)
    }

    pub(super) async fn find_online(&self, users: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        let sets = self.connections.read("reading presence", sqlx::query(ONLINE).bind(json(users))).await?;
        sets[0].iter().map(|row| user(row, 0)).collect()
    }
    pub(super) async fn find_nodes_of_users(&self, users: &[UserId]) -> Result<Vec<(UserId, NodeId)>, StoreError> {
        let sets = self.connections.read("reading presence", sqlx::query(WHEREABOUTS).bind(json(users))).await?;
        sets[0].iter().map(|row| Ok((user(row, 0)?, node(row, 1)?))).collect()
    }
}
