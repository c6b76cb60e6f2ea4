use sqlx::PgConnection;

use super::PostgresStore;
use super::decode::{count, message, optional, stored};
use crate::model::store::{History, Page, Range, StoreError};
use crate::model::{ConversationId, Message, Seq, UserId};

/// No range is read further than the limit.
const RANGES: &str = "
    SELECT m.conversation, m.seq, m.sender, u.name, m.key, m.kind, m.body, m.at
        FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS e (conversation, after, until, n)
            CROSS JOIN LATERAL (SELECT * FROM messages AS m
                WHERE m.conversation = e.conversation AND m.seq > e.after AND m.seq <= e.until
                ORDER BY m.seq LIMIT $4) AS m
            JOIN users AS u ON u.id = m.sender
        ORDER BY e.n, m.seq LIMIT $4";

/// The entries between two seqs, the newest or the oldest first; one empty row for a member who finds none, no row for
/// somebody else.
macro_rules! page {
    ($order:literal) => {
        concat!(
            "SELECT m.conversation, m.seq, m.sender, u.name, m.key, m.kind, m.body, m.at FROM members AS me
                LEFT JOIN LATERAL (SELECT * FROM messages AS m
                    WHERE m.conversation = me.conversation AND m.seq >= me.joined_seq AND m.seq > $3 AND m.seq < $4
                    ORDER BY m.seq ",
            $order,
            " LIMIT $5) AS m ON true
                LEFT JOIN users AS u ON u.id = m.sender
                WHERE me.conversation = $1 AND me.user_id = $2 ORDER BY m.seq ",
            $order
        )
    };
}

const PAGE_DOWN: &str = page!("DESC");
const PAGE_UP: &str = page!("ASC");

impl PostgresStore {
    pub(super) async fn read_ranges(&self, ranges: &[Range], limit: usize) -> Result<Vec<Message>, StoreError> {
        let conversations: Vec<i64> = ranges.iter().map(|range| range.conversation.get().cast_signed()).collect();
        let after: Vec<i64> = ranges.iter().map(|range| stored(range.after)).collect();
        let until: Vec<i64> = ranges.iter().map(|range| stored(range.until)).collect();
        let ask = async |c: &mut PgConnection| {
            let ask = sqlx::query(RANGES).bind(&conversations).bind(&after).bind(&until).bind(count(limit));
            ask.fetch_all(c).await
        };
        self.pool.read("reading entries", ask).await?.iter().map(message).collect()
    }

    pub(super) async fn read_page(
        &self,
        user: UserId,
        conversation: ConversationId,
        page: Page,
        limit: usize,
    ) -> Result<Option<History>, StoreError> {
        let (sql, above, below) = match page {
            Page::Newest => (PAGE_DOWN, 0, Seq::MAX),
            Page::Before(seq) => (PAGE_DOWN, 0, seq),
            Page::After(seq) => (PAGE_UP, seq, Seq::MAX),
        };
        let ask = async |c: &mut PgConnection| {
            let ask = sqlx::query(sql)
                .bind(conversation.get().cast_signed())
                .bind(user.get().cast_signed())
                .bind(stored(above))
                .bind(stored(below))
                .bind(count(limit).saturating_add(1));
            ask.fetch_all(c).await
        };
        let rows = self.pool.read("reading history", ask).await?;
        let Some(first) = rows.first() else { return Ok(None) };
        let none = optional(first, 0)?.is_none();
        let found = if none { &rows[1..] } else { &rows[..] };
        let mut messages: Vec<Message> = found.iter().take(limit).map(message).collect::<Result<_, _>>()?;
        if !matches!(page, Page::After(_)) {
            messages.reverse();
        }
        Ok(Some(History { messages, more: found.len() > limit }))
    }
}
