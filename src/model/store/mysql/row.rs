use sqlx::Row;
use sqlx::mysql::MySqlRow;

use crate::model::store::decode::Cells;

impl Cells for MySqlRow {
    fn number(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }

    fn text(&self, column: usize) -> Result<String, sqlx::Error> {
        // Columns are binary, and what functions make of them has the charset of the connection, which is UTF-8.
        let bytes: Vec<u8> = self.try_get_unchecked(column)?;
        String::from_utf8(bytes).map_err(|error| sqlx::Error::Decode(error.into()))
    }
}
