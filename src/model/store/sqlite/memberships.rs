use std::collections::{BTreeMap, HashSet};

use super::SqliteStore;
use super::decode::{json, membership, moved};
use crate::model::store::{COUNTED_MEMBERS, CursorMoved, CursorUpdate, StoreError};
use crate::model::{ConversationId, Membership, Seq, UserId};

/// Joins what a membership shows of the other user of a direct conversation to the rows of `mine`.
macro_rules! with_peer {
    ($mine:literal, $order:literal) => {
        concat!(
            "WITH mine AS (",
            $mine,
            ") SELECT mine.user, mine.conversation, mine.kind, ifnull(u.name, mine.name),
                peer.user, peer.delivered, peer.read, mine.head, mine.joined_seq, mine.delivered, mine.read
             FROM mine
                LEFT JOIN members AS peer
                    ON mine.kind = 0 AND peer.conversation = mine.conversation AND peer.user <> mine.user
                LEFT JOIN users AS u ON u.id = peer.user ",
            $order
        )
    };
}

/// The most recently changed of each user, below the place of `$3` when it is given.
pub(super) const RECENT: &str = with_peer!(
    "SELECT * FROM (
        SELECT e.key AS place, m.user, m.conversation, m.joined_seq, m.delivered, m.read, c.kind, c.name, c.head,
            row_number() OVER (PARTITION BY e.key ORDER BY c.changed_at DESC, c.id DESC) AS rank
        FROM json_each($1) AS e
            CROSS JOIN members AS m ON m.user = e.value CROSS JOIN conversations AS c ON c.id = m.conversation
        WHERE $3 IS NULL OR (c.changed_at, c.id) < (SELECT changed_at, id FROM conversations WHERE id = $3)
     ) WHERE rank <= $2",
    "ORDER BY mine.place, mine.rank"
);

pub(super) const CHOSEN: &str = with_peer!(
    "SELECT m.user, m.conversation, m.joined_seq, m.delivered, m.read, c.kind, c.name, c.head
     FROM members AS m CROSS JOIN conversations AS c ON c.id = m.conversation
     WHERE m.conversation IN (SELECT value FROM json_each($1)) AND m.user IN (SELECT value FROM json_each($2))",
    "ORDER BY mine.user, mine.conversation"
);

pub(super) const RAISE: &str = "
    UPDATE members
        SET delivered = max(delivered, min(e.value ->> 2, c.head)), read = max(read, min(e.value ->> 3, c.head))
        FROM json_each($1) AS e CROSS JOIN conversations AS c
        WHERE c.id = e.value ->> 0 AND members.conversation = e.value ->> 0 AND members.user = e.value ->> 1
            AND (delivered < min(e.value ->> 2, c.head) OR read < min(e.value ->> 3, c.head))
        RETURNING conversation, user, delivered, read,
            (SELECT count(*) FROM (SELECT 1 FROM members AS m WHERE m.conversation = members.conversation LIMIT $2))";

impl SqliteStore {
    pub(super) async fn read_memberships(
        &self,
        users: &[UserId],
        before: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<Membership>, StoreError> {
        let mut seen = HashSet::new();
        let users: Vec<UserId> = users.iter().copied().filter(|user| seen.insert(*user)).collect();
        let ask = sqlx::query(RECENT)
            .bind(json(&users))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(before.map(|id| id.get().cast_signed()));
        let sets = self.connections.read("reading memberships", ask).await?;
        sets[0].iter().map(membership).collect()
    }

    pub(super) async fn read_memberships_in(
        &self,
        conversations: &[ConversationId],
        users: &[UserId],
    ) -> Result<Vec<Membership>, StoreError> {
        let ask = sqlx::query(CHOSEN).bind(json(conversations)).bind(json(users));
        let sets = self.connections.read("reading memberships", ask).await?;
        sets[0].iter().map(membership).collect()
    }

    pub(super) async fn raise_cursors(&self, updates: &[CursorUpdate]) -> Result<Vec<CursorMoved>, StoreError> {
        // A member who is named twice would be updated once, from either row.
        let mut merged: BTreeMap<(ConversationId, UserId), (Seq, Seq)> = BTreeMap::new();
        for update in updates {
            let (delivered, read) = merged.entry((update.conversation, update.user)).or_default();
            // No stored seq is larger, and the database keeps integers of 63 bits.
            *delivered = update.delivered.max(*delivered).min(Seq::MAX >> 1);
            *read = update.read.max(*read).min(Seq::MAX >> 1);
        }
        let rows: Vec<_> = merged.iter().map(|((conversation, user), (d, r))| (conversation, user, d, r)).collect();
        let ask = sqlx::query(RAISE).bind(json(&rows)).bind(COUNTED_MEMBERS.cast_signed());
        let sets = self.connections.write("raising cursors", ask).await?;
        sets.iter().flatten().map(moved).collect()
    }
}
