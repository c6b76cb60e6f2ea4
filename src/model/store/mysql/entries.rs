use sqlx::MySqlConnection;

use super::MysqlStore;
use super::decode::{count, integer, json, message, number, seq, stored};
use crate::model::store::{History, Page, Range, StoreError};
use crate::model::{ConversationId, Message, Seq, UserId};

/// Tells where each range begins and ends: seqs have no holes above the first that is kept.
const BOUNDS: &str = "
    SELECT e.n, (SELECT m.seq FROM messages AS m WHERE m.conversation = c.id ORDER BY m.seq LIMIT 1), c.head
        FROM JSON_TABLE(?, '$[*]' COLUMNS (n BIGINT PATH '$[0]', conversation BIGINT PATH '$[1]')) AS e
            STRAIGHT_JOIN conversations AS c ON c.id = e.conversation AND c.head > 0
        ORDER BY e.n";

/// Looks entries up one by one, because a range whose bounds come from another table is not read by the index.
const ENTRIES: &str = "
    SELECT m.conversation, m.seq, m.sender, u.name, m.`key`, m.kind, m.body, m.at
        FROM JSON_TABLE(?, '$[*]' COLUMNS (n BIGINT PATH '$[0]', conversation BIGINT PATH '$[1]',
                seq BIGINT PATH '$[2]')) AS e
            STRAIGHT_JOIN messages AS m ON m.conversation = e.conversation AND m.seq = e.seq
            STRAIGHT_JOIN users AS u ON u.id = m.sender
        ORDER BY e.n";

const JOINED: &str = "SELECT joined_seq FROM members WHERE conversation = ? AND user_id = ?";

/// The entries between two seqs, the newest or the oldest first.
macro_rules! page {
    ($order:literal) => {
        concat!(
            "SELECT m.conversation, m.seq, m.sender, u.name, m.`key`, m.kind, m.body, m.at
                FROM messages AS m STRAIGHT_JOIN users AS u ON u.id = m.sender
                WHERE m.conversation = ? AND m.seq > ? AND m.seq < ? ORDER BY m.seq ",
            $order,
            " LIMIT ?"
        )
    };
}

const PAGE_DOWN: &str = page!("DESC");
const PAGE_UP: &str = page!("ASC");

impl MysqlStore {
    pub(super) async fn read_ranges(&self, ranges: &[Range], limit: usize) -> Result<Vec<Message>, StoreError> {
        let places = json(&ranges.iter().map(|range| range.conversation).enumerate().collect::<Vec<_>>());
        let what = "reading entries";
        let bounds = self.pool.read(what, async |c| sqlx::query(BOUNDS).bind(&places).fetch_all(c).await).await?;
        let mut wanted: Vec<(usize, ConversationId, Seq)> = Vec::new();
        for row in &bounds {
            let range = &ranges[number::<usize>(row, 0)?];
            let (first, head) = (seq(row, 1)?, seq(row, 2)?);
            for seq in first.max(range.after.saturating_add(1))..=head.min(range.until) {
                if wanted.len() == limit {
                    break;
                }
                wanted.push((wanted.len(), range.conversation, seq));
            }
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = json(&wanted);
        let ask = async |c: &mut MySqlConnection| sqlx::query(ENTRIES).bind(&wanted).fetch_all(c).await;
        self.pool.read(what, ask).await?.iter().map(message).collect()
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
        let (conversation, user) = (conversation.get().cast_signed(), user.get().cast_signed());
        let what = "reading history";
        let ask = async |c: &mut MySqlConnection| sqlx::query(JOINED).bind(conversation).bind(user).fetch_all(c).await;
        let joined = self.pool.read(what, ask).await?;
        let Some(joined) = joined.first() else { return Ok(None) };
        let above = stored(above).max(integer(joined, 0)? - 1);
        let ask = async |c: &mut MySqlConnection| {
            let ask = sqlx::query(sql).bind(conversation).bind(above).bind(stored(below));
            ask.bind(count(limit).saturating_add(1)).fetch_all(c).await
        };
        let rows = self.pool.read(what, ask).await?;
        let mut messages: Vec<Message> = rows.iter().take(limit).map(message).collect::<Result<_, _>>()?;
        if !matches!(page, Page::After(_)) {
            messages.reverse();
        }
        Ok(Some(History { messages, more: rows.len() > limit }))
    }
}
