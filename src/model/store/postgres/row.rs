use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::model::store::decode::Cells;

impl Cells for PgRow {
    fn number(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }

    fn text(&self, column: usize) -> Result<String, sqlx::Error> {
        // On the wire TEXT and BYTEA are the same bytes.
        let bytes: Vec<u8> = self.try_get_unchecked(column)?;
        String::from_utf8(bytes).map_err(|error| sqlx::Error::Decode(error.into()))
    }
}
