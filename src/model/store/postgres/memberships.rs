use std::collections::BTreeMap;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use super::PostgresStore;
use super::columns;
use super::decode::{count, membership, moved, stored};
use super::remote::Failure;
use crate::model::store::{COUNTED_MEMBERS, CursorMoved, CursorUpdate, StoreError};
use crate::model::{ConversationId, Membership, Seq, UserId};

/// Joins what a membership shows of the other user of a direct conversation to the rows of `mine`.
macro_rules! with_peer {
    ($mine:literal, $order:literal) => {
        concat!(
            "SELECT mine.user_id, mine.conversation, mine.kind, coalesce(convert_to(u.name, 'UTF8'), mine.name),
                peer.user_id, peer.delivered, peer.read, mine.head, mine.joined_seq, mine.delivered, mine.read
             FROM (",
            $mine,
            ") AS mine
                LEFT JOIN members AS peer
                    ON mine.kind = 0 AND peer.conversation = mine.conversation AND peer.user_id <> mine.user_id
                LEFT JOIN users AS u ON u.id = peer.user_id ",
            $order
        )
    };
}

/// The most recently changed of each user, below the place of `$3` when it is given.
const RECENT: &str = with_peer!(
    "SELECT e.n, recent.* FROM UNNEST($1::bigint[]) WITH ORDINALITY AS e (user_id, n)
        CROSS JOIN LATERAL (
            SELECT m.user_id, m.conversation, m.joined_seq, m.delivered, m.read, c.kind, c.name, c.head, c.changed_at
            FROM members AS m JOIN conversations AS c ON c.id = m.conversation
            WHERE m.user_id = e.user_id AND ($3::bigint IS NULL
                OR (c.changed_at, c.id) < (SELECT b.changed_at, b.id FROM conversations AS b WHERE b.id = $3))
            ORDER BY c.changed_at DESC, c.id DESC LIMIT $2) AS recent",
    "ORDER BY mine.n, mine.changed_at DESC, mine.conversation DESC"
);

const CHOSEN: &str = with_peer!(
    "SELECT m.user_id, m.conversation, m.joined_seq, m.delivered, m.read, c.kind, c.name, c.head
     FROM members AS m JOIN conversations AS c ON c.id = m.conversation
     WHERE m.conversation = ANY($1) AND m.user_id = ANY($2)",
    "ORDER BY mine.user_id, mine.conversation"
);

/// Locks the rows in their order, because writers move their own cursors too.
const RAISE: &str = "
    WITH behind AS (
        SELECT m.conversation, m.user_id, least(e.delivered, c.head) AS delivered, least(e.read, c.head) AS read
            FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
                    AS e (conversation, user_id, delivered, read)
                JOIN conversations AS c ON c.id = e.conversation
                JOIN members AS m ON m.conversation = e.conversation AND m.user_id = e.user_id
            WHERE m.delivered < least(e.delivered, c.head) OR m.read < least(e.read, c.head)
            ORDER BY m.conversation, m.user_id FOR NO KEY UPDATE OF m
    )
    UPDATE members AS m SET delivered = greatest(m.delivered, b.delivered), read = greatest(m.read, b.read)
        FROM behind AS b WHERE m.conversation = b.conversation AND m.user_id = b.user_id
            AND (m.delivered < b.delivered OR m.read < b.read)
        RETURNING m.conversation, m.user_id, m.delivered, m.read,
            (SELECT count(*) FROM (SELECT FROM members AS o WHERE o.conversation = m.conversation LIMIT $5) AS counted)";

/// Conversations, users, and how far they have got.
type Cursors = (Vec<i64>, Vec<i64>, Vec<i64>, Vec<i64>);

impl PostgresStore {
    pub(super) async fn read_memberships(
        &self,
        users: &[UserId],
        before: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<Membership>, StoreError> {
        let ids = columns::distinct(users);
        let before = before.map(|id| id.get().cast_signed());
        let ask = async |c: &mut PgConnection| {
            sqlx::query(RECENT).bind(&ids).bind(count(limit)).bind(before).fetch_all(c).await
        };
        self.pool.read("reading memberships", ask).await?.iter().map(membership).collect()
    }

    pub(super) async fn read_memberships_in(
        &self,
        conversations: &[ConversationId],
        users: &[UserId],
    ) -> Result<Vec<Membership>, StoreError> {
        let (conversations, users) = (columns::conversations(conversations), columns::users(users));
        let ask = async |c: &mut PgConnection| sqlx::query(CHOSEN).bind(&conversations).bind(&users).fetch_all(c).await;
        self.pool.read("reading memberships", ask).await?.iter().map(membership).collect()
    }

    pub(super) async fn raise_cursors(&self, updates: &[CursorUpdate]) -> Result<Vec<CursorMoved>, StoreError> {
        // A member who is named twice would be updated once, from either row.
        let mut merged: BTreeMap<(ConversationId, UserId), (Seq, Seq)> = BTreeMap::new();
        for update in updates {
            let (delivered, read) = merged.entry((update.conversation, update.user)).or_default();
            *delivered = update.delivered.max(*delivered);
            *read = update.read.max(*read);
        }
        let mut cursors = Cursors::default();
        for ((conversation, user), (delivered, read)) in merged {
            cursors.0.push(conversation.get().cast_signed());
            cursors.1.push(user.get().cast_signed());
            cursors.2.push(stored(delivered));
            cursors.3.push(stored(read));
        }
        self.pool.write("raising cursors", cursors, raise).await
    }
}

fn raise<'c>(
    connection: &'c mut PgConnection,
    (conversations, users, delivered, read): &'c Cursors,
) -> BoxFuture<'c, Result<Vec<CursorMoved>, Failure>> {
    async move {
        let ask = sqlx::query(RAISE).bind(conversations).bind(users).bind(delivered).bind(read);
        let rows = ask.bind(COUNTED_MEMBERS.cast_signed()).fetch_all(connection).await?;
        Ok(rows.iter().map(moved).collect::<Result<_, _>>()?)
    }
    .boxed()
}
