use std::collections::BTreeMap;

use crate::model::Seq;

/// What is known about the place where a conversation begins for this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// `next` is exact.
    Settled,
    /// The first message settles it. Until then the client asks for everything above `since` when it comes back, or,
    /// without it, leaves the choice to the server's own cursor.
    Open { since: Option<Seq> },
}

/// How far one conversation has got: which seqs this client has, by messages it handed out and by its own acknowledged
/// sends.
///
/// `sent` and `message` are unordered between themselves, so an own seq may be known before lower ones have come. Only
/// the contiguous prefix is ever confirmed to the server or named in `since`; what is above a gap is kept as ranges, a
/// few words each.
#[derive(Debug, Clone)]
pub(crate) struct Position {
    start: Start,
    /// Every seq below is had. Meaningless while the start is open.
    next: Seq,
    /// First and last seq of each range above `next`.
    above: BTreeMap<Seq, Seq>,
    /// Up to where `received` was sent on this connection.
    confirmed: Seq,
    /// Up to here the present connection may send nothing, because it was told that this client has it.
    resumed: Seq,
    /// Up to here a live message may come although it is had: a page of history has overtaken it.
    paged: Seq,
}

impl Position {
    /// Makes the position of a conversation whose messages up to `had` are had.
    pub(crate) fn after(had: Seq) -> Self {
        Self { start: Start::Settled, next: had + 1, above: BTreeMap::new(), confirmed: had, resumed: had, paged: 0 }
    }

    /// Makes the position of a conversation of which nothing is known yet but, perhaps, where to ask from.
    pub(crate) fn open(since: Option<Seq>) -> Self {
        Self { start: Start::Open { since }, next: 1, above: BTreeMap::new(), confirmed: 0, resumed: 0, paged: 0 }
    }

    /// Takes a live message; `false`: it is had already.
    pub(crate) fn message(&mut self, seq: Seq) -> bool {
        if self.has(seq) {
            return false;
        }
        if self.start != Start::Settled {
            // Live messages come in order without gaps but own ones, so this is the first that is meant for this
            // client.
            let first = self.above.first_key_value().map_or(seq, |(&own, _)| own.min(seq));
            self.settle(first);
        }
        self.insert(seq);
        true
    }

    /// Takes a message of a page from the log, which has no gaps: what is missing below it will never come.
    pub(crate) fn logged(&mut self, seq: Seq) -> bool {
        let new = !self.has(seq);
        self.had_below(seq);
        self.insert(seq);
        new
    }

    /// Takes the seq of an own message.
    pub(crate) fn own(&mut self, seq: Seq) {
        if !self.has(seq) {
            self.insert(seq);
        }
    }

    /// Counts everything below `seq` as had.
    pub(crate) fn had_below(&mut self, seq: Seq) {
        if self.start != Start::Settled || self.next < seq {
            self.settle(seq.max(self.next));
        }
    }

    /// Goes back to `head`, after the log itself went back.
    pub(crate) fn go_back(&mut self, head: Seq) {
        *self = Self::after(head);
    }

    /// Returns the highest seq of the contiguous prefix, when it is known.
    pub(crate) fn prefix(&self) -> Option<Seq> {
        (self.start == Start::Settled).then(|| self.next - 1)
    }

    /// Returns what to name in `since`; `None`: leave it to the server's cursor.
    pub(crate) fn since(&self) -> Option<Seq> {
        match self.start {
            Start::Settled => Some(self.next - 1),
            Start::Open { since } => since,
        }
    }

    /// Returns what `received` should say, when it would say something new, and counts it as said.
    pub(crate) fn confirm(&mut self) -> Option<Seq> {
        let prefix = self.prefix().filter(|&prefix| prefix > self.confirmed)?;
        self.confirmed = prefix;
        Some(prefix)
    }

    /// Tells whether `received` has not yet said everything.
    pub(crate) fn is_unconfirmed(&self) -> bool {
        self.prefix().is_some_and(|prefix| prefix > self.confirmed)
    }

    /// Forgets what the last connection confirmed, when the next server knows less.
    pub(crate) fn server_knows(&mut self, delivered: Seq) {
        self.confirmed = self.confirmed.min(delivered);
    }

    /// Notes that a new connection was told how far this client is.
    pub(crate) fn resume(&mut self) {
        self.resumed = self.prefix().unwrap_or(0);
        self.paged = 0;
    }

    /// Notes that a page of history reached `seq`.
    pub(crate) fn paged(&mut self, seq: Seq) {
        self.paged = self.paged.max(seq);
    }

    /// Tells whether a message that is had should not have come on this connection.
    pub(crate) fn is_repeated(&self, seq: Seq, live: bool) -> bool {
        seq <= self.resumed || (live && seq > self.paged)
    }

    fn has(&self, seq: Seq) -> bool {
        (self.start == Start::Settled && seq < self.next)
            || self.above.range(..=seq).next_back().is_some_and(|(_, &last)| seq <= last)
    }

    fn settle(&mut self, next: Seq) {
        self.start = Start::Settled;
        self.next = next;
        self.close_gaps();
    }

    fn insert(&mut self, seq: Seq) {
        if self.start == Start::Settled && seq == self.next {
            self.next += 1;
            if !self.above.is_empty() {
                self.close_gaps();
            }
            return;
        }
        if self.start == Start::Settled && seq < self.next {
            return;
        }
        let before = self.above.range(..=seq).next_back().map(|(&first, &last)| (first, last));
        let last = self.above.remove(&(seq + 1)).unwrap_or(seq);
        match before {
            Some((_, end)) if seq <= end => {}
            Some((first, end)) if end + 1 == seq => {
                self.above.insert(first, last);
            }
            _ => {
                self.above.insert(seq, last);
            }
        }
    }

    /// Takes ranges that the prefix has reached into it.
    fn close_gaps(&mut self) {
        while let Some(range) = self.above.first_entry() {
            if *range.key() > self.next {
                break;
            }
            self.next = self.next.max(range.remove() + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_the_union_of_messages_and_own_seqs() {
        let mut position = Position::after(3);
        position.own(6);
        assert_eq!((position.prefix(), position.since()), (Some(3), Some(3)));
        assert!(position.message(4));
        assert_eq!(position.prefix(), Some(4));
        assert!(position.message(5));
        assert_eq!(position.prefix(), Some(6));
        assert!(position.above.is_empty());
        assert_eq!((position.confirm(), position.confirm()), (Some(6), None));
    }

    #[test]
    fn an_acknowledgement_that_comes_late_closes_its_gap() {
        let mut position = Position::after(0);
        for seq in [1, 3, 4, 7] {
            assert!(position.message(seq));
        }
        assert_eq!(position.since(), Some(1));
        position.own(6);
        position.own(2);
        assert_eq!(position.since(), Some(4));
        position.own(5);
        assert_eq!(position.since(), Some(7));
    }

    #[test]
    fn what_is_had_is_not_new() {
        let mut position = Position::after(2);
        assert!(!position.message(2));
        assert!(position.message(5));
        assert!(!position.message(5));
        assert!(!position.logged(5), "a page that jumps over a gap still knows what came live");
        assert!(!position.message(4), "the log said that nothing is there");
        assert_eq!(position.prefix(), Some(5));
    }

    #[test]
    fn the_first_message_settles_where_a_joined_group_begins() {
        let mut position = Position::open(Some(0));
        position.own(12);
        assert_eq!((position.prefix(), position.since()), (None, Some(0)), "11 may be on its way");
        assert!(position.message(11));
        assert_eq!(position.prefix(), Some(12));

        let mut position = Position::open(None);
        position.own(11);
        assert!(position.message(12));
        assert_eq!(position.prefix(), Some(12));
    }

    #[test]
    fn a_log_that_went_back_is_followed() {
        let mut position = Position::after(9);
        position.go_back(4);
        assert!(position.message(5));
        assert_eq!(position.since(), Some(5));
    }

    #[test]
    fn ranges_above_a_gap_stay_few() {
        let mut position = Position::after(0);
        for seq in (2..1000).rev() {
            position.own(seq);
        }
        assert_eq!(position.above.len(), 1);
        assert!(position.message(1));
        assert_eq!(position.prefix(), Some(999));
    }
}
