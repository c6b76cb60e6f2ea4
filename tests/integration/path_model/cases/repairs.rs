//! What the broker drops, and what finds it.

use super::*;

#[test]
fn a_lost_envelope_with_nothing_behind_it_is_found_by_the_audit_alone() {
    Path { rules: no_audit(), scene: alone(one_loss()) }
        .breaks("has 1 of 2", &["a sender commits 2", "THE BROKER TAKES 2 AND DROPS IT"]);
}

#[test]
fn a_publish_that_fails_makes_the_others_sweep() {
    let scene = relay(Budget { refusals: 1, ..nothing() });
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn a_publish_that_fails_and_is_only_logged_loses_a_message() {
    let rules = Rules { failure: Failure::IsLogged, ..no_audit() };
    let scene = alone(Budget { refusals: 1, ..nothing() });
    Path { rules, scene }.breaks("has 1 of 2", &["a sender commits 2", "THE BROKER DOES NOT TAKE 2"]);
}

#[test]
fn a_sender_that_dies_between_commit_and_publish_makes_the_others_sweep() {
    let scene = alone(Budget { deaths: 1, ..nothing() });
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn a_sender_whose_death_is_only_logged_loses_a_message() {
    let rules = Rules { failure: Failure::IsLogged, ..no_audit() };
    let scene = alone(Budget { deaths: 1, ..nothing() });
    Path { rules, scene }.breaks("has 1 of 2", &["a sender commits 2", "THE SENDER'S NODE DIES"]);
}

#[test]
fn a_sweep_that_meets_a_timeline_without_a_position_must_be_remembered() {
    let rules = Rules { doubt: Doubt::Forgotten, ..no_audit() };
    let scene = alone(Budget { refusals: 1, ..nothing() });
    Path { rules, scene }.breaks(
        "has 1 of 2",
        &["reads the head: 1", "DOES NOT TAKE 2", "a sweep compares the timeline with 2", "takes 1 for the position"],
    );
}

fn by_the_clock(clock: Clock) -> Path {
    let scene = Scene { clock: Some(clock), messages: 1, ..alone(one_loss()) };
    Path { rules: no_audit(), scene }
}

#[test]
fn sweeps_that_look_back_as_far_as_a_transaction_lasts_find_all() {
    by_the_clock(Clock { overlap: 1, cut: true }).holds();
}

#[test]
fn sweeps_that_look_back_less_than_a_transaction_lasts_miss_what_it_commits() {
    by_the_clock(Clock { overlap: 0, cut: true }).breaks(
        "has 0 of 1",
        &[
            "stamps the head at tick 0",
            "a sweep reads",
            "a sweep reads",
            "a sender commits 1",
            "AND DROPS IT",
            "since tick 1: 0",
        ],
    );
}

#[test]
fn a_transaction_that_is_not_cut_outlasts_any_overlap() {
    by_the_clock(Clock { overlap: 1, cut: false }).breaks(
        "has 0 of 1",
        &[
            "stamps the head at tick 0",
            "a sweep reads",
            "a sweep reads",
            "a sweep reads",
            "a sender commits 1",
            "since tick 1: 0",
        ],
    );
}
