use std::collections::{BTreeMap, BTreeSet};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::SqliteConnection;

use super::SqliteStore;
use super::connections::{Ask, fetch_sets};
use super::decode::{conversation, conversation_kind, integer, json, kind_code, message_kind, number, seq, text};
use super::failure::Failure;
use super::resolve::{Plan, Seat, Snapshot, Taken};
use crate::model::store::{Append, Outcome, StoreError};
use crate::model::{ConversationId, Key, MessageKind, Seq, UserId};

/// Begins, and reads all that a batch depends on: the clock once the lock is held, the heads, who is no member, which
/// keys are taken, who is no user, and who may not write to a direct conversation: seldom anybody, and of a sender whom
/// nobody has blocked that is known at once.
pub(super) const READ: &str = "
    BEGIN IMMEDIATE;
    SELECT CAST(round(unixepoch('subsec') * 1000) AS INTEGER);
    SELECT id, kind, head FROM conversations WHERE id IN (SELECT value FROM json_each($1));
    SELECT e.key FROM json_each($2) AS e
        WHERE NOT EXISTS (SELECT 1 FROM members AS m WHERE m.conversation = e.value ->> 0 AND m.user = e.value ->> 1);
    SELECT e.key, m.conversation, m.seq, m.kind, m.body, m.at
        FROM json_each($3) AS e CROSS JOIN messages AS m ON m.sender = e.value ->> 0 AND m.key = e.value ->> 1;
    SELECT e.value FROM json_each($4) AS e WHERE NOT EXISTS (SELECT 1 FROM users AS u WHERE u.id = e.value);
    SELECT e.key, EXISTS (SELECT 1 FROM blocks AS b WHERE b.blocked = e.value ->> 1 AND b.user = peer.user) AS blocked
        FROM json_each($2) AS e
            CROSS JOIN conversations AS c ON c.id = e.value ->> 0 AND c.kind = 0
            CROSS JOIN members AS peer ON peer.conversation = c.id AND peer.user <> e.value ->> 1
        WHERE (e.value ->> 2 OR EXISTS (SELECT 1 FROM blocks AS b WHERE b.blocked = e.value ->> 1))
            AND (blocked OR (e.value ->> 2 AND NOT EXISTS (SELECT 1 FROM friends AS f
                WHERE f.user = peer.user AND f.friend = e.value ->> 1 AND f.state = 1)))";

/// Writes the heads, the entries and the writers' own cursors.
macro_rules! write_entries {
    () => {
        "
    UPDATE conversations SET head = e.value ->> 1, changed_at = $1
        FROM json_each($2) AS e WHERE conversations.id = e.value ->> 0;
    INSERT INTO messages (conversation, seq, sender, key, kind, body, at)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, $1 FROM json_each($3);
    UPDATE members SET read = max(read, e.value ->> 2)
        FROM json_each($4) AS e WHERE members.conversation = e.value ->> 0 AND members.user = e.value ->> 1;"
    };
}

pub(super) const WRITE: &str = concat!(write_entries!(), "COMMIT");

/// As [`WRITE`], after the members were changed. An owner who left hands the group to the member who joined first;
/// whoever comes first to a group without an owner owns it.
pub(super) const WRITE_WITH_MEMBERS: &str = concat!(
    "
    DELETE FROM members WHERE (conversation, user) IN (SELECT value ->> 0, value ->> 1 FROM json_each($5));
    INSERT INTO members (conversation, user, joined_seq, delivered, read, added_at)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 2, value ->> 2, $1
        FROM json_each($5) WHERE value ->> 2 IS NOT NULL;
    UPDATE conversations SET owner = NULL
        WHERE (id, owner) IN (SELECT value ->> 0, value ->> 1 FROM json_each($6));
    UPDATE conversations
        SET owner = (SELECT user FROM members WHERE conversation = conversations.id ORDER BY joined_seq, user LIMIT 1)
        WHERE id IN (SELECT value ->> 0 FROM json_each($5)) AND owner IS NULL;",
    write_entries!(),
    "COMMIT"
);

impl SqliteStore {
    /// Appends a batch. A row that breaks a rule of its table must not take the others with it: the batch is tried
    /// again in halves until that row stands alone.
    pub(super) fn append_batch<'a>(&'a self, entries: &'a [Append]) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>> {
        async move {
            let batch = entries.to_vec();
            let tried = self.connections.transaction(|connection| transaction(connection, batch).boxed()).await;
            match tried {
                Err(failure) if failure.is_constraint() => match entries.len() {
                    1 => {
                        let error = failure.into_store_error("appending an entry");
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            conversation = entries[0].conversation.get(),
                            "the log refuses an entry"
                        );
                        Ok(vec![Outcome::Refused])
                    }
                    all => {
                        let (first, second) = entries.split_at(all / 2);
                        let mut outcomes = self.append_batch(first).await?;
                        outcomes.extend(self.append_batch(second).await?);
                        Ok(outcomes)
                    }
                },
                other => other.map_err(|failure| failure.into_store_error("appending to the log")),
            }
        }
        .boxed()
    }
}

async fn transaction(connection: &mut SqliteConnection, entries: Vec<Append>) -> Result<Vec<Outcome>, Failure> {
    let snapshot = read(connection, &entries).await?;
    let at = snapshot.at;
    let plan = Plan::resolve(&entries, snapshot);
    let ask = if plan.rows.is_empty() { sqlx::query("ROLLBACK") } else { write(&entries, &plan, at) };
    fetch_sets(connection, ask).await.map_err(Failure::Committing)?;
    Ok(plan.outcomes)
}

async fn read(connection: &mut SqliteConnection, entries: &[Append]) -> Result<Snapshot, Failure> {
    let conversations: BTreeSet<ConversationId> = entries.iter().map(|entry| entry.conversation).collect();
    // Whether the seat has an entry that only a friend may write.
    let mut seats: BTreeMap<Seat, bool> = BTreeMap::new();
    for entry in entries {
        *seats.entry((entry.conversation, entry.sender)).or_default() |= entry.friends_only;
    }
    let seats: Vec<(ConversationId, UserId, bool)> =
        seats.into_iter().map(|((conversation, sender), friends_only)| (conversation, sender, friends_only)).collect();
    let seat = |place: usize| (seats[place].0, seats[place].1);
    let keys: Vec<(UserId, &Key)> = distinct(entries.iter().map(|entry| (entry.sender, &entry.key)));
    let joiners = entries.iter().filter(|entry| entry.kind == MessageKind::Join);
    let joiners: Vec<UserId> = distinct(joiners.map(|entry| entry.sender));
    let ask = sqlx::query(READ).bind(json(&conversations)).bind(json(&seats)).bind(json(&keys)).bind(json(&joiners));
    let sets = fetch_sets(connection, ask).await?;

    let mut snapshot = Snapshot { at: integer(&sets[1][0], 0)?, ..Snapshot::default() };
    for row in &sets[2] {
        snapshot.conversations.insert(conversation(row, 0)?, (conversation_kind(row, 1)?, seq(row, 2)?));
    }
    for row in &sets[3] {
        snapshot.outsiders.insert(seat(number(row, 0)?));
    }
    for row in &sets[4] {
        let (sender, key) = keys[number::<usize>(row, 0)?];
        let taken = Taken {
            conversation: conversation(row, 1)?,
            seq: seq(row, 2)?,
            kind: message_kind(row, 3)?,
            body: text(row, 4)?,
            at: integer(row, 5)?,
        };
        snapshot.taken.insert((sender, key.clone()), taken);
    }
    for row in &sets[5] {
        snapshot.strangers.insert(super::decode::user(row, 0)?);
    }
    for row in &sets[6] {
        let barred = if integer(row, 1)? != 0 { &mut snapshot.blocked } else { &mut snapshot.friendless };
        barred.insert(seat(number(row, 0)?));
    }
    Ok(snapshot)
}

fn write(entries: &[Append], plan: &Plan, at: i64) -> Ask {
    let heads: Vec<_> = plan.heads.iter().collect();
    let rows: Vec<_> = plan.rows.iter().map(|&(place, seq)| row(&entries[place], seq)).collect();
    let read: Vec<_> = plan.read.iter().map(|((conversation, user), seq)| (conversation, user, seq)).collect();
    let sql = if plan.moved.is_empty() { WRITE } else { WRITE_WITH_MEMBERS };
    let ask = sqlx::query(sql).bind(at).bind(json(&heads)).bind(json(&rows)).bind(json(&read));
    if plan.moved.is_empty() {
        return ask;
    }
    let moved: Vec<_> = plan.moved.iter().map(|((conversation, user), seq)| (conversation, user, seq)).collect();
    ask.bind(json(&moved)).bind(json(&plan.left))
}

fn row(entry: &Append, seq: Seq) -> impl serde::Serialize + '_ {
    (entry.conversation, seq, entry.sender, entry.key.as_str(), kind_code(entry.kind), entry.body.as_str())
}

fn distinct<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    all.collect::<BTreeSet<T>>().into_iter().collect()
}
