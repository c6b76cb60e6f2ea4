//! The rules of the message path, each a switch: what the path does, and what somebody could build instead.

/// Which rules the modelled path keeps. The default keeps all of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rules {
    /// Presence and subjects come before attaching, attaching before reading.
    pub(super) login: LoginOrder,
    /// A session is registered before its conversations are listed.
    pub(super) registration: Registration,
    /// One task writes presence, so that an old change never overtakes a new one.
    pub(super) presence: Order,
    /// One task subscribes and unsubscribes, in the order in which it is asked to.
    pub(super) subscriptions: Order,
    /// Whoever went on without a barrier is swept for once it lands.
    pub(super) late_barrier: LateBarrier,
    /// `Resumed` is said after every subject's barrier.
    pub(super) resumed: Resumed,
    /// Attaching a session and disposing of an empty timeline happen under one lock.
    pub(super) disposal: Disposal,
    /// The next seq of a new timeline comes from the log.
    pub(super) birth: Birth,
    /// Who was let go with a leave is not taken in again by what was read before it.
    pub(super) adoption: Adoption,
    /// A timeline that may have missed something before it had a position remembers it.
    pub(super) doubt: Doubt,
    /// A session takes nothing at or below its floor, for as long as it is attached.
    pub(super) floor: Floor,
    /// A session is released under its timeline's lock, with nothing missing between what it read and what was kept.
    pub(super) release: Release,
    /// The timeline keeps what passes before the session stops to drop it.
    pub(super) catch_up: CatchUp,
    /// The first seq that was dropped is where catching up starts.
    pub(super) behind: Behind,
    /// Whoever has left gets nothing behind the leave.
    pub(super) leave: Leave,
    /// What is committed on this node goes through its timeline, like the rest.
    pub(super) local: Local,
    /// Whoever reads rows waits until the commits of this node that were running then have reached their timelines.
    pub(super) gate: Gate,
    /// A node that lost its lease writes its presence again and sweeps after that.
    pub(super) fence: Fence,
    /// A publish that failed, or was never made since its node died, makes the other nodes sweep.
    pub(super) failure: Failure,
    /// A sweep that finds a new member has every session looked at, those that still list their conversations, too.
    pub(super) sweep: Sweep,
    /// The audit compares the heads of all conversations of local users.
    pub(super) audit: Audit,
}

/// In which order a login goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum LoginOrder {
    /// The row of presence and the subject, then the timeline, then the log.
    #[default]
    Sound,
    /// A sender sees the session only after it has read the log.
    PresenceAfterTheRead,
    /// The bus brings nothing until the log was read.
    SubjectAfterTheRead,
    /// What passes between the two is nowhere.
    ReadBeforeAttach,
}

/// When a session can be found by whoever adopts it into a new conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Registration {
    /// Before it lists its conversations; what is born meanwhile is noted.
    #[default]
    BeforeListing,
    /// Once it is in the timelines of what it has listed.
    AfterListing,
}

/// Whether the end of an old session can come behind the beginning of the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// One task does it, as it was asked to.
    #[default]
    Kept,
    /// Each end is a task of its own.
    EndsOvertakeBeginnings,
}

/// What follows a barrier that lands after somebody went on without it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum LateBarrier {
    /// One more look into the log.
    #[default]
    Swept,
    /// Nothing.
    Trusted,
}

/// When the bus says that it is back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Resumed {
    /// Once every subject is heard again.
    #[default]
    AfterTheBarriers,
    /// Once it is connected.
    BeforeTheBarriers,
}

/// How an empty timeline is disposed of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Disposal {
    /// Under the lock under which sessions attach.
    #[default]
    UnderTheLock,
    /// While a session that has looked it up is about to attach.
    BesideAReference,
}

/// Where a new timeline begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Birth {
    /// Behind the head that was read from the log.
    #[default]
    FromTheLog,
    /// With the envelope that came first.
    FromTheEnvelope,
}

/// Whom an adoption puts into the timeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Adoption {
    /// Who has not left since the user joined.
    #[default]
    OfWhoHasNotLeft,
    /// Whoever was a member when it read, though they may have been let go since.
    OfWhoWasAMember,
}

/// What a timeline without a position does when it hears that it may lack something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It fetches up to the head once it has one.
    #[default]
    Remembered,
    /// It goes on as if nothing had been said.
    Forgotten,
}

/// How a session is kept from getting twice what it has read from the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Floor {
    /// Its entry in the timeline carries the last seq that it was given from the log.
    #[default]
    AsLongAsAttached,
    /// A sound alternative: reading the log moves the timeline to where the reader is.
    TimelineComesAlong,
    /// What was kept for it is filtered once, when it is released.
    WhenReleased,
    /// Not at all.
    Nowhere,
}

/// When a session that has read the log is live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Release {
    /// When what was kept goes on where the read ended, and all of it is there.
    #[default]
    WithNothingMissing,
    /// Even when more passed than could be kept.
    DespiteOverflow,
    /// Even when keeping began behind the end of the read.
    WhereverKeepingBegan,
    /// When the last page was not full: nothing is kept meanwhile.
    ByAFlag,
}

/// How a session that is behind begins to catch up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum CatchUp {
    /// The timeline keeps what passes, then the conversation is behind no more.
    #[default]
    KeepsFirst,
    /// The conversation is behind no more, then the timeline keeps what passes.
    KeepsLast,
    /// As it should, but not for a session that has left: what was dropped of that stays dropped.
    OnlyOfMembers,
}

/// Where a conversation is behind from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Behind {
    /// From the first of what was dropped.
    #[default]
    FirstDropped,
    /// From what did not fit, though what was queued before it was dropped, too.
    WhatDidNotFit,
    /// From where it was behind already, though what is dropped now is before that.
    WhereItWasAlready,
}

/// What becomes of the sessions of a user who leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Leave {
    /// Live ones go with the leave, those that read the log when they have read it.
    #[default]
    WithTheEntry,
    /// All go when the timeline passes the leave, those that have not read it yet, too.
    AtOnce,
    /// They go when an audit finds them.
    WithTheNextAudit,
}

/// What becomes of a message that was committed on this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Local {
    /// Its timeline passes it on.
    #[default]
    ThroughTheTimeline,
    /// It is given to the sessions directly.
    AroundTheTimeline,
}

/// What stands between this node's commits and its reads of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Gate {
    /// Rows are used once the commits that they may come from have reached their timelines.
    #[default]
    WaitsForCommits,
    /// Rows that fill a hole are used at once.
    OpenForHoles,
    /// Rows with which a session catches up are used at once.
    OpenForCatchingUp,
}

/// What a node does that has lost its lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Fence {
    /// It writes its presence again, and sweeps when the rows are there.
    #[default]
    RewritesThenSweeps,
    /// It sweeps when it notices: senders do not see its sessions before the rows are there.
    SweepsThenRewrites,
    /// It writes its presence again.
    RewritesOnly,
    /// It does not notice.
    GoesOn,
}

/// What follows a message that was committed and not published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Failure {
    /// The node table says so, and the others sweep.
    #[default]
    OthersSweep,
    /// A line in the log file of the sender's node.
    IsLogged,
}

/// For whose sessions a sweep asks whether they belong into a timeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sweep {
    /// For whoever is registered; a session that still lists notes what was born.
    #[default]
    OfWhoIsRegistered,
    /// For those that have listed their conversations: the others will find it themselves.
    OfWhoHasListed,
}

/// What the audit looks at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Audit {
    /// The heads of the conversations of this node's sessions.
    #[default]
    Heads,
    /// Those of the users whom the rows of presence say to be here.
    PresenceRows,
    /// There is none, so that what else repairs is seen alone.
    Never,
}
