use rlimit::Resource;

use super::finding::Finding;

const SUBJECT: &str = "open files";

/// What a node opens besides its clients: the log, the bus, listeners, timers.
const OWN_FILES: u64 = 100;

/// Fewer are gone with one busy room.
const FEW: u64 = 4_096;

/// Checks how many files, and so clients, a process may have open. The program raises its limit to the hard one when
/// it starts.
pub(super) fn check() -> Finding {
    match rlimit::getrlimit(Resource::NOFILE) {
        Ok((soft, _)) => finding(soft),
        Err(error) => Finding::warn(SUBJECT, format!("the limit cannot be read: {error}; see `ulimit -n`")),
    }
}

fn finding(limit: u64) -> Finding {
    let clients = limit.saturating_sub(OWN_FILES);
    let seen = format!("{limit} allowed, so about {clients} clients on one node");
    if limit < FEW {
        let cure = "raise it with `ulimit -Hn 65536` as root, LimitNOFILE= in a systemd unit, or docker's --ulimit";
        Finding::warn(SUBJECT, format!("{seen}; {cure}"))
    } else {
        Finding::ok(SUBJECT, seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_are_few_clients() {
        assert!(finding(1_024).to_string().starts_with("WARN"));
        assert_eq!(finding(20_000), Finding::ok(SUBJECT, "20000 allowed, so about 19900 clients on one node"));
    }
}
