use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::model::store::decode::Cells;

impl Cells for SqliteRow {
    fn number(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }

    fn text(&self, column: usize) -> Result<String, sqlx::Error> {
        self.try_get(column)
    }
}
