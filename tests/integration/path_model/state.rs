//! One moment of the modelled world: a log, a lossy bus, other nodes that send, and one node that receives for up to
//! two sessions of one user.

/// A message's position in the only conversation.
pub(super) type Seq = u8;

/// The most sessions.
pub(super) const SESSIONS: usize = 2;

/// The most messages.
pub(super) const MESSAGES: usize = 3;

/// A set of seqs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Seqs(u8);

impl Seqs {
    /// Tells whether a seq is among them.
    pub(super) fn contains(self, seq: Seq) -> bool {
        self.0 & (1 << seq) != 0
    }

    /// Adds one.
    pub(super) fn insert(&mut self, seq: Seq) {
        self.0 |= 1 << seq;
    }

    /// Takes one out, and tells whether it was there.
    pub(super) fn remove(&mut self, seq: Seq) -> bool {
        let there = self.contains(seq);
        self.0 &= !(1 << seq);
        there
    }

    /// Keeps those above a seq.
    pub(super) fn keep_above(&mut self, seq: Seq) {
        self.0 &= !((2 << seq) - 1);
    }

    /// Returns how many there are.
    pub(super) fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Tells whether there is none.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns them in order.
    pub(super) fn iter(self) -> impl Iterator<Item = Seq> {
        (0..8).filter(move |&seq| self.contains(seq))
    }
}

/// Everything that matters for what comes next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// The last committed seq.
    pub(super) head: Seq,
    /// How far each message has come on its sender's node.
    pub(super) sendings: [Sending; MESSAGES],
    /// When each message's transaction began, where that matters.
    pub(super) stamps: [u8; MESSAGES],
    /// The ticks since the beginning, where they matter.
    pub(super) tick: u8,
    /// The tick of the last sweep by the clock.
    pub(super) swept_at: u8,
    /// What the broker has accepted and not delivered.
    pub(super) wire: Seqs,
    /// How the node hears the broker.
    pub(super) bus: Bus,
    /// The user's subject.
    pub(super) user: Subject,
    /// The group's subject.
    pub(super) group: Subject,
    /// The user's row of presence, and what the node knows of it.
    pub(super) presence: Presence,
    /// Whether a neighbour has expired the node's lease without it knowing.
    pub(super) fenced: bool,
    /// The node table says that publishes of a sender may be lost.
    pub(super) dirty: bool,
    /// The conversation's timeline on the node.
    pub(super) timeline: Option<Timeline>,
    /// What the task that reads the log is asked for.
    pub(super) wanted: Wanted,
    /// What it is doing.
    pub(super) repair: Repair,
    /// The user's sessions on the node.
    pub(super) sessions: [Session; SESSIONS],
    /// What may still go wrong.
    pub(super) budget: Budget,
    /// What must never be.
    pub(super) wrong: Option<Wrong>,
}

/// How far a message has come on its sender's node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Sending {
    /// It is not said yet.
    #[default]
    Unsaid,
    /// Its transaction has stamped the head, and holds its lock.
    Open,
    /// It is in the log.
    Committed,
    /// The row of presence was seen: the node is to get it.
    Addressed,
    /// Nothing more will be done for it there.
    Done,
}

/// How the node hears the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Bus {
    /// It hears what is in the table of subjects.
    #[default]
    Hears,
    /// The connection is gone.
    Lost,
    /// It is connected, and its subjects are not subscribed again yet.
    Deaf,
}

/// A subject, from whoever holds it to the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    /// Its place in the node's book.
    pub(super) place: Place,
    /// Somebody went on without waiting for the barrier.
    pub(super) uncovered: bool,
    /// What the one task that subscribes is to do, in order.
    pub(super) orders: [Option<Errand>; 3],
    /// It is in the table of the bus: subscribed while connected.
    pub(super) listed: bool,
    /// An unsubscription of its own runs beside the orders. Against the rules.
    pub(super) straying_end: bool,
}

/// A subject's place in the node's book.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// Nobody holds it.
    #[default]
    Vacant,
    /// Its barrier has not landed.
    Joining,
    /// It is heard, or will be with `Resumed`.
    Heard,
}

/// What is to be done about a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Errand {
    /// Subscribe.
    Join,
    /// Unsubscribe.
    Leave,
}

/// The user's row of presence, and what the node knows of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Presence {
    /// It is in the log.
    pub(super) row: bool,
    /// The node has written it.
    pub(super) written: bool,
    /// It may differ from what is wanted.
    pub(super) dirty: bool,
    /// What is on its way to the log.
    pub(super) writing: Option<bool>,
    /// A sweep is owed when it is written.
    pub(super) rewriting: bool,
    /// A deletion of its own runs beside the writer. Against the rules.
    pub(super) straying_end: bool,
}

/// The conversation's timeline on the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Timeline {
    /// The seq to pass on next, once the log was read.
    pub(super) next: Option<Seq>,
    /// What waits for a predecessor.
    pub(super) parked: Seqs,
    /// Something waits, or did and was dropped.
    pub(super) waits: bool,
    /// Something may have been missed before there was a position.
    pub(super) doubted: bool,
    /// It is to be fetched up to the head.
    pub(super) due: bool,
    /// It holds the group's subject.
    pub(super) holds: bool,
}

/// What the task that reads the log is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    /// To look whether the user's sessions belong into the timeline.
    pub(super) adopt: bool,
    /// To compare the timeline with the head.
    pub(super) sweep: bool,
}

/// What the one task that reads the log for the node is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Repair {
    /// Nothing.
    #[default]
    Idle,
    /// It has seen that the user is a member.
    Adopting,
    /// It has attached the user's sessions.
    Adopted,
    /// It has read the head for them.
    Beginning(Seq),
    /// It has read the head, to compare it.
    Sweeping(Seq),
    /// It has read the head for the audit.
    Auditing(Seq),
    /// It has read the rows behind the first seq, up to the second.
    Mending(Seq, Seq),
}

/// One session of the user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Session {
    /// How far it has come.
    pub(super) stage: Stage,
    /// It is in the node's list of sessions.
    pub(super) registered: bool,
    /// It is counted for presence.
    pub(super) counted: bool,
    /// It waits for the row of presence.
    pub(super) awaits_row: bool,
    /// It holds the user's subject.
    pub(super) holds_user: bool,
    /// It holds the group's subject, until the timeline does.
    pub(super) holds_group: bool,
    /// It has found the conversation when it listed them.
    pub(super) member: bool,
    /// It is in the timelines of all that it has listed.
    pub(super) listed: bool,
    /// The conversation was born while it listed.
    pub(super) born: bool,
    /// It has looked the timeline up and not attached. Against the rules.
    pub(super) reference: Reference,
    /// The head that its login has read.
    pub(super) read: Seq,
    /// Its place in the timeline.
    pub(super) attachment: Option<Attachment>,
    /// It was let go with the leave.
    pub(super) parted: bool,
    /// The last seq that was put into its outbox: all up to it was, or is its own.
    pub(super) given: Seq,
    /// The last seq that its client has taken from there, while an overflow may still come.
    pub(super) taken: Seq,
    /// The next message does not fit.
    pub(super) full: bool,
    /// Where the conversation fell behind.
    pub(super) behind: Option<Seq>,
    /// Seqs that the outbox knows to be the session's own.
    pub(super) own: Seqs,
    /// How far it has come with catching up.
    pub(super) reading: Reading,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// It is not there yet.
    #[default]
    Away,
    /// It logs in: how many steps of that are done.
    LoggingIn(u8),
    /// It is logged in.
    Live,
    /// It is over.
    Gone,
}

/// What a session holds that has looked a timeline up without its lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Reference {
    /// Nothing.
    #[default]
    None,
    /// The timeline that is fed.
    Fed,
    /// One that is fed no more.
    Orphan,
}

/// A session's place in the timeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Attachment {
    /// The last seq that it was given from the log.
    pub(super) floor: Seq,
    /// Seqs to come that it has sent itself.
    pub(super) own: Seqs,
    /// What is kept for it while it reads the log.
    pub(super) buffer: Option<Buffer>,
    /// The user has left: nothing more is for it.
    pub(super) left: bool,
    /// The timeline is one that is fed no more. Against the rules.
    pub(super) orphan: bool,
}

/// What is kept for a session that reads the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Buffer {
    /// Everything from this seq on that passed is here, once the timeline has a position.
    pub(super) from: Option<Seq>,
    /// What has passed.
    pub(super) entries: Seqs,
    /// Which of them the session has sent itself.
    pub(super) own: Seqs,
    /// More has passed than could be kept.
    pub(super) overflowed: bool,
}

/// How far a session has come with catching up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Reading {
    /// It is not behind, or has not begun.
    #[default]
    Idle,
    /// The timeline keeps what passes, if the session is there.
    Keeping(bool),
    /// The first missing seq was taken, and the timeline does not keep what passes yet. Against the rules.
    Unkept(Seq),
    /// The page from this seq on is to be read.
    Asking(Seq),
    /// The rows from one seq to another were read; whether the page is full.
    Read(Seq, Seq, bool),
    /// Everything up to this seq was queued; whether there may be more.
    Queued(Seq, bool),
}

/// What may still go wrong, and how often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// The broker accepts an envelope and drops it.
    pub(super) losses: u8,
    /// The broker delivers an envelope once more.
    pub(super) repeats: u8,
    /// The broker does not accept an envelope.
    pub(super) refusals: u8,
    /// A sender's node dies between commit and publish.
    pub(super) deaths: u8,
    /// The node's lease runs out while it lives.
    pub(super) expiries: u8,
    /// The node loses the broker.
    pub(super) disconnections: u8,
    /// A barrier takes longer than a login waits.
    pub(super) slow_barriers: u8,
    /// A frame does not fit into an outbox.
    pub(super) overflows: u8,
    /// The first session ends.
    pub(super) logouts: u8,
}

/// What must never be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wrong {
    /// A session got a seq without its predecessor.
    Gap(usize, Seq),
    /// A session got a seq again.
    Repeat(usize, Seq),
    /// A session got its own message.
    Echo(usize, Seq),
    /// A session got what was said after its user had left.
    BehindTheLeave(usize, Seq),
}

impl World {
    /// Returns the moment before anything.
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, ..Self::default() }
    }
}
