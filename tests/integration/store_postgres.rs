//! The log on a real PostgreSQL.

use crate::harness::postgres::PostgresLog;

switchboard::store_contract!(
    contract,
    match PostgresLog::new().await {
        Some(log) => log,
        None => return,
    }
);
