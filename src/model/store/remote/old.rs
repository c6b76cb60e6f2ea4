use std::collections::{BTreeMap, HashMap};

use crate::model::store::StoreError;
use crate::model::store::decode::{Cells, integer, seq};
use crate::model::{Millis, Seq};

/// How many entries a walk looks at in one go: more than any batch has, because the ids of a batch need not be in the
/// order of its seqs.
pub(in crate::model::store) const PAGE: i64 = 2_000;

/// A walk along the ids, from the oldest entry to the first that is not old. It takes of each conversation all that it
/// has below some seq, and never its newest entry.
#[derive(Debug)]
pub(in crate::model::store) struct Walk {
    before: Millis,
    limit: usize,
    /// The ids that were taken.
    pub(in crate::model::store) taken: Vec<i64>,
    /// Where the next page begins; `None`: the walk is over.
    pub(in crate::model::store) after: Option<i64>,
    /// Per conversation, the seq that may go next, and the entries above it that have been seen.
    places: HashMap<i64, (Seq, BTreeMap<Seq, i64>)>,
}

impl Walk {
    pub(in crate::model::store) fn new(before: Millis, limit: usize) -> Self {
        let after = (limit > 0).then_some(0);
        Self { before, limit, taken: Vec::new(), after, places: HashMap::new() }
    }

    /// Goes on with a page: id, time, conversation, seq, the conversation's first kept seq and its head, by id.
    pub(in crate::model::store) fn page(&mut self, rows: &[impl Cells]) -> Result<(), StoreError> {
        self.after = None;
        for row in rows {
            let (id, at, conversation) = (integer(row, 0)?, integer(row, 1)?, integer(row, 2)?);
            if at >= self.before {
                return Ok(());
            }
            let (this, first, head) = (seq(row, 3)?, seq(row, 4)?, seq(row, 5)?);
            let (next, waiting) = self.places.entry(conversation).or_insert_with(|| (first, BTreeMap::new()));
            if this < head {
                waiting.insert(this, id);
            }
            while let Some(id) = waiting.remove(next) {
                self.taken.push(id);
                *next += 1;
                if self.taken.len() == self.limit {
                    return Ok(());
                }
            }
        }
        if rows.len() as i64 == PAGE {
            self.after = rows.last().map(|row| integer(row, 0)).transpose()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Row([i64; 6]);

    impl Cells for Row {
        fn number(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
            Ok(Some(self.0[column]))
        }

        fn text(&self, _: usize) -> Result<String, sqlx::Error> {
            Err(sqlx::Error::RowNotFound)
        }
    }

    fn row(id: i64, at: Millis, conversation: i64, seq: i64, first: i64, head: i64) -> Row {
        Row([id, at, conversation, seq, first, head])
    }

    fn taken(limit: usize, rows: &[Row]) -> Vec<i64> {
        let mut walk = Walk::new(100, limit);
        walk.page(rows).unwrap();
        walk.taken
    }

    #[test]
    fn a_batch_whose_ids_are_not_in_the_order_of_its_seqs_leaves_no_hole() {
        let rows = [row(1, 5, 7, 3, 1, 9), row(2, 5, 7, 1, 1, 9), row(3, 5, 7, 2, 1, 9), row(4, 6, 7, 4, 1, 9)];
        assert_eq!(taken(1, &rows), [2]);
        assert_eq!(taken(2, &rows), [2, 3]);
        assert_eq!(taken(9, &rows), [2, 3, 1, 4]);
        // Without the first, nothing may go.
        assert!(taken(9, &rows[..1]).is_empty());
    }

    #[test]
    fn a_walk_ends_at_the_first_entry_that_is_not_old_and_keeps_the_newest_of_each_conversation() {
        let rows = [row(1, 5, 7, 1, 1, 2), row(2, 5, 8, 4, 4, 4), row(3, 100, 9, 1, 1, 2), row(4, 5, 7, 2, 1, 2)];
        assert_eq!(taken(9, &rows), [1]);
    }

    #[test]
    fn a_walk_goes_on_behind_a_full_page_only() {
        let mut walk = Walk::new(100, 5_000);
        let full: Vec<Row> = (1..=PAGE).map(|seq| row(seq, 5, 7, seq, 1, 9_999)).collect();
        walk.page(&full).unwrap();
        assert_eq!((walk.after, walk.taken.len()), (Some(PAGE), PAGE as usize));
        walk.page(&[row(PAGE + 1, 5, 7, PAGE + 1, 1, 9_999)]).unwrap();
        assert_eq!((walk.after, walk.taken.len()), (None, PAGE as usize + 1));
        assert_eq!(Walk::new(100, 0).after, None);
    }
}
