//! Which process holds a lease, so that a restart on the same machine need not wait for the lease of its dead
//! predecessor.

use std::fs;

/// Describes this process: host, process id and the moment it started.
pub(super) fn this_process() -> String {
    let id = std::process::id();
    format!("{} pid {id} started {}", host(), started(id).unwrap_or_default())
}

/// Tells whether a described process is known to be dead: it was on this host and is gone, or its id belongs to another
/// by now.
pub(super) fn is_dead(holder: &str) -> bool {
    let mut words = holder.split(' ');
    let (Some(on), Some("pid"), Some(id), Some("started"), Some(then)) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let Ok(id) = id.parse() else { return false };
    // Without /proc nothing is known.
    on == host() && started(std::process::id()).is_some() && started(id).is_none_or(|now| now != then)
}

/// The host's name, or its boot id where that is shared by containers of different names.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown-host".to_owned() } else { name.replace(' ', "_") }
}

/// When a process started, in clock ticks since boot. `None`: there is no such process, or a zombie only.
fn started(id: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The command's name, in parentheses, may hold spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18).map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_of_this_host_can_be_known_to_be_dead() {
        assert!(!is_dead(&this_process()));
        assert!(!is_dead("elsewhere pid 1 started 0"));
        assert!(!is_dead("nonsense"));
        assert!(is_dead(&format!("{} pid {} started 1", host(), u32::MAX)));
        assert!(is_dead(&format!("{} pid {} started 1", host(), std::process::id())), "the id was given again");
    }
}
