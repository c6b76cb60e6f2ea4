use super::SqliteStore;
use super::decode::{json, message, stored};
use crate::model::store::{History, Page, Range, StoreError};
use crate::model::{ConversationId, Message, Seq, UserId};

/// Seqs have no holes above the first that is kept, so that no range needs to be read further than the limit from
/// there; the sort stays as small as that.
pub(super) const RANGES: &str = "
    SELECT m.conversation, m.seq, m.sender, u.name, m.key, m.kind, m.body, m.at FROM json_each($1) AS e
        CROSS JOIN messages AS m
            ON m.conversation = e.value ->> 0 AND m.seq > e.value ->> 1
                AND m.seq <= min(e.value ->> 2, $2 - 1 + (SELECT min(seq) FROM messages
                    WHERE conversation = e.value ->> 0 AND seq > e.value ->> 1))
        CROSS JOIN users AS u ON u.id = m.sender
        ORDER BY e.key, m.seq LIMIT $2";

/// The membership, then the entries between two seqs, the newest or the oldest first.
macro_rules! page {
    ($order:literal) => {
        concat!(
            "SELECT 1 FROM members WHERE conversation = $1 AND user = $2;
             SELECT m.conversation, m.seq, m.sender, u.name, m.key, m.kind, m.body, m.at FROM members AS me
                CROSS JOIN messages AS m
                    ON m.conversation = me.conversation AND m.seq >= me.joined_seq AND m.seq > $3 AND m.seq < $4
                CROSS JOIN users AS u ON u.id = m.sender
                WHERE me.conversation = $1 AND me.user = $2 ORDER BY m.seq ",
            $order,
            " LIMIT $5"
        )
    };
}

pub(super) const PAGE_DOWN: &str = page!("DESC");
pub(super) const PAGE_UP: &str = page!("ASC");

impl SqliteStore {
    pub(super) async fn read_ranges(&self, ranges: &[Range], limit: usize) -> Result<Vec<Message>, StoreError> {
        let span = |range: &Range| (range.conversation, stored(range.after), stored(range.until));
        let spans: Vec<_> = ranges.iter().map(span).collect();
        let ask = sqlx::query(RANGES).bind(json(&spans)).bind(stored(limit as u64));
        let sets = self.connections.read("reading entries", ask).await?;
        sets[0].iter().map(message).collect()
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
        let ask = sqlx::query(sql)
            .bind(conversation.get().cast_signed())
            .bind(user.get().cast_signed())
            .bind(stored(above))
            .bind(stored(below))
            .bind(stored(limit as u64).saturating_add(1));
        let sets = self.connections.read("reading history", ask).await?;
        if sets[0].is_empty() {
            return Ok(None);
        }
        let more = sets[1].len() > limit;
        let mut messages: Vec<Message> = sets[1].iter().take(limit).map(message).collect::<Result<_, _>>()?;
        if !matches!(page, Page::After(_)) {
            messages.reverse();
        }
        Ok(Some(History { messages, more }))
    }
}
