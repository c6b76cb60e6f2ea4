//! What was acknowledged against what arrived, to the last message.

use std::collections::HashMap;
use std::fmt;

use crate::model::{ConversationId, Key, Seq, UserId};

/// How many findings of each sort are kept in full.
const SHOWN: usize = 20;

/// A session that sends or receives, by its place in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Party(u32);

/// What an arrival was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The first time that this session sees this seq.
    New,
    /// This session has seen the seq already.
    Duplicate,
}

/// The books of one run.
///
/// A receiver expects each acknowledged text of its conversations from its join on, except what it sent itself in the
/// same session. It is kept as ranges of seqs with one gap per own message, so 500 receivers of 20,000 messages are a
/// few megabytes.
#[derive(Debug, Default)]
pub struct Ledger {
    parties: Vec<(UserId, String)>,
    conversations: HashMap<ConversationId, Book>,
    attempted: u64,
    refused: u64,
    acknowledged: u64,
    duplicated: Tally,
    reordered: Tally,
}

#[derive(Debug, Default)]
struct Book {
    acknowledged: Vec<Entry>,
    /// What stands at each seq, as the first receiver saw it.
    seen: HashMap<Seq, (UserId, Box<str>)>,
    receivers: HashMap<Party, Receiver>,
}

#[derive(Debug)]
struct Entry {
    seq: Seq,
    sender: Party,
    key: Box<str>,
}

#[derive(Debug, Default)]
struct Receiver {
    /// Expects seqs above this one.
    after: Seq,
    highest: Seq,
    /// First and last seq of each range, ascending.
    ranges: Vec<(Seq, Seq)>,
    /// Seqs at which it saw another entry than the first receiver did.
    differing: Vec<Seq>,
}

/// One message that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Who should have received it, or did.
    pub receiver: String,
    /// The conversation.
    pub conversation: ConversationId,
    /// Its position there.
    pub seq: Seq,
    /// The sender's key.
    pub key: String,
    /// Who sent it.
    pub sender: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { receiver, conversation, seq, key, sender } = self;
        write!(f, "receiver {receiver}, conversation {conversation}, seq {seq}, key {key}, sender {sender}")
    }
}

/// How often something went wrong, and the first of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// The first of it.
    pub first: Vec<Finding>,
}

impl Tally {
    fn add(&mut self, finding: impl FnOnce() -> Finding) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(finding());
        }
    }
}

/// What became of everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Sends that were tried.
    pub attempted: u64,
    /// Sends that the server acknowledged.
    pub acknowledged: u64,
    /// Sends that the server refused.
    pub refused: u64,
    /// Deliveries that acknowledged messages owe to their receivers.
    pub expected: u64,
    /// Deliveries of those that came.
    pub delivered: u64,
    /// Deliveries that did not come.
    pub lost: Tally,
    /// Deliveries that came again, under the same seq or under another one.
    pub duplicated: Tally,
    /// Deliveries that came after a later seq.
    pub reordered: Tally,
}

impl Verdict {
    /// Returns how many sends were neither acknowledged nor refused.
    pub fn unanswered(&self) -> u64 {
        self.attempted - self.acknowledged - self.refused
    }

    /// Tells whether every message was acknowledged and delivered to everybody exactly once and in order.
    pub fn is_clean(&self) -> bool {
        self.attempted == self.acknowledged
            && self.lost.count == 0
            && self.duplicated.count == 0
            && self.reordered.count == 0
    }
}

impl Ledger {
    /// Enters a session of a user's.
    pub fn party(&mut self, user: UserId, name: impl Into<String>) -> Party {
        self.parties.push((user, name.into()));
        Party(u32::try_from(self.parties.len() - 1).expect("fewer sessions than 2^32"))
    }

    /// Notes that a session expects the texts of a conversation above a seq.
    pub fn joined(&mut self, receiver: Party, conversation: ConversationId, after: Seq) {
        let book = self.conversations.entry(conversation).or_default();
        book.receivers.insert(receiver, Receiver { after, ..Receiver::default() });
    }

    /// Notes that a message is about to be sent.
    pub fn attempted(&mut self) {
        self.attempted += 1;
    }

    /// Notes that the server refused a message.
    pub fn refused(&mut self) {
        self.refused += 1;
    }

    /// Notes that the server acknowledged a message.
    pub fn acknowledged(&mut self, sender: Party, key: &Key, conversation: ConversationId, seq: Seq) {
        self.acknowledged += 1;
        let book = self.conversations.entry(conversation).or_default();
        book.acknowledged.push(Entry { seq, sender, key: key.as_str().into() });
    }

    /// Notes that a text arrived.
    pub fn arrived(
        &mut self,
        receiver: Party,
        conversation: ConversationId,
        seq: Seq,
        from: UserId,
        key: &str,
    ) -> Arrival {
        let book = self.conversations.entry(conversation).or_default();
        let state = book.receivers.entry(receiver).or_default();
        let known = book.seen.entry(seq).or_insert_with(|| (from, key.into()));
        if (known.0, &*known.1) != (from, key) {
            state.differing.push(seq);
        }
        let parties = &self.parties;
        let finding = || Finding {
            receiver: parties[receiver.0 as usize].1.clone(),
            conversation,
            seq,
            key: key.to_owned(),
            sender: name_of(parties, from),
        };
        if !state.insert(seq) {
            self.duplicated.add(finding);
            return Arrival::Duplicate;
        }
        if seq < state.highest {
            self.reordered.add(finding);
        }
        state.highest = state.highest.max(seq);
        Arrival::New
    }

    /// Counts what is owed against what came.
    pub fn finish(&self) -> Verdict {
        let mut verdict = Verdict {
            attempted: self.attempted,
            acknowledged: self.acknowledged,
            refused: self.refused,
            duplicated: self.duplicated.clone(),
            reordered: self.reordered.clone(),
            ..Verdict::default()
        };
        let mut conversations: Vec<_> = self.conversations.iter().collect();
        conversations.sort_by_key(|(conversation, _)| **conversation);
        for (&conversation, book) in conversations {
            self.settle(conversation, book, &mut verdict);
        }
        verdict
    }

    fn settle(&self, conversation: ConversationId, book: &Book, verdict: &mut Verdict) {
        // The same key at a second seq is the same message twice, whatever the seqs say.
        let mut places: HashMap<(UserId, &str), Seq> = HashMap::new();
        for entry in &book.acknowledged {
            places.insert((self.parties[entry.sender.0 as usize].0, &*entry.key), entry.seq);
        }
        let mut seen: Vec<_> = book.seen.iter().map(|(&seq, (from, key))| (seq, *from, &**key)).collect();
        seen.sort_unstable();
        let repeats: Vec<_> =
            seen.into_iter().filter(|&(seq, from, key)| *places.entry((from, key)).or_insert(seq) != seq).collect();
        let mut owed: Vec<&Entry> = book.acknowledged.iter().collect();
        owed.sort_by_key(|entry| entry.seq);
        let mut receivers: Vec<_> = book.receivers.iter().collect();
        receivers.sort_by_key(|(party, _)| **party);
        for (&party, receiver) in receivers {
            let finding = |seq, key: &str, from| Finding {
                receiver: self.parties[party.0 as usize].1.clone(),
                conversation,
                seq,
                key: key.to_owned(),
                sender: name_of(&self.parties, from),
            };
            for &&Entry { seq, sender, ref key } in &owed {
                if seq <= receiver.after || sender == party {
                    continue;
                }
                verdict.expected += 1;
                let from = self.parties[sender.0 as usize].0;
                let same = book.seen.get(&seq).is_some_and(|known| (known.0, &known.1) == (from, key));
                if receiver.has(seq) && same && !receiver.differing.contains(&seq) {
                    verdict.delivered += 1;
                } else {
                    verdict.lost.add(|| finding(seq, key, from));
                }
            }
            for &(seq, from, key) in &repeats {
                if receiver.has(seq) {
                    verdict.duplicated.add(|| finding(seq, key, from));
                }
            }
        }
    }
}

fn name_of(parties: &[(UserId, String)], user: UserId) -> String {
    let known = parties.iter().find(|(party, _)| *party == user);
    known.map_or_else(|| format!("user {user}"), |(_, name)| name.clone())
}

impl Receiver {
    fn has(&self, seq: Seq) -> bool {
        let after = self.ranges.partition_point(|&(first, _)| first <= seq);
        after > 0 && seq <= self.ranges[after - 1].1
    }

    /// Adds a seq; `false`: it is there.
    fn insert(&mut self, seq: Seq) -> bool {
        let after = self.ranges.partition_point(|&(first, _)| first <= seq);
        if after > 0 && seq <= self.ranges[after - 1].1 {
            return false;
        }
        let joins_below = after > 0 && self.ranges[after - 1].1 + 1 == seq;
        let joins_above = self.ranges.get(after).is_some_and(|&(first, _)| first == seq + 1);
        match (joins_below, joins_above) {
            (true, true) => {
                self.ranges[after - 1].1 = self.ranges[after].1;
                self.ranges.remove(after);
            }
            (true, false) => self.ranges[after - 1].1 = seq,
            (false, true) => self.ranges[after].0 = seq,
            (false, false) => self.ranges.insert(after, (seq, seq)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Run {
        ledger: Ledger,
        parties: Vec<Party>,
    }

    fn conversation() -> ConversationId {
        ConversationId::new(3).unwrap()
    }

    fn user(place: usize) -> UserId {
        UserId::new(place as u64 + 1).unwrap()
    }

    /// Makes a run of three users, in which the first has sent the messages 1 to 4.
    fn run() -> Run {
        let mut ledger = Ledger::default();
        let parties: Vec<_> = (0..3).map(|place| ledger.party(user(place), format!("user-{place}"))).collect();
        for &party in &parties {
            ledger.joined(party, conversation(), 0);
        }
        let mut run = Run { ledger, parties };
        for seq in 1..=4 {
            run.acknowledge(0, seq, seq);
        }
        run
    }

    impl Run {
        fn acknowledge(&mut self, sender: usize, key: u64, seq: Seq) {
            self.ledger.attempted();
            let key = Key::new(&format!("k-{key}")).unwrap();
            self.ledger.acknowledged(self.parties[sender], &key, conversation(), seq);
        }

        fn arrive(&mut self, receiver: usize, key: u64, seq: Seq) -> Arrival {
            self.ledger.arrived(self.parties[receiver], conversation(), seq, user(0), &format!("k-{key}"))
        }

        fn arrive_all(&mut self, receiver: usize, seqs: &[Seq]) {
            for &seq in seqs {
                self.arrive(receiver, seq, seq);
            }
        }
    }

    fn counts(verdict: &Verdict) -> [u64; 5] {
        let Verdict { expected, delivered, lost, duplicated, reordered, .. } = verdict;
        [*expected, *delivered, lost.count, duplicated.count, reordered.count]
    }

    #[test]
    fn a_run_without_fault_is_clean() {
        let mut run = run();
        run.arrive_all(1, &[1, 2, 3, 4]);
        run.arrive_all(2, &[1, 2, 3, 4]);
        let verdict = run.ledger.finish();
        assert_eq!(counts(&verdict), [8, 8, 0, 0, 0]);
        assert!(verdict.is_clean());
    }

    #[test]
    fn a_lost_message_is_named() {
        let mut run = run();
        run.arrive_all(1, &[1, 2, 3, 4]);
        run.arrive_all(2, &[1, 2, 4]);
        let verdict = run.ledger.finish();
        assert_eq!(counts(&verdict), [8, 7, 1, 0, 0]);
        assert_eq!(verdict.lost.first[0].to_string(), "receiver user-2, conversation 3, seq 3, key k-3, sender user-0");
        assert!(!verdict.is_clean());
    }

    #[test]
    fn a_receiver_that_got_nothing_lost_everything() {
        let mut run = run();
        run.arrive_all(1, &[1, 2, 3, 4]);
        assert_eq!(counts(&run.ledger.finish()), [8, 4, 4, 0, 0]);
    }

    #[test]
    fn a_second_arrival_is_a_duplicate_and_not_a_reordering() {
        let mut run = run();
        run.arrive_all(1, &[1, 2, 3, 4]);
        run.arrive_all(2, &[1, 2, 3, 4]);
        assert_eq!(run.arrive(2, 2, 2), Arrival::Duplicate);
        let verdict = run.ledger.finish();
        assert_eq!(counts(&verdict), [8, 8, 0, 1, 0]);
        assert_eq!((verdict.duplicated.first[0].seq, verdict.duplicated.first[0].receiver.as_str()), (2, "user-2"));
    }

    #[test]
    fn a_message_stored_twice_is_a_duplicate_for_each_who_saw_both() {
        let mut run = run();
        run.arrive_all(1, &[1, 2, 3, 4]);
        run.arrive_all(2, &[1, 2, 3, 4]);
        run.arrive(1, 4, 5);
        run.arrive(2, 4, 5);
        assert_eq!(counts(&run.ledger.finish()), [8, 8, 0, 2, 0]);
    }

    #[test]
    fn a_message_after_a_later_one_is_reordered() {
        let mut run = run();
        run.arrive_all(1, &[1, 3, 2, 4]);
        run.arrive_all(2, &[4, 1, 2, 3]);
        let verdict = run.ledger.finish();
        assert_eq!(counts(&verdict), [8, 8, 0, 0, 4]);
        assert_eq!(verdict.reordered.first[0].seq, 2);
    }

    #[test]
    fn another_message_at_the_same_seq_is_no_delivery() {
        let mut run = run();
        run.arrive_all(1, &[1, 2, 3, 4]);
        run.arrive_all(2, &[1, 2, 3]);
        run.arrive(2, 9, 4);
        assert_eq!(counts(&run.ledger.finish()), [8, 7, 1, 0, 0]);
        // Two messages acknowledged with one seq: everybody misses one of them.
        run.acknowledge(0, 10, 4);
        assert_eq!(counts(&run.ledger.finish())[2], 3);
    }

    #[test]
    fn nobody_expects_what_they_sent_or_what_was_before_their_join() {
        let mut run = run();
        let late = run.ledger.party(user(5), "late");
        run.ledger.joined(late, conversation(), 3);
        run.arrive_all(1, &[1, 2, 3, 4]);
        run.arrive_all(2, &[1, 2, 3, 4]);
        assert_eq!(counts(&run.ledger.finish()), [9, 8, 1, 0, 0]);
        run.ledger.arrived(late, conversation(), 4, user(0), "k-4");
        assert!(run.ledger.finish().is_clean());
    }

    #[test]
    fn an_unanswered_or_refused_send_is_not_clean() {
        let mut run = run();
        run.arrive_all(1, &[1, 2, 3, 4]);
        run.arrive_all(2, &[1, 2, 3, 4]);
        run.ledger.attempted();
        let verdict = run.ledger.finish();
        assert_eq!((verdict.unanswered(), verdict.is_clean()), (1, false));
        run.ledger.refused();
        let verdict = run.ledger.finish();
        assert_eq!((verdict.unanswered(), verdict.refused, verdict.is_clean()), (0, 1, false));
    }

    #[test]
    fn only_the_first_findings_are_kept() {
        let mut run = run();
        for seq in 5..100 {
            run.acknowledge(0, seq, seq);
        }
        let verdict = run.ledger.finish();
        assert_eq!((verdict.lost.count, verdict.lost.first.len()), (198, 20));
    }

    #[test]
    fn five_hundred_receivers_of_many_messages_stay_small() {
        let mut receiver = Receiver::default();
        for seq in (1..=20_000).filter(|seq| seq % 500 != 0) {
            assert!(receiver.insert(seq));
        }
        assert_eq!(receiver.ranges.len(), 40);
        assert!(receiver.insert(500) && !receiver.insert(500));
        assert_eq!(receiver.ranges.len(), 39);
    }
}
