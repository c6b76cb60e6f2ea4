use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{ClientError, Sent};
use crate::model::Key;
use crate::protocol::ServerFrame;

/// How many requests may wait for their answers; more stay in the handle's queue, whose callers wait.
const MAX_REQUESTS: usize = 1024;

/// How many bytes of requests may wait for their answers.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Who waits for the answer to a request.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// A message on its way into the log. It is repeated until the log has it.
    Send { key: Key, done: oneshot::Sender<Result<Sent, ClientError>> },
    /// A request of the user's. One that must not be done twice is not repeated on a new connection.
    Reply { done: oneshot::Sender<Result<ServerFrame, ClientError>>, once: bool },
    /// The client's own request for a page of history.
    Page,
}

#[derive(Debug)]
struct Entry {
    line: Bytes,
    waiter: Waiter,
    /// It was written to the present connection.
    written: bool,
}

/// Requests without an answer, in the order in which they were made. The number of a request is the `id` on the wire.
///
/// After a login everything is written again in that order, sends with the key they had.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    entries: BTreeMap<u64, Entry>,
    bytes: usize,
    /// Everything below was written to the present connection.
    cursor: u64,
    /// The server is busy: nothing is written before this moment.
    hold_until: Option<Instant>,
}

impl Pending {
    /// Tells whether another request may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.entries.len() < MAX_REQUESTS && self.bytes < MAX_BYTES
    }

    /// Adds a request under a number above all earlier ones.
    pub(crate) fn add(&mut self, number: u64, line: Bytes, waiter: Waiter) {
        self.bytes += line.len();
        self.entries.insert(number, Entry { line, waiter, written: false });
    }

    /// Takes the request that has been answered.
    pub(crate) fn answered(&mut self, number: u64) -> Option<Waiter> {
        let entry = self.entries.remove(&number)?;
        self.bytes -= entry.line.len();
        Some(entry.waiter)
    }

    /// Takes the send that has this key: its message came back from the log before its acknowledgement did.
    pub(crate) fn arrived(&mut self, key: &str) -> Option<Waiter> {
        let has_key = |waiter: &Waiter| matches!(waiter, Waiter::Send { key: own, .. } if own.as_str() == key);
        let number = self.entries.iter().find(|(_, entry)| has_key(&entry.waiter)).map(|(&number, _)| number)?;
        self.answered(number)
    }

    /// Tells whether the request is one that is repeated when the server is busy.
    pub(crate) fn repeats(&self, number: u64) -> bool {
        self.entries.get(&number).is_some_and(|entry| !matches!(entry.waiter, Waiter::Reply { .. }))
    }

    /// Writes a request again after `wait`, because the server was too busy for it. Nothing newer is written before it;
    /// what was under way already may get ahead of it.
    pub(crate) fn refused(&mut self, number: u64, now: Instant, wait: Duration) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.written = false;
            self.cursor = self.cursor.min(number);
            self.hold_until = self.hold_until.max(Some(now + wait));
        }
    }

    /// Returns the moment from which on writing goes on.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.hold_until
    }

    /// Writes what has not been written yet, in order, until `out` holds `enough` bytes.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, enough: usize, now: Instant) -> bool {
        if self.hold_until.is_some_and(|until| now < until) {
            return false;
        }
        self.hold_until = None;
        let mut wrote = false;
        for (&number, entry) in self.entries.range_mut(self.cursor..) {
            if out.len() >= enough {
                break;
            }
            if !entry.written {
                out.extend_from_slice(&entry.line);
                entry.written = true;
                wrote = true;
            }
            self.cursor = number + 1;
        }
        wrote
    }

    /// Forgets what was written, because the connection is gone. Requests that must not be repeated fail.
    pub(crate) fn disconnected(&mut self) {
        self.cursor = 0;
        self.hold_until = None;
        let lost = self.entries.extract_if(.., |_, entry| match entry.waiter {
            Waiter::Send { .. } => false,
            Waiter::Reply { once, .. } => once && entry.written,
            Waiter::Page => true,
        });
        for (_, entry) in lost {
            self.bytes -= entry.line.len();
            if let Waiter::Reply { done, .. } = entry.waiter {
                done.send(Err(ClientError::OutcomeUnknown)).ok();
            }
        }
        for entry in self.entries.values_mut() {
            entry.written = false;
        }
    }

    /// Takes everything out, in order, because the client ends.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Waiter> + use<> {
        self.bytes = 0;
        std::mem::take(&mut self.entries).into_values().map(|entry| entry.waiter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(pending: &mut Pending, number: u64) -> oneshot::Receiver<Result<Sent, ClientError>> {
        let (done, answer) = oneshot::channel();
        let key = Key::new(&format!("k-{number}")).unwrap();
        pending.add(number, Bytes::from(format!("{number};")), Waiter::Send { key, done });
        answer
    }

    fn written(pending: &mut Pending, now: Instant) -> String {
        let mut out = Vec::new();
        pending.write(&mut out, 1 << 16, now);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn everything_is_written_once_per_connection_and_in_order() {
        let mut pending = Pending::default();
        let now = Instant::now();
        let _answers = [send(&mut pending, 1), send(&mut pending, 2)];
        assert_eq!(written(&mut pending, now), "1;2;");
        let _third = send(&mut pending, 3);
        assert_eq!(written(&mut pending, now), "3;");
        assert!(pending.answered(2).is_some());
        pending.disconnected();
        assert_eq!(written(&mut pending, now), "1;3;");
    }

    #[test]
    fn a_refused_send_holds_newer_ones_back_until_it_is_written_again() {
        let mut pending = Pending::default();
        let now = Instant::now();
        let _answers = [send(&mut pending, 1), send(&mut pending, 2)];
        assert_eq!(written(&mut pending, now), "1;2;");
        pending.refused(1, now, Duration::from_millis(80));
        let _third = send(&mut pending, 3);
        assert_eq!(written(&mut pending, now), "");
        assert_eq!(written(&mut pending, now + Duration::from_millis(80)), "1;3;");
    }

    #[test]
    fn what_must_not_be_done_twice_fails_when_the_connection_breaks() {
        let mut pending = Pending::default();
        let reply = |once| {
            let (done, answer) = oneshot::channel();
            (Waiter::Reply { done, once }, answer)
        };
        let ((once, mut broken), (again, mut kept), (late, mut unwritten)) = (reply(true), reply(false), reply(true));
        pending.add(1, Bytes::from_static(b"create;"), once);
        pending.add(2, Bytes::from_static(b"list;"), again);
        assert_eq!(written(&mut pending, Instant::now()), "create;list;");
        pending.add(3, Bytes::from_static(b"later;"), late);
        pending.disconnected();
        assert!(matches!(broken.try_recv(), Ok(Err(ClientError::OutcomeUnknown))));
        assert!(kept.try_recv().is_err() && unwritten.try_recv().is_err());
        assert_eq!(written(&mut pending, Instant::now()), "list;later;");
    }

    #[test]
    fn too_many_or_too_large_requests_are_not_taken() {
        let mut pending = Pending::default();
        for number in 0..MAX_REQUESTS as u64 {
            assert!(pending.has_room());
            drop(send(&mut pending, number));
        }
        assert!(!pending.has_room());
        let mut pending = Pending::default();
        pending.add(1, Bytes::from(vec![0; MAX_BYTES]), Waiter::Page);
        assert!(!pending.has_room());
        pending.answered(1);
        assert!(pending.has_room());
    }
}
