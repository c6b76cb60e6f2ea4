//! The node loses its lease, or the broker.

use super::*;

fn fenced() -> Budget {
    Budget { expiries: 1, ..nothing() }
}

fn cut_off() -> Budget {
    Budget { disconnections: 1, ..nothing() }
}

#[test]
fn a_node_that_loses_its_lease_misses_nothing() {
    Path { rules: no_audit(), scene: alone(fenced()) }.holds();
}

#[test]
fn a_session_that_comes_when_the_lease_is_lost_misses_nothing() {
    let scene = Scene { messages: 1, ..relay(fenced()) };
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn a_node_that_does_not_notice_that_its_lease_is_gone_loses_a_message() {
    let rules = Rules { fence: Fence::GoesOn, ..no_audit() };
    Path { rules, scene: relay(fenced()) }
        .breaks("has 1 of 2", &["A NEIGHBOUR EXPIRES", "the sender of 2 sees nobody"]);
}

#[test]
fn a_fenced_node_that_writes_its_presence_and_does_not_sweep_loses_a_message() {
    let rules = Rules { fence: Fence::RewritesOnly, ..no_audit() };
    Path { rules, scene: relay(fenced()) }.breaks(
        "has 1 of 2",
        &["A NEIGHBOUR EXPIRES", "the sender of 2 sees nobody", "takes a new lease", "the row of presence is written"],
    );
}

#[test]
fn a_fenced_node_that_sweeps_before_its_presence_is_written_loses_a_message() {
    let rules = Rules { fence: Fence::SweepsThenRewrites, ..no_audit() };
    Path { rules, scene: alone(fenced()) }.breaks(
        "has 1 of 2",
        &[
            "A NEIGHBOUR EXPIRES",
            "a sweep reads the head: 1",
            "the sender of 2 sees nobody",
            "the row of presence is written",
        ],
    );
}

#[test]
fn an_audit_makes_good_even_a_lease_that_is_lost_unnoticed() {
    let rules = Rules { fence: Fence::GoesOn, ..Rules::default() };
    Path { rules, scene: alone(fenced()) }.holds();
}

#[test]
fn an_audit_of_whom_presence_names_does_not_see_the_sessions_of_a_fenced_node() {
    let rules = Rules { fence: Fence::GoesOn, audit: Audit::PresenceRows, ..Rules::default() };
    Path { rules, scene: relay(fenced()) }
        .breaks("has 1 of 2", &["A NEIGHBOUR EXPIRES", "the sender of 2 sees nobody"]);
}

#[test]
fn a_node_that_loses_the_broker_misses_nothing() {
    Path { rules: no_audit(), scene: alone(cut_off()) }.holds();
}

#[test]
fn a_session_that_comes_when_the_broker_is_lost_misses_nothing() {
    let scene = Scene { messages: 1, ..relay(cut_off()) };
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn a_bus_that_resumes_before_its_subjects_are_heard_loses_a_message() {
    let rules = Rules { resumed: Resumed::BeforeTheBarriers, ..no_audit() };
    Path { rules, scene: alone(cut_off()) }.breaks(
        "has 1 of 2",
        &[
            "LOSES THE BROKER",
            "the bus has resumed, without its subjects",
            "a sweep reads the head: 1",
            "nobody hears it",
            "every subject is heard again",
        ],
    );
}

#[test]
fn a_lost_envelope_a_lost_lease_and_a_lost_broker_together_lose_nothing() {
    let scene = alone(Budget { expiries: 1, disconnections: 1, ..one_loss() });
    Path { rules: Rules::default(), scene }.holds();
}
