use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use super::PostgresStore;
use super::decode::kind_code;
use super::heads::clock;
use super::remote::{self, Failure, Keys, Seats};
use crate::model::Seq;
use crate::model::store::resolve::{Plan, Seat};
use crate::model::store::{Append, Outcome, StoreError};

/// Locks the heads. Not against those who only refer to the row.
const LOCK: &str = "SELECT id, kind, head FROM conversations WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";

/// Reads what else a batch depends on, now that the heads are locked: the clock, who is no member, which keys are
/// taken, who is no user, and who may not write to a direct conversation: seldom anybody, and of a sender whom nobody
/// has blocked that is known at once.
const READ: &str = concat!(
    "SELECT 0::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, ",
    clock!(),
    ", NULL::bytea
    UNION ALL SELECT 1, s.n, NULL, NULL, NULL, NULL, NULL
        FROM UNNEST($1::bigint[], $2::bigint[]) WITH ORDINALITY AS s (conversation, sender, n)
        WHERE NOT EXISTS (SELECT FROM members AS m WHERE m.conversation = s.conversation AND m.user_id = s.sender)
    UNION ALL SELECT 2, k.n, m.conversation, m.seq, m.kind, m.at, m.body
        FROM UNNEST($4::bigint[], $5::bytea[]) WITH ORDINALITY AS k (sender, key, n)
            JOIN messages AS m ON m.sender = k.sender AND m.key = k.key
    UNION ALL SELECT 3, j.id, NULL, NULL, NULL, NULL, NULL FROM UNNEST($6::bigint[]) AS j (id)
        WHERE NOT EXISTS (SELECT FROM users AS u WHERE u.id = j.id)
    UNION ALL SELECT CASE WHEN b.blocked THEN 4 ELSE 5 END, s.n, NULL, NULL, NULL, NULL, NULL
        FROM UNNEST($1::bigint[], $2::bigint[], $3::boolean[]) WITH ORDINALITY
                AS s (conversation, sender, friends_only, n)
            JOIN conversations AS c ON c.id = s.conversation AND c.kind = 0
            JOIN members AS peer ON peer.conversation = c.id AND peer.user_id <> s.sender
            CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM blocks AS b
                WHERE b.blocked = s.sender AND b.user_id = peer.user_id)) AS b (blocked)
        WHERE (s.friends_only OR EXISTS (SELECT FROM blocks AS b WHERE b.blocked = s.sender))
            AND (b.blocked OR (s.friends_only AND NOT EXISTS (SELECT FROM friends AS f
                WHERE f.user_id = peer.user_id AND f.friend = s.sender AND f.state = 1)))"
);

/// Takes everybody who joined or left out, and the ownership from owners who left.
const LEAVE: &str = "
    WITH gone AS (
        DELETE FROM members AS m USING UNNEST($1::bigint[], $2::bigint[]) AS e (conversation, user_id)
            WHERE m.conversation = e.conversation AND m.user_id = e.user_id
    )
    UPDATE conversations AS c SET owner = NULL FROM UNNEST($3::bigint[], $4::bigint[]) AS e (conversation, user_id)
        WHERE c.id = e.conversation AND c.owner = e.user_id";

/// Lets in who is a member in the end.
const JOIN: &str = concat!(
    "INSERT INTO members (conversation, user_id, joined_seq, delivered, read, added_at)
        SELECT e.conversation, e.user_id, e.seq, e.seq, e.seq, ",
    clock!(),
    " FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) AS e (conversation, user_id, seq)
        WHERE e.seq IS NOT NULL"
);

/// A group without an owner goes to the member who joined first; whoever comes first to an empty one owns it.
const INHERIT: &str = "
    UPDATE conversations AS c
        SET owner = (SELECT m.user_id FROM members AS m WHERE m.conversation = c.id
            ORDER BY m.joined_seq, m.user_id LIMIT 1)
        WHERE c.id = ANY($1) AND c.owner IS NULL";

/// Writes the heads, the entries and the writers' own cursors. Cursors are locked in their order, because clients that
/// have read something move them too.
const WRITE: &str = concat!(
    "WITH moved AS (
        UPDATE conversations AS c SET head = h.head, changed_at = ",
    clock!(),
    " FROM UNNEST($1::bigint[], $2::bigint[]) AS h (id, head) WHERE c.id = h.id
    ), said AS (
        INSERT INTO messages (conversation, seq, sender, key, kind, body, at)
            SELECT e.conversation, e.seq, e.sender, e.key, e.kind, e.body, $3
                FROM UNNEST($4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[], $8::bigint[], $9::bytea[])
                    AS e (conversation, seq, sender, key, kind, body)
    ), behind AS (
        SELECT m.conversation, m.user_id, e.seq
            FROM UNNEST($10::bigint[], $11::bigint[], $12::bigint[]) AS e (conversation, user_id, seq)
                JOIN members AS m ON m.conversation = e.conversation AND m.user_id = e.user_id
            WHERE m.read < e.seq ORDER BY m.conversation, m.user_id FOR NO KEY UPDATE OF m
    )
    UPDATE members AS m SET read = greatest(m.read, b.seq) FROM behind AS b
        WHERE m.conversation = b.conversation AND m.user_id = b.user_id"
);

impl PostgresStore {
    pub(super) async fn append_batch(&self, entries: &[Append]) -> Result<Vec<Outcome>, StoreError> {
        remote::append(&self.pool, entries, transaction).await
    }
}

fn transaction<'c>(
    connection: &'c mut PgConnection,
    entries: &'c [Append],
) -> BoxFuture<'c, Result<Vec<Outcome>, Failure>> {
    async move {
        let (seats, keys) = (Seats::of(entries), Keys::of(entries));
        let heads = sqlx::query(LOCK).bind(remote::conversations(entries)).fetch_all(&mut *connection).await?;
        let answer = sqlx::query(READ)
            .bind(&seats.conversations)
            .bind(&seats.senders)
            .bind(&seats.friends_only)
            .bind(keys.0.iter().map(|(sender, _)| sender.get().cast_signed()).collect::<Vec<_>>())
            .bind(keys.0.iter().map(|(_, key)| key.as_str().as_bytes()).collect::<Vec<_>>())
            .bind(remote::joiners(entries))
            .fetch_all(&mut *connection)
            .await?;
        let snapshot = remote::snapshot(&heads, &answer, &seats, &keys)?;
        let at = snapshot.at;
        let mut plan = Plan::resolve(entries, snapshot);
        if !plan.moved.is_empty() {
            move_members(connection, &plan).await?;
        }
        if !plan.rows.is_empty() {
            // Two nodes that insert the same keys wait for each other in one order only.
            plan.rows.sort_unstable_by_key(|(place, _)| (entries[*place].sender, &entries[*place].key));
            write(connection, entries, &plan, at).await?;
        }
        Ok(plan.outcomes)
    }
    .boxed()
}

async fn move_members(connection: &mut PgConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let (places, users) = seats(plan.moved.keys());
    let (left_places, left_users) = seats(plan.left.iter());
    let leave = sqlx::query(LEAVE).bind(&places).bind(&users).bind(left_places).bind(left_users);
    leave.execute(&mut *connection).await?;
    let joined: Vec<Option<i64>> = plan.moved.values().map(|seq| seq.map(Seq::cast_signed)).collect();
    sqlx::query(JOIN).bind(&places).bind(&users).bind(joined).execute(&mut *connection).await?;
    sqlx::query(INHERIT).bind(&places).execute(connection).await.map(drop)
}

async fn write(connection: &mut PgConnection, entries: &[Append], plan: &Plan, at: i64) -> Result<(), sqlx::Error> {
    let said = || plan.rows.iter().map(|(place, _)| &entries[*place]);
    let (places, readers) = seats(plan.read.keys());
    let ask = sqlx::query(WRITE)
        .bind(plan.heads.keys().map(|id| id.get().cast_signed()).collect::<Vec<_>>())
        .bind(plan.heads.values().map(|seq| seq.cast_signed()).collect::<Vec<_>>())
        .bind(at)
        .bind(said().map(|entry| entry.conversation.get().cast_signed()).collect::<Vec<_>>())
        .bind(plan.rows.iter().map(|(_, seq)| seq.cast_signed()).collect::<Vec<_>>())
        .bind(said().map(|entry| entry.sender.get().cast_signed()).collect::<Vec<_>>())
        .bind(said().map(|entry| entry.key.as_str().as_bytes()).collect::<Vec<_>>())
        .bind(said().map(|entry| kind_code(entry.kind)).collect::<Vec<_>>())
        .bind(said().map(|entry| entry.body.as_bytes()).collect::<Vec<_>>())
        .bind(places)
        .bind(readers)
        .bind(plan.read.values().map(|seq| seq.cast_signed()).collect::<Vec<_>>());
    ask.execute(connection).await.map(drop)
}

fn seats<'a>(seats: impl Iterator<Item = &'a Seat>) -> (Vec<i64>, Vec<i64>) {
    seats.map(|(conversation, user)| (conversation.get().cast_signed(), user.get().cast_signed())).unzip()
}
