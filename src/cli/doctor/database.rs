use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::finding::{Finding, chain};
use crate::cli::CliError;
use crate::model::Millis;
use crate::model::store::{self, Examination, StoreError};

const SUBJECT: &str = "database";

/// A clock that differs more than this is worth a word: times of messages and of leases are the database's.
const CLOCK_APART: Duration = Duration::from_secs(1);

/// A commit that takes longer than this makes every message late.
const SLOW_COMMIT: Duration = Duration::from_millis(250);

/// Checks the log without making, migrating or changing it.
pub(super) async fn check(url: &str) -> Finding {
    let found = store::examine(url).await;
    finding(url, found, unix_now())
}

fn finding(url: &str, found: Result<Examination, StoreError>, here: Millis) -> Finding {
    let url = store::shown(url);
    match found {
        Err(error) => {
            let text = chain(&error);
            Finding::fail(SUBJECT, text).exit_code(CliError::from(error).exit_code())
        }
        Ok(Examination::Fleeting) => {
            let text = format!("{url} is gone with the process; store.url = \"sqlite://path\" keeps what is said");
            Finding::warn(SUBJECT, text)
        }
        Ok(Examination::Missing) => {
            Finding::ok(SUBJECT, format!("{url} does not exist yet; the first node makes it, and may"))
        }
        Ok(Examination::Old { applied: 0, .. }) => {
            Finding::ok(SUBJECT, format!("{url} is empty; the first node makes the tables"))
        }
        Ok(Examination::Old { applied, pending }) => {
            let text = format!(
                "{url}, migrations: {applied} applied, {pending} pending; the next node that starts applies what is \
                 pending, so make a backup and stop older nodes first"
            );
            Finding::warn(SUBJECT, text)
        }
        Ok(Examination::Current { applied, users, now, commit }) => {
            let apart = Duration::from_millis(now.abs_diff(here));
            let seen = format!("{url}, migrations: {applied} applied, none pending; users: {users}");
            let took = format!("written in {:.1} ms", commit.as_secs_f64() * 1_000.0);
            if apart > CLOCK_APART {
                let apart = humantime::format_duration(Duration::from_secs(apart.as_secs()));
                let text = format!("{seen}; {took}; its clock differs by {apart} from this machine's: set both by NTP");
                Finding::warn(SUBJECT, text)
            } else if commit > SLOW_COMMIT {
                Finding::warn(SUBJECT, format!("{seen}; {took}, which every message waits for: use a faster disk"))
            } else {
                Finding::ok(SUBJECT, format!("{seen}; {took}; its clock is this machine's"))
            }
        }
    }
}

fn unix_now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::store::StoreErrorKind;

    fn current(now: Millis, commit_ms: u64) -> String {
        let commit = Duration::from_millis(commit_ms);
        let found = Examination::Current { applied: 2, users: 3, now, commit };
        finding("sqlite://log.db", Ok(found), 100_000).to_string()
    }

    #[test]
    fn a_clock_that_is_off_and_a_slow_disk_are_named() {
        assert!(current(100_900, 1).starts_with("ok "));
        assert!(current(103_000, 1).contains("differs by 3s"), "{}", current(103_000, 1));
        assert!(current(97_000, 1).starts_with("WARN"));
        assert!(current(100_000, 300).contains("300.0 ms") && current(100_000, 300).starts_with("WARN"));
    }

    #[test]
    fn an_empty_database_is_well_and_an_older_one_is_named() {
        let old = |applied| finding("mysql://ann:secret@host/log", Ok(Examination::Old { applied, pending: 1 }), 0);
        assert!(old(0).to_string().starts_with("ok "), "{}", old(0));
        let text = old(1).to_string();
        assert!(text.starts_with("WARN") && text.contains("backup") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn an_error_ends_the_program_as_it_would_end_a_node() {
        let failure = |kind| finding("", Err(StoreError::new(kind, "the log")), 0).failure();
        assert_eq!(failure(StoreErrorKind::Unavailable), Some(69));
        assert_eq!(failure(StoreErrorKind::Config), Some(78));
    }
}
