use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::MySqlConnection;

use super::MysqlStore;
use super::decode::{json, kind_code};
use super::heads::{clock, ids};
use super::remote::{self, Failure, Keys, Seats};
use crate::model::Seq;
use crate::model::store::resolve::{Plan, Seat};
use crate::model::store::{Append, Outcome, StoreError};

/// Entries go into one statement up to this many bytes and one body: escaped they are six times as long at most, which
/// the smallest packet that servers take by default still holds.
const STATEMENT: usize = 2 << 20;

/// Locks the heads, in the order of the array.
const LOCK: &str =
    concat!("SELECT c.id, c.kind, c.head FROM ", ids!(), " STRAIGHT_JOIN conversations AS c ON c.id = e.id FOR UPDATE");

/// The (place, conversation, sender, friends only) of a batch.
macro_rules! seats {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (n BIGINT PATH '$[0]', conversation BIGINT PATH '$[1]',
            sender BIGINT PATH '$[2]', friends_only BIGINT PATH '$[3]')) AS s"
    };
}

/// Reads what else a batch depends on, now that the heads are locked: the clock, who is no member, which keys are
/// taken, who is no user, and who may not write to a direct conversation: seldom anybody, and of a sender whom nobody
/// has blocked that is known at once.
const READ: &str = concat!(
    "SELECT 0, NULL, NULL, NULL, NULL, ",
    clock!(),
    ", NULL
    UNION ALL SELECT 1, s.n, NULL, NULL, NULL, NULL, NULL FROM ",
    seats!(),
    "   LEFT JOIN members AS m ON m.conversation = s.conversation AND m.user_id = s.sender WHERE m.user_id IS NULL
    UNION ALL SELECT 2, k.n, m.conversation, m.seq, m.kind, m.at, m.body
        FROM JSON_TABLE(?, '$[*]' COLUMNS (n BIGINT PATH '$[0]', sender BIGINT PATH '$[1]',
                `key` VARCHAR(64) CHARACTER SET utf8mb4 PATH '$[2]')) AS k
            STRAIGHT_JOIN messages AS m ON m.sender = k.sender AND m.`key` = CAST(k.`key` AS BINARY)
    UNION ALL SELECT 3, e.id, NULL, NULL, NULL, NULL, NULL FROM ",
    ids!(),
    "   LEFT JOIN users AS u ON u.id = e.id WHERE u.id IS NULL
    UNION ALL SELECT CASE WHEN b.user_id IS NULL THEN 5 ELSE 4 END, s.n, NULL, NULL, NULL, NULL, NULL FROM ",
    seats!(),
    "   STRAIGHT_JOIN conversations AS c ON c.id = s.conversation AND c.kind = 0
            AND (s.friends_only OR EXISTS (SELECT 1 FROM blocks AS any_block WHERE any_block.blocked = s.sender))
        STRAIGHT_JOIN members AS peer ON peer.conversation = c.id AND peer.user_id <> s.sender
        LEFT JOIN blocks AS b ON b.blocked = s.sender AND b.user_id = peer.user_id
        LEFT JOIN friends AS f ON f.user_id = peer.user_id AND f.friend = s.sender AND f.state = 1
        WHERE b.user_id IS NOT NULL OR (s.friends_only AND f.user_id IS NULL)"
);

/// The (conversation, user, seq) of a plan.
macro_rules! cursors {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (conversation BIGINT PATH '$[0]', user_id BIGINT PATH '$[1]',
            seq BIGINT PATH '$[2]')) AS e"
    };
}

/// Takes everybody who joined or left out.
const LEAVE: &str = concat!(
    "DELETE m FROM ",
    cursors!(),
    " STRAIGHT_JOIN members AS m ON m.conversation = e.conversation AND m.user_id = e.user_id"
);

/// Lets in who is a member in the end.
const JOIN: &str = concat!(
    "INSERT INTO members (conversation, user_id, joined_seq, delivered, `read`, added_at)
        SELECT e.conversation, e.user_id, e.seq, e.seq, e.seq, ",
    clock!(),
    " FROM ",
    cursors!(),
    " WHERE e.seq IS NOT NULL"
);

/// Takes the ownership from owners who left.
const DISOWN: &str = concat!(
    "UPDATE ",
    cursors!(),
    " STRAIGHT_JOIN conversations AS c ON c.id = e.conversation AND c.owner = e.user_id SET c.owner = NULL"
);

/// A group without an owner goes to the member who joined first; whoever comes first to an empty one owns it.
const INHERIT: &str = concat!(
    "UPDATE ",
    ids!(),
    " STRAIGHT_JOIN conversations AS c ON c.id = e.id
        SET c.owner = (SELECT m.user_id FROM members AS m WHERE m.conversation = c.id
            ORDER BY m.joined_seq, m.user_id LIMIT 1)
        WHERE c.owner IS NULL"
);

const MOVE: &str = concat!(
    "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$[0]', head BIGINT PATH '$[1]')) AS e
        STRAIGHT_JOIN conversations AS c ON c.id = e.id SET c.head = e.head, c.changed_at = ",
    clock!()
);

const SAY: &str = "
    INSERT INTO messages (conversation, seq, sender, `key`, kind, body, at)
        SELECT e.conversation, e.seq, e.sender, e.`key`, e.kind, e.body, ?
            FROM JSON_TABLE(?, '$[*]' COLUMNS (conversation BIGINT PATH '$[0]', seq BIGINT PATH '$[1]',
                sender BIGINT PATH '$[2]', `key` VARCHAR(64) CHARACTER SET utf8mb4 PATH '$[3]',
                kind BIGINT PATH '$[4]', body MEDIUMTEXT CHARACTER SET utf8mb4 PATH '$[5]')) AS e";

/// Moves the writers' own cursors, in the order of the array, because clients that have read something move them too.
const SEE: &str = concat!(
    "UPDATE ",
    cursors!(),
    " STRAIGHT_JOIN members AS m ON m.conversation = e.conversation AND m.user_id = e.user_id
        SET m.`read` = GREATEST(m.`read`, e.seq)"
);

impl MysqlStore {
    pub(super) async fn append_batch(&self, entries: &[Append]) -> Result<Vec<Outcome>, StoreError> {
        remote::append(&self.pool, entries, transaction).await
    }
}

fn transaction<'c>(
    connection: &'c mut MySqlConnection,
    entries: &'c [Append],
) -> BoxFuture<'c, Result<Vec<Outcome>, Failure>> {
    async move {
        let (seats, keys) = (Seats::of(entries), Keys::of(entries));
        let heads = sqlx::query(LOCK).bind(json(&remote::conversations(entries)));
        let heads = heads.fetch_all(&mut *connection).await?;
        let (asked_seats, asked_keys) = (json(&placed(&seats)), json(&placed_keys(&keys)));
        let answer = sqlx::query(READ)
            .bind(&asked_seats)
            .bind(&asked_keys)
            .bind(json(&remote::joiners(entries)))
            .bind(&asked_seats)
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

fn placed(seats: &Seats) -> Vec<(usize, i64, i64, u8)> {
    let all = seats.conversations.iter().zip(&seats.senders).zip(&seats.friends_only).enumerate();
    all.map(|(place, ((conversation, sender), only))| (place + 1, *conversation, *sender, u8::from(*only))).collect()
}

fn placed_keys<'a>(keys: &Keys<'a>) -> Vec<(usize, i64, &'a str)> {
    let all = keys.0.iter().enumerate();
    all.map(|(place, (sender, key))| (place + 1, sender.get().cast_signed(), key.as_str())).collect()
}

async fn move_members(connection: &mut MySqlConnection, plan: &Plan) -> Result<(), sqlx::Error> {
    let moved = json(&plan.moved.iter().map(|(seat, seq)| (seat.0, seat.1, *seq)).collect::<Vec<_>>());
    sqlx::query(LEAVE).bind(&moved).execute(&mut *connection).await?;
    sqlx::query(JOIN).bind(&moved).execute(&mut *connection).await?;
    if !plan.left.is_empty() {
        sqlx::query(DISOWN).bind(json(&plan.left)).execute(&mut *connection).await?;
    }
    let mut groups: Vec<_> = plan.moved.keys().map(|seat: &Seat| seat.0).collect();
    groups.dedup();
    sqlx::query(INHERIT).bind(json(&groups)).execute(connection).await.map(drop)
}

async fn write(connection: &mut MySqlConnection, entries: &[Append], plan: &Plan, at: i64) -> Result<(), sqlx::Error> {
    let heads: Vec<_> = plan.heads.iter().collect();
    sqlx::query(MOVE).bind(json(&heads)).execute(&mut *connection).await?;
    for part in parts(entries, &plan.rows) {
        let rows: Vec<_> = part.iter().map(|&(place, seq)| row(&entries[place], seq)).collect();
        sqlx::query(SAY).bind(at).bind(json(&rows)).execute(&mut *connection).await?;
    }
    if plan.read.is_empty() {
        return Ok(());
    }
    let read: Vec<_> = plan.read.iter().map(|((conversation, user), seq)| (conversation, user, seq)).collect();
    sqlx::query(SEE).bind(json(&read)).execute(connection).await.map(drop)
}

/// Cuts rows into parts that fit into one statement each; most batches are one.
fn parts<'a>(entries: &'a [Append], rows: &'a [(usize, Seq)]) -> impl Iterator<Item = &'a [(usize, Seq)]> {
    let mut bytes = 0;
    rows.chunk_by(move |_, (next, _)| {
        bytes += entries[*next].body.len();
        let fits = bytes <= STATEMENT;
        bytes = if fits { bytes } else { 0 };
        fits
    })
}

fn row(entry: &Append, seq: Seq) -> impl serde::Serialize + '_ {
    (entry.conversation, seq, entry.sender, entry.key.as_str(), kind_code(entry.kind), entry.body.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConversationId, Key, MessageKind, UserId};

    #[test]
    fn large_batches_go_in_parts_that_lose_no_row() {
        let entry = |bytes: usize| Append {
            conversation: ConversationId::new(1).unwrap(),
            sender: UserId::new(1).unwrap(),
            key: Key::new("key").unwrap(),
            kind: MessageKind::Text,
            body: "x".repeat(bytes),
            friends_only: false,
        };
        for (sizes, expected) in [
            (vec![64 << 10; 512], vec![33; 15].into_iter().chain([17]).collect::<Vec<usize>>()),
            (vec![200; 512], vec![512]),
            (vec![STATEMENT, STATEMENT, 1, 1], vec![2, 2]),
        ] {
            let entries: Vec<Append> = sizes.into_iter().map(entry).collect();
            let rows: Vec<(usize, Seq)> = (0..entries.len()).map(|place| (place, place as Seq)).collect();
            let found: Vec<_> = parts(&entries, &rows).collect();
            assert_eq!(found.iter().map(|part| part.len()).collect::<Vec<_>>(), expected);
            assert_eq!(found.concat(), rows);
        }
    }
}
