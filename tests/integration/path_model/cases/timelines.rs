//! What a timeline passes on, to whom, and what stands beside it.

use super::*;

#[test]
fn a_timeline_disposed_of_beside_a_reference_leaves_a_session_where_nobody_feeds_it() {
    let rules = Rules { disposal: Disposal::BesideAReference, ..Rules::default() };
    Path { rules, scene: relay(nothing()) }.breaks(
        "session 1 has 1 of 2",
        &[
            "session 1 looks the timeline up",
            "session 0 ends, there is no timeline",
            "session 1 attaches to a timeline that is fed no more",
            "the bus brings 2",
        ],
    );
}

#[test]
fn a_release_of_all_that_was_kept_repeats_what_was_read() {
    let rules = Rules { floor: Floor::Nowhere, ..Rules::default() };
    Path { rules, scene: relay(nothing()) }.breaks(
        "again",
        &[
            "session 1 attaches to the timeline",
            "session 1 reads the head: 1",
            "reaches the timeline",
            "session 1 is sent 1 to 1",
        ],
    );
}

#[test]
fn a_floor_that_ends_with_the_release_lets_a_late_envelope_repeat() {
    let rules = Rules { floor: Floor::WhenReleased, ..Rules::default() };
    Path { rules, scene: relay(nothing()) }.breaks(
        "again",
        &["session 1 reads the head: 1", "session 1 is sent 1 to 1 and released: Live", "reaches the timeline"],
    );
}

#[test]
fn a_timeline_that_comes_along_with_whoever_reads_is_as_good_as_a_floor() {
    let rules = Rules { floor: Floor::TimelineComesAlong, ..Rules::default() };
    Path { rules, scene: relay(one_loss()) }.holds();
}

#[test]
fn what_is_committed_here_and_elsewhere_mixes_in_order() {
    let said = [Said::Elsewhere, Said::Elsewhere, Said::Here];
    let scene = Scene { messages: 3, said, ..alone(one_loss()) };
    Path { rules: Rules::default(), scene }.holds();
}

#[test]
fn a_local_commit_that_goes_around_the_timeline_comes_out_of_order() {
    let rules = Rules { local: Local::AroundTheTimeline, ..Rules::default() };
    let said = [Said::Elsewhere, Said::Here, Said::Elsewhere];
    let scene = Scene { said, ..alone(nothing()) };
    Path { rules, scene }.breaks("got 2", &["this node commits 2", "is sent 1 to 2", "2 reaches the timeline"]);
}

#[test]
fn an_envelope_that_comes_twice_is_passed_on_once() {
    let scene = alone(Budget { repeats: 2, ..nothing() });
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn what_waits_for_a_predecessor_is_bounded_and_fetched_when_it_overflows() {
    let scene = Scene { messages: 3, parked: 1, ..alone(one_loss()) };
    Path { rules: Rules::default(), scene }.holds();
}

#[test]
fn a_session_that_read_less_than_its_neighbour_reads_again() {
    let rules = Rules { release: Release::WhereverKeepingBegan, ..no_audit() };
    Path { rules, scene: Scene::default() }.breaks(
        "without what is before",
        &[
            "session 0 attaches",
            "session 0 reads the head: 0",
            "session 1 takes 1 for the position",
            "session 0 is sent 1 to 0 and released: Live",
        ],
    );
}

#[test]
fn a_sender_does_not_get_its_own_message() {
    let said = [Said::Elsewhere, Said::ByFirstSession, Said::Elsewhere];
    let scene = Scene { messages: 3, said, ..alone(one_loss()) };
    Path { rules: Rules::default(), scene }.holds();
}

#[test]
fn a_repair_that_does_not_wait_for_commits_sends_a_session_its_own_message() {
    let rules = Rules { gate: Gate::OpenForHoles, ..Rules::default() };
    let said = [Said::Elsewhere, Said::ByFirstSession, Said::Elsewhere];
    let scene = Scene { said, ..alone(nothing()) };
    Path { rules, scene }.breaks(
        "sent itself",
        &["this node commits 2 of session 0", "the hole behind 0 is read up to 2", "what was read behind 0 reaches"],
    );
}
