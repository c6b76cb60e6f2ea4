use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::time::{Duration, Instant, advance};

use super::super::local::LocalSession;
use super::super::timeline::Release;
use super::super::timelines::{Fed, Timelines};
use super::{change, conversation, entry, session, user, written};
use crate::model::{MessageKind, Seq};

const ROOM: usize = 1 << 20;
const NOTHING: [Seq; 0] = [];

/// A timeline at `position` and a session of user 1 that is live in it.
fn live(position: Seq) -> (Timelines, Arc<LocalSession>) {
    let timelines = Timelines::new();
    let session = joined(&timelines, 1, position);
    (timelines, session)
}

fn joined(timelines: &Timelines, number: u64, position: Seq) -> Arc<LocalSession> {
    let session = session(number, number, ROOM);
    assert!(timelines.attach(conversation(1), &session, None));
    timelines.begin(conversation(1), position);
    assert_eq!(timelines.release(conversation(1), number, position), Release::Live);
    session
}

fn feed(timelines: &Timelines, seqs: impl IntoIterator<Item = Seq>) {
    for seq in seqs {
        timelines.feed(conversation(1), entry(conversation(1), seq), None);
    }
}

/// The last seq before each hole that is due after so long.
fn due(timelines: &Timelines, after: Duration) -> Vec<Seq> {
    timelines.take_due(Instant::now() + after).0.into_iter().map(|(_, position)| position).collect()
}

fn got(session: &LocalSession) -> Vec<Seq> {
    written(session, usize::MAX).into_iter().map(|(_, seq)| seq).collect()
}

#[test]
fn the_position_of_a_timeline_never_comes_from_an_envelope() {
    let timelines = Timelines::new();
    let session = session(1, 1, ROOM);
    timelines.attach(conversation(1), &session, None);
    feed(&timelines, [7]);
    assert_eq!(timelines.position(conversation(1)), None);
    assert!(timelines.begin(conversation(1), 5), "6 is missing");
    assert_eq!(timelines.position(conversation(1)), Some(5));
    assert_eq!(timelines.release(conversation(1), 1, 5), Release::Live);
    feed(&timelines, [6]);
    assert_eq!(got(&session), [6, 7]);
}

#[test]
fn what_is_out_of_order_waits_and_what_is_known_is_dropped() {
    let (timelines, session) = live(5);
    feed(&timelines, [7, 5, 8, 6, 7, 6]);
    assert_eq!(got(&session), [6, 7, 8]);
}

#[test]
fn a_session_takes_nothing_below_its_floor_for_as_long_as_it_lives() {
    let (timelines, ahead) = live(5);
    let late = joined(&timelines, 2, 8);
    feed(&timelines, [6, 7]);
    assert_eq!((got(&ahead), got(&late)), (vec![6, 7], vec![]), "the log has given it 6, 7 and 8");
    feed(&timelines, [8, 9]);
    assert_eq!((got(&ahead), got(&late)), (vec![8, 9], vec![9]));
}

#[test]
fn whoever_reads_the_log_gets_what_passes_meanwhile_once_and_behind_it() {
    let (timelines, _other) = live(5);
    let session = session(2, 2, ROOM);
    timelines.attach(conversation(1), &session, None);
    feed(&timelines, [6, 7, 8]);
    assert_eq!(got(&session), NOTHING);
    assert_eq!(timelines.release(conversation(1), 2, 7), Release::Live);
    assert_eq!(got(&session), [8]);
}

#[test]
fn more_than_a_buffer_holds_is_read_again() {
    let (timelines, _other) = live(0);
    let session = session(2, 2, ROOM);
    timelines.attach(conversation(1), &session, None);
    feed(&timelines, 1..=300);
    assert_eq!(timelines.release(conversation(1), 2, 200), Release::Again);
    timelines.open_buffer(conversation(1), 2);
    feed(&timelines, [301]);
    assert_eq!(timelines.release(conversation(1), 2, 299), Release::Again, "300 is in no buffer");
    assert_eq!(timelines.release(conversation(1), 2, 300), Release::Live);
    assert_eq!(got(&session), [301]);
}

#[test]
fn a_message_of_its_own_that_waits_for_a_predecessor_is_not_read_back_from_the_log() {
    let (timelines, session) = live(5);
    let frame = entry(conversation(1), 7).frame;
    timelines.feed(conversation(1), entry(conversation(1), 7), Some(&session));
    // It falls behind only now, and its log is ahead of the timeline.
    session.outbox.fall_behind(conversation(1), 6);
    assert!(timelines.open_buffer(conversation(1), 1));
    assert_eq!(session.outbox.take_behind(conversation(1)), Some(6));
    for seq in [6, 7] {
        assert!(session.outbox.message_from_log(conversation(1), seq, frame.clone()));
    }
    assert_eq!(timelines.release(conversation(1), 1, 7), Release::Live);
    assert_eq!(got(&session).len(), 1, "6 alone");
    feed(&timelines, [6]);
    assert_eq!(got(&session), NOTHING);
}

#[test]
fn what_is_known_to_be_its_own_is_forgotten_once_nothing_is_read_any_more() {
    let (timelines, session) = live(5);
    timelines.open_buffer(conversation(1), 1);
    // A resend of what the session sent before it fell behind.
    timelines.feed(conversation(1), entry(conversation(1), 3), Some(&session));
    assert_eq!(timelines.release(conversation(1), 1, 5), Release::Live);
    assert_eq!(session.outbox.own_marks(), 0);
}

#[test]
fn own_marks_outlive_an_overflow_while_catching_up() {
    let (timelines, session) = (Timelines::new(), session(1, 1, 40));
    timelines.attach(conversation(1), &session, None);
    timelines.begin(conversation(1), 0);
    assert_eq!(timelines.release(conversation(1), 1, 0), Release::Live);
    let from_log = |seq| session.outbox.message_from_log(conversation(1), seq, entry(conversation(1), seq).frame);
    session.outbox.fall_behind(conversation(1), 1);
    timelines.open_buffer(conversation(1), 1);
    session.outbox.take_behind(conversation(1));
    timelines.feed(conversation(1), entry(conversation(1), 1), None);
    timelines.feed(conversation(1), entry(conversation(1), 2), Some(&session));
    assert!(from_log(1) && from_log(2));
    // Another conversation's message does not fit: what was read is dropped.
    session.outbox.message(conversation(2), 1, vec![b'x'; 39].into());
    assert_eq!(timelines.release(conversation(1), 1, 2), Release::Live);
    assert_eq!(session.outbox.take_behind(conversation(1)), Some(1));
    timelines.open_buffer(conversation(1), 1);
    assert!(from_log(1) && from_log(2));
    assert_eq!(got(&session), [1], "2 is its own");
}

#[test]
fn what_a_new_timeline_found_below_its_head_does_not_keep_asking_the_log() {
    let timelines = Timelines::new();
    let session = session(1, 1, ROOM);
    timelines.attach(conversation(1), &session, None);
    feed(&timelines, [5]);
    timelines.begin(conversation(1), 5);
    assert_eq!(due(&timelines, Duration::from_secs(1)), [5], "somebody waited: the log is asked once");
    timelines.fetched(conversation(1));
    assert_eq!(due(&timelines, Duration::from_secs(1)), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn a_hole_is_fetched_after_the_park_timer_and_asked_for_again_no_sooner_than_that() {
    let (timelines, _session) = live(5);
    feed(&timelines, [7]);
    advance(Duration::from_millis(19)).await;
    let (holes, next) = timelines.take_due(Instant::now());
    assert_eq!((holes, next), (vec![], Some(Instant::now() + Duration::from_millis(1))));
    advance(Duration::from_millis(1)).await;
    assert_eq!(due(&timelines, Duration::ZERO), [5]);
    // The log has neither 6 nor 7: another node's envelope was faster than this node's view of the log.
    timelines.fetched(conversation(1));
    assert_eq!(due(&timelines, Duration::from_millis(19)), NOTHING);
    assert_eq!(due(&timelines, Duration::from_millis(20)), [5]);
}

#[test]
fn too_much_that_waits_is_dropped_and_fetched_at_once() {
    let (timelines, session) = live(0);
    feed(&timelines, 2..=1026);
    assert_eq!(due(&timelines, Duration::ZERO), [0]);
    for seq in 1..=1026 {
        timelines.feed_from_log(conversation(1), entry(conversation(1), seq));
    }
    timelines.fetched(conversation(1));
    assert_eq!(got(&session).len(), 1026);
    assert_eq!(due(&timelines, Duration::from_secs(1)), NOTHING);
}

#[test]
fn too_much_that_waits_for_a_position_is_fetched_once_there_is_one() {
    let timelines = Timelines::new();
    let session = session(1, 1, ROOM);
    timelines.attach(conversation(1), &session, None);
    feed(&timelines, 10..=10 + 1024);
    assert_eq!(due(&timelines, Duration::ZERO), NOTHING, "nobody knows from where");
    assert!(timelines.begin(conversation(1), 9));
    assert_eq!(due(&timelines, Duration::ZERO), [9]);
}

#[tokio::test(start_paused = true)]
async fn the_park_timer_follows_how_late_predecessors_come_by_themselves() {
    let (timelines, _session) = live(0);
    let mut next = 1;
    let patience = async |lateness: Duration, from_log: bool| {
        for _ in 0..2_000 {
            feed(&timelines, [next + 1]);
            advance(lateness).await;
            if from_log {
                timelines.feed_from_log(conversation(1), entry(conversation(1), next));
            } else {
                feed(&timelines, [next]);
            }
            next += 2;
        }
        feed(&timelines, [next + 1]);
        let timer = timelines.take_due(Instant::now()).1.unwrap() - Instant::now();
        feed(&timelines, [next]);
        next += 2;
        timer
    };
    let at_first = Duration::from_millis(20);
    let mut patience = patience;
    assert_eq!(patience(Duration::from_millis(200), true).await, at_first, "the log's answers do not count");
    let late = patience(Duration::from_millis(40), false).await;
    assert!((Duration::from_millis(70)..Duration::from_millis(95)).contains(&late), "{late:?}");
    assert_eq!(patience(Duration::from_secs(2), false).await, Duration::from_millis(250));
}

#[test]
fn a_join_that_the_head_has_overtaken_is_looked_up() {
    let join = |seq| change(conversation(1), seq, MessageKind::Join, user(9));
    let joined = |fed| match fed {
        Fed::Taken { joined, .. } => joined,
        Fed::Unknown => panic!("the timeline is there"),
    };
    let timelines = Timelines::new();
    let session = session(1, 1, ROOM);
    timelines.attach(conversation(1), &session, None);
    assert_eq!(joined(timelines.feed(conversation(1), join(7), None)), [user(9)], "begin may drop it");
    timelines.begin(conversation(1), 7);
    assert_eq!(joined(timelines.feed(conversation(1), join(7), None)), [user(9)], "it will not be passed on");
    assert_eq!(joined(timelines.feed(conversation(1), join(9), None)), [], "it waits");
    assert_eq!(joined(timelines.feed(conversation(1), entry(conversation(1), 8), None)), [user(9)]);
    let leave = change(conversation(1), 3, MessageKind::Leave, user(8));
    assert_eq!(joined(timelines.feed(conversation(1), leave, None)), [user(8)], "they may have come back since");
}

#[test]
fn who_leaves_gets_the_leave_and_nothing_after_it() {
    let (timelines, leaver) = live(5);
    let stays = joined(&timelines, 2, 5);
    timelines.feed(conversation(1), change(conversation(1), 6, MessageKind::Leave, user(1)), None);
    feed(&timelines, [7]);
    assert_eq!((got(&leaver), got(&stays)), (vec![6], vec![6, 7]));
    assert!(!timelines.holds_user(conversation(1), user(1)));
}

#[test]
fn an_event_reaches_only_who_was_let_in() {
    let (timelines, member) = live(5);
    let outsider = session(2, 2, ROOM);
    timelines.attach(conversation(1), &outsider, None);
    for session in [&member, &outsider] {
        session.welcome();
    }
    timelines.event(conversation(1), None, &entry(conversation(1), 0).frame);
    assert_eq!((got(&member), got(&outsider)), (vec![0], vec![]));
}

#[test]
fn a_log_that_went_back_closes_the_sessions_and_forgets_the_timeline() {
    let (timelines, session) = live(5);
    timelines.reset(conversation(1));
    assert_eq!(session.outbox.closing(), Some(crate::protocol::CloseReason::LogReset));
    assert_eq!(timelines.position(conversation(1)), None);
}

#[test]
fn a_session_that_is_over_leaves_nothing_behind_and_enters_nothing() {
    let (timelines, session) = live(5);
    timelines.end(&session);
    assert_eq!(timelines.position(conversation(1)), None, "the timeline went with its last session");
    assert!(!timelines.attach(conversation(2), &session, None));
    assert_eq!(timelines.position(conversation(2)), None);
    assert_eq!(timelines.feed(conversation(1), entry(conversation(1), 6), None), Fed::Unknown);
}

/// Runs `work` beside `other`, which is repeated until it is done.
fn beside(work: impl FnOnce() + Send, other: impl Fn() + Sync) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                other();
            }
        });
        // Also when the work panics.
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Release);
        ended.unwrap();
    });
}

#[test]
fn a_timeline_is_not_disposed_of_under_a_session_that_enters_it() {
    let timelines = Timelines::new();
    let other = session(1, 1, ROOM);
    let enters = || {
        for number in 2..20_000 {
            let session = session(number, 2, ROOM);
            assert!(timelines.attach(conversation(1), &session, None));
            timelines.begin(conversation(1), 0);
            assert_eq!(timelines.release(conversation(1), number, 0), Release::Live);
            timelines.end(&session);
        }
    };
    beside(enters, || {
        timelines.attach(conversation(1), &other, None);
        timelines.detach(conversation(1), 1);
    });
}

#[test]
fn a_hole_that_begins_while_the_holes_are_listed_is_not_forgotten() {
    let (timelines, _session) = live(0);
    let found = AtomicU64::new(0);
    let holes = || {
        for round in 1..20_000 {
            feed(&timelines, [2 * round]);
            let waiting = Instant::now();
            while found.load(Ordering::Acquire) < 2 * round - 1 {
                assert!(waiting.elapsed() < Duration::from_secs(30), "nobody looks after the hole");
                std::hint::spin_loop();
            }
            feed(&timelines, [2 * round - 1]);
        }
    };
    beside(holes, || {
        for position in due(&timelines, Duration::from_secs(1)) {
            found.fetch_max(position + 1, Ordering::AcqRel);
        }
    });
}
