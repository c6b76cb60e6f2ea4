//! A node's timelines and outboxes beside a log, driven by chance: commits here and elsewhere, envelopes that are late,
//! repeated or lost, holes that are fetched, sessions that log in, overflow, catch up and go. Every step that can be
//! interrupted is a step of its own.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use tokio::time::{Duration, Instant};

use super::super::local::LocalSession;
use super::super::timeline::Release;
use super::super::timelines::{Fed, Timelines};
use super::{conversation, entry, session, written};
use crate::model::Seq;

const CONVERSATIONS: u64 = 2;
const SESSIONS: usize = 2;

/// Holds three messages; a session catches up while less than two wait.
const OUTBOX: usize = 48;

struct World {
    timelines: Timelines,
    /// The heads of the log.
    heads: [Seq; CONVERSATIONS as usize],
    /// Committed here, not in their timelines yet; and whose own they are.
    committing: VecDeque<(u64, Seq, Option<Arc<LocalSession>>)>,
    /// On their way from other nodes.
    envelopes: Vec<(u64, Seq)>,
    /// Read for holes and not given to the timelines yet.
    mending: Option<Vec<(u64, Seq, Seq)>>,
    sessions: Vec<Session>,
    logins: u64,
}

struct Session {
    local: Arc<LocalSession>,
    phase: Phase,
    /// Per conversation: the last seq it has, or was its own.
    has: [Seq; CONVERSATIONS as usize],
    own: BTreeSet<(u64, Seq)>,
    /// Conversations that were born for it and that it is still to be put into.
    adopt: BTreeSet<u64>,
    /// Those of them that it is in, whose heads are still to be read.
    adopting: BTreeSet<u64>,
    catching: Option<CatchUp>,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Off,
    Attached,
    Read([Seq; CONVERSATIONS as usize]),
    In,
}

struct CatchUp {
    conversation: u64,
    from: Seq,
    /// What was read: up to here, and whether that was a full page.
    page: Option<(Seq, bool)>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    CommitElsewhere,
    CommitHere,
    PassCommit,
    Deliver,
    Repeat,
    Lose,
    Mend,
    LogIn,
    LogOut,
    Adopt,
    CatchUp,
    Read,
}

impl World {
    fn new() -> Self {
        let off = |number| Session {
            local: session(number, number, OUTBOX),
            phase: Phase::Off,
            has: [0; CONVERSATIONS as usize],
            own: BTreeSet::new(),
            adopt: BTreeSet::new(),
            adopting: BTreeSet::new(),
            catching: None,
        };
        Self {
            timelines: Timelines::new(),
            heads: [0; CONVERSATIONS as usize],
            committing: VecDeque::new(),
            envelopes: Vec::new(),
            mending: None,
            sessions: (1..=SESSIONS as u64).map(off).collect(),
            logins: SESSIONS as u64,
        }
    }

    fn head(&mut self, of: u64) -> &mut Seq {
        &mut self.heads[of as usize - 1]
    }

    fn step(&mut self, step: Step, which: u8) {
        let at = usize::from(which);
        let of = 1 + u64::from(which) % CONVERSATIONS;
        let who = at / 2 % SESSIONS;
        match step {
            Step::CommitElsewhere => self.commit_elsewhere(of),
            Step::CommitHere => self.commit_here(of, (which < 200).then_some(who)),
            Step::PassCommit => self.pass_commit(),
            Step::Deliver if !self.envelopes.is_empty() => {
                // Mostly in order.
                let (of, seq) = self.envelopes.remove(if which < 170 { 0 } else { at % self.envelopes.len() });
                self.deliver(of, seq);
            }
            Step::Repeat if !self.envelopes.is_empty() => {
                let (of, seq) = self.envelopes[at % self.envelopes.len()];
                self.deliver(of, seq);
            }
            Step::Lose if !self.envelopes.is_empty() => drop(self.envelopes.remove(at % self.envelopes.len())),
            Step::Deliver | Step::Repeat | Step::Lose => {}
            Step::Mend => self.mend(),
            Step::LogIn => self.log_in(who),
            Step::LogOut => self.log_out(who),
            Step::Adopt => self.adopt(who),
            Step::CatchUp => self.catch_up(who),
            Step::Read => self.read(who, 1 + at % 3),
        }
    }

    fn commit_elsewhere(&mut self, of: u64) {
        *self.head(of) += 1;
        let seq = *self.head(of);
        self.envelopes.push((of, seq));
    }

    fn commit_here(&mut self, of: u64, own: Option<usize>) {
        *self.head(of) += 1;
        let seq = *self.head(of);
        let sender = own.map(|who| &mut self.sessions[who]).filter(|session| session.phase == Phase::In);
        let own = sender.map(|session| {
            session.own.insert((of, seq));
            Arc::clone(&session.local)
        });
        self.committing.push_back((of, seq, own));
    }

    /// What the appender does behind a commit.
    fn pass_commit(&mut self) {
        let Some((of, seq, own)) = self.committing.pop_front() else { return };
        let fed = self.timelines.feed(conversation(of), entry(conversation(of), seq), own.as_ref());
        if matches!(fed, Fed::Unknown | Fed::Taken { stranger: true, .. }) {
            self.note_born(of);
        }
    }

    /// Whoever reads the log waits until what was committed here has passed its timeline.
    fn settle(&mut self) {
        while !self.committing.is_empty() {
            self.pass_commit();
        }
    }

    fn deliver(&mut self, of: u64, seq: Seq) {
        let fed = self.timelines.feed(conversation(of), entry(conversation(of), seq), None);
        if fed == Fed::Unknown || seq == 1 {
            self.note_born(of);
        }
    }

    fn note_born(&mut self, of: u64) {
        for session in self.sessions.iter_mut().filter(|session| session.phase == Phase::In) {
            session.adopt.insert(of);
        }
    }

    fn mend(&mut self) {
        if let Some(rows) = self.mending.take() {
            self.settle();
            for (of, after, head) in rows {
                for seq in after + 1..=head {
                    self.timelines.feed_from_log(conversation(of), entry(conversation(of), seq));
                }
                self.timelines.fetched(conversation(of));
            }
            return;
        }
        let (due, _) = self.timelines.take_due(Instant::now() + Duration::from_secs(1));
        let rows = due.into_iter().map(|(of, after)| (of.get(), after, *self.head(of.get())));
        self.mending = Some(rows.collect());
    }

    fn log_out(&mut self, who: usize) {
        let session = &mut self.sessions[who];
        if session.phase == Phase::In {
            self.timelines.end(&session.local);
            self.logins += 1;
            session.local = super::session(self.logins, who as u64 + 1, OUTBOX);
            session.phase = Phase::Off;
            session.adopt.clear();
            session.adopting.clear();
            session.catching = None;
        }
    }

    fn log_in(&mut self, who: usize) {
        let heads = self.heads;
        let session = &mut self.sessions[who];
        match session.phase {
            Phase::In => {}
            Phase::Off => {
                // It has what it had; what it sent itself counts as had.
                session.own = (1..=CONVERSATIONS)
                    .flat_map(|of| (1..=session.has[of as usize - 1]).map(move |seq| (of, seq)))
                    .collect();
                for of in (1..=CONVERSATIONS).filter(|of| heads[*of as usize - 1] > 0) {
                    self.timelines.attach(conversation(of), &session.local, None);
                }
                // From here on what is born attaches the session by itself.
                session.local.listed();
                session.phase = Phase::Attached;
            }
            Phase::Attached => {
                let attached = |of: u64| session.local.conversations().contains(&conversation(of));
                let read: [Seq; CONVERSATIONS as usize] =
                    std::array::from_fn(|at| if attached(at as u64 + 1) { heads[at] } else { 0 });
                for of in (1..=CONVERSATIONS).filter(|of| attached(*of)) {
                    self.timelines.begin(conversation(of), read[of as usize - 1]);
                }
                session.phase = Phase::Read(read);
            }
            Phase::Read(heads) => {
                session.phase = Phase::In;
                for of in 1..=CONVERSATIONS {
                    let (head, has) = (heads[of as usize - 1], session.has[of as usize - 1]);
                    for seq in has + 1..=head {
                        session.local.outbox.message_from_log(
                            conversation(of),
                            seq,
                            entry(conversation(of), seq).frame,
                        );
                    }
                    let release = self.timelines.release(conversation(of), session.local.number, head);
                    match release {
                        Release::Live => {}
                        Release::Again => session.local.outbox.fall_behind(conversation(of), head + 1),
                        // Born since it listed its conversations.
                        Release::Gone => _ = session.adopt.insert(of),
                    }
                }
            }
        }
    }

    fn adopt(&mut self, who: usize) {
        let heads = self.heads;
        let session = &mut self.sessions[who];
        for of in std::mem::take(&mut session.adopting) {
            self.timelines.begin(conversation(of), heads[of as usize - 1]);
        }
        session.adopting = std::mem::take(&mut session.adopt);
        for &of in &session.adopting {
            if self.timelines.attach(conversation(of), &session.local, None) {
                session.local.outbox.fall_behind(conversation(of), session.has[of as usize - 1] + 1);
            }
        }
    }

    /// One step of what [`catch_up`](super::super::catch_up) does.
    fn catch_up(&mut self, who: usize) {
        let heads = self.heads;
        let session = &mut self.sessions[who];
        let (outbox, number) = (&session.local.outbox, session.local.number);
        if session.phase != Phase::In || outbox.is_half_full() {
            return;
        }
        let Some(mut catching) = session.catching.take() else {
            if let Some((of, _)) = outbox.next_behind() {
                let here = self.timelines.open_buffer(of, number);
                let from = outbox.take_behind(of).unwrap();
                if here {
                    session.catching = Some(CatchUp { conversation: of.get(), from, page: None });
                }
            }
            return;
        };
        let of = conversation(catching.conversation);
        let Some((until, full)) = catching.page.take() else {
            const PAGE: Seq = 2;
            let head = heads[catching.conversation as usize - 1];
            let until = head.min(catching.from + PAGE - 1);
            catching.page = Some((until, until + 1 - catching.from == PAGE));
            session.catching = Some(catching);
            return;
        };
        self.settle();
        let session = &mut self.sessions[who];
        let outbox = &session.local.outbox;
        if catching.from <= until {
            // Row by row: the writer may stop in between.
            if outbox.message_from_log(of, catching.from, entry(of, catching.from).frame) {
                catching.from += 1;
                catching.page = Some((until, full));
                session.catching = Some(catching);
            }
        } else if full || self.timelines.release(of, number, catching.from - 1) == Release::Again {
            self.timelines.open_buffer(of, number);
            session.catching = Some(catching);
        }
    }

    /// The client reads some frames, which must be what comes next.
    fn read(&mut self, who: usize, frames: usize) {
        let session = &mut self.sessions[who];
        for (of, seq) in written(&session.local, frames) {
            assert!(!session.own.contains(&(of, seq)), "session {who} got its own {seq} of {of}, or got it again");
            let has = &mut session.has[of as usize - 1];
            assert!(seq > *has, "session {who} got {seq} of {of} after {has}");
            let gap = (*has + 1..seq).find(|missing| !session.own.contains(&(of, *missing)));
            assert_eq!(gap, None, "session {who} got {seq} of {of} after {has}");
            *has = seq;
            session.own.insert((of, seq));
        }
    }

    /// Lets everything that can happen by itself happen, a sweep too, and checks that nobody lacks anything.
    fn come_to_rest(&mut self) {
        for _ in 0..50 {
            self.settle();
            for of in 1..=CONVERSATIONS {
                let head = *self.head(of);
                if self.timelines.position(conversation(of)).is_some_and(|position| position < head) {
                    self.timelines.due(conversation(of));
                }
                if head > 0 {
                    self.note_born(of);
                }
            }
            self.mend();
            for who in 0..SESSIONS {
                if self.sessions[who].phase != Phase::Off {
                    self.log_in(who);
                }
                self.adopt(who);
                for _ in 0..10 {
                    self.catch_up(who);
                    self.read(who, usize::MAX);
                }
            }
        }
        for (who, session) in self.sessions.iter().enumerate().filter(|(_, session)| session.phase == Phase::In) {
            for of in 1..=CONVERSATIONS {
                let missing = (session.has[of as usize - 1] + 1..=self.heads[of as usize - 1])
                    .find(|seq| !session.own.contains(&(of, *seq)));
                assert_eq!(missing, None, "session {who} never gets it in {of}");
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::CommitElsewhere),
        3 => Just(Step::CommitHere),
        3 => Just(Step::PassCommit),
        4 => Just(Step::Deliver),
        1 => Just(Step::Repeat),
        1 => Just(Step::Lose),
        2 => Just(Step::Mend),
        1 => Just(Step::LogIn),
        1 => (0..10).prop_map(|chance| if chance == 0 { Step::LogOut } else { Step::LogIn }),
        2 => Just(Step::Adopt),
        10 => Just(Step::CatchUp),
        5 => Just(Step::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_session_gets_every_message_of_others_once_and_in_order(
        steps in proptest::collection::vec((steps(), any::<u8>()), 1..400)
    ) {
        let mut world = World::new();
        (0..SESSIONS * 2).for_each(|who| world.log_in(who / 2));
        for (step, which) in steps {
            world.step(step, which);
        }
        world.come_to_rest();
    }
}
