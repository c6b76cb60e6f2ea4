use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::MySqlConnection;

use super::MysqlStore;
use super::decode::{conversation, count, integer, json, membership, stored, user};
use super::heads::{ids, placed};
use super::remote::Failure;
use crate::model::store::{COUNTED_MEMBERS, CursorMoved, CursorUpdate, StoreError};
use crate::model::{ConversationId, Membership, Seq, UserId};

/// Joins what a membership shows of the other user of a direct conversation to the rows of `mine`.
macro_rules! with_peer {
    ($mine:expr, $order:literal) => {
        concat!(
            "SELECT mine.user_id, mine.conversation, mine.kind, coalesce(u.name, mine.name),
                peer.user_id, peer.delivered, peer.`read`, mine.head, mine.joined_seq, mine.delivered, mine.`read`
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

/// The most recently changed of each user.
macro_rules! recent {
    ($before:literal) => {
        with_peer!(
            concat!(
                "SELECT * FROM (
                    SELECT e.n AS place, m.user_id, m.conversation, m.joined_seq, m.delivered, m.`read`,
                        c.kind, c.name, c.head,
                        ROW_NUMBER() OVER (PARTITION BY e.n ORDER BY c.changed_at DESC, c.id DESC) AS nth
                    FROM JSON_TABLE(?, '$[*]' COLUMNS (n BIGINT PATH '$[0]', id BIGINT PATH '$[1]')) AS e
                        STRAIGHT_JOIN members AS m ON m.user_id = e.id
                        STRAIGHT_JOIN conversations AS c ON c.id = m.conversation ",
                $before,
                ") AS numbered WHERE nth <= ?"
            ),
            "ORDER BY mine.place, mine.nth"
        )
    };
}

const RECENT: &str = recent!("");
const RECENT_BEFORE: &str = recent!(
    "STRAIGHT_JOIN conversations AS b ON b.id = ?
        AND (c.changed_at < b.changed_at OR (c.changed_at = b.changed_at AND c.id < b.id))"
);

const CHOSEN: &str = with_peer!(
    "SELECT m.user_id, m.conversation, m.joined_seq, m.delivered, m.`read`, c.kind, c.name, c.head
     FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) AS wanted
        STRAIGHT_JOIN JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) AS of_user
        STRAIGHT_JOIN members AS m ON m.conversation = wanted.id AND m.user_id = of_user.id
        STRAIGHT_JOIN conversations AS c ON c.id = m.conversation",
    "ORDER BY mine.user_id, mine.conversation"
);

/// The heads, and how many members there are, counted no further than allowed.
const HEADS: &str = concat!(
    "SELECT c.id, c.head,
            CASE WHEN (SELECT o.user_id FROM members AS o WHERE o.conversation = c.id LIMIT ?, 1) IS NULL
                THEN (SELECT count(*) FROM members AS o WHERE o.conversation = c.id) ELSE ? END FROM ",
    ids!(),
    " STRAIGHT_JOIN conversations AS c ON c.id = e.id"
);

/// An array of (conversation, user, delivered, read) as a table `e`.
macro_rules! cursors {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (conversation BIGINT PATH '$[0]', user_id BIGINT PATH '$[1]',
            delivered BIGINT PATH '$[2]', `read` BIGINT PATH '$[3]')) AS e
            STRAIGHT_JOIN members AS m ON m.conversation = e.conversation AND m.user_id = e.user_id"
    };
}

/// Locks those that are behind in their order, because writers move their own cursors too.
const BEHIND: &str = concat!(
    "SELECT m.conversation, m.user_id, m.delivered, m.`read` FROM ",
    cursors!(),
    " WHERE m.delivered < e.delivered OR m.`read` < e.`read` FOR UPDATE"
);

const RAISE: &str = concat!("UPDATE ", cursors!(), " SET m.delivered = e.delivered, m.`read` = e.`read`");

/// How far members have got: delivered, read.
type Cursors = BTreeMap<(ConversationId, UserId), (i64, i64)>;

impl MysqlStore {
    pub(super) async fn read_memberships(
        &self,
        users: &[UserId],
        before: Option<ConversationId>,
        limit: usize,
    ) -> Result<Vec<Membership>, StoreError> {
        let ids = json(&placed(users));
        let ask = async |c: &mut MySqlConnection| {
            let ask = match before {
                Some(before) => sqlx::query(RECENT_BEFORE).bind(&ids).bind(before.get().cast_signed()),
                None => sqlx::query(RECENT).bind(&ids),
            };
            ask.bind(count(limit)).fetch_all(c).await
        };
        self.pool.read("reading memberships", ask).await?.iter().map(membership).collect()
    }

    pub(super) async fn read_memberships_in(
        &self,
        conversations: &[ConversationId],
        users: &[UserId],
    ) -> Result<Vec<Membership>, StoreError> {
        let conversations = json(&conversations.iter().collect::<BTreeSet<_>>());
        let users = json(&users.iter().collect::<BTreeSet<_>>());
        let ask =
            async |c: &mut MySqlConnection| sqlx::query(CHOSEN).bind(&conversations).bind(&users).fetch_all(c).await;
        self.pool.read("reading memberships", ask).await?.iter().map(membership).collect()
    }

    pub(super) async fn raise_cursors(&self, updates: &[CursorUpdate]) -> Result<Vec<CursorMoved>, StoreError> {
        let mut merged = Cursors::new();
        for update in updates {
            let (delivered, read) = merged.entry((update.conversation, update.user)).or_default();
            *delivered = stored(update.delivered).max(*delivered);
            *read = stored(update.read).max(*read);
        }
        self.pool.transaction("raising cursors", merged, raise).await
    }
}

fn raise<'c>(
    connection: &'c mut MySqlConnection,
    updates: &'c Cursors,
) -> BoxFuture<'c, Result<Vec<CursorMoved>, Failure>> {
    async move {
        let ids: BTreeSet<ConversationId> = updates.keys().map(|(conversation, _)| *conversation).collect();
        let most = COUNTED_MEMBERS.cast_signed();
        let heads = sqlx::query(HEADS).bind(most - 1).bind(most).bind(json(&ids)).fetch_all(&mut *connection).await?;
        let mut places: HashMap<ConversationId, (i64, u64)> = HashMap::new();
        for row in &heads {
            places.insert(conversation(row, 0)?, (integer(row, 1)?, integer(row, 2)?.cast_unsigned()));
        }
        let clamped: Cursors = updates
            .iter()
            .filter_map(|(seat, (delivered, read))| {
                let (head, _) = places.get(&seat.0)?;
                Some((*seat, (*delivered.min(head), *read.min(head))))
            })
            .collect();
        let mut moved = Vec::new();
        let behind = sqlx::query(BEHIND).bind(rows(&clamped)).fetch_all(&mut *connection).await?;
        for row in &behind {
            let (conversation, user) = (conversation(row, 0)?, user(row, 1)?);
            let (delivered, read) = clamped[&(conversation, user)];
            let delivered: Seq = delivered.max(integer(row, 2)?).cast_unsigned();
            let read: Seq = read.max(integer(row, 3)?).cast_unsigned();
            moved.push(CursorMoved { conversation, user, delivered, read, members: places[&conversation].1 });
        }
        if !moved.is_empty() {
            let raised = moved
                .iter()
                .map(|to| ((to.conversation, to.user), (to.delivered.cast_signed(), to.read.cast_signed())));
            sqlx::query(RAISE).bind(rows(&raised.collect())).execute(connection).await?;
        }
        Ok(moved)
    }
    .boxed()
}

fn rows(cursors: &Cursors) -> String {
    let rows = cursors.iter().map(|((conversation, user), (delivered, read))| (conversation, user, delivered, read));
    json(&rows.collect::<Vec<_>>())
}
