//! Sessions that are too slow, and read the log to catch up.

use super::*;

fn slow(messages: u8) -> Scene {
    Scene { messages, ..alone(Budget { overflows: 1, ..nothing() }) }
}

#[test]
fn a_session_whose_outbox_overflows_catches_up() {
    Path { rules: no_audit(), scene: slow(3) }.holds();
}

#[test]
fn a_session_that_overflows_again_while_it_catches_up_catches_up() {
    let scene = Scene { page: 1, budget: Budget { overflows: 2, ..nothing() }, ..slow(2) };
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn a_session_that_overflows_where_an_envelope_is_lost_catches_up() {
    let scene = Scene { budget: Budget { overflows: 1, losses: 1, ..nothing() }, ..slow(2) };
    Path { rules: Rules::default(), scene }.holds();
}

#[test]
fn a_session_that_is_live_by_a_flag_misses_what_passed_meanwhile() {
    let rules = Rules { release: Release::ByAFlag, ..no_audit() };
    Path { rules, scene: slow(3) }
        .breaks("has 2 of 3", &["DOES NOT FIT", "reads 1 to 2", "the bus brings 3", "session 0 is live behind 2"]);
}

#[test]
fn a_session_that_starts_where_a_frame_did_not_fit_misses_what_was_dropped_before() {
    let rules = Rules { behind: Behind::WhatDidNotFit, ..no_audit() };
    Path { rules, scene: slow(2) }.breaks("got 2 without", &["IS FULL", "the bus brings 2", "will read from Some(2)"]);
}

#[test]
fn a_session_that_stays_behind_from_where_it_was_misses_what_is_dropped_before_that() {
    let rules = Rules { behind: Behind::WhereItWasAlready, ..no_audit() };
    Path { rules, scene: slow(2) }
        .breaks("got 2 without", &["released: Again", "DOES NOT FIT", "will read from Some(2)"]);
}

#[test]
fn a_session_that_is_behind_no_more_before_anything_is_kept_for_it_gets_a_live_message_too_soon() {
    let rules = Rules { catch_up: CatchUp::KeepsLast, ..no_audit() };
    Path { rules, scene: slow(3) }.breaks("without", &["DOES NOT FIT", "is behind no more", "the bus brings 2"]);
}

#[test]
fn a_session_for_which_too_much_was_kept_reads_again() {
    let scene = Scene { kept: 1, ..slow(3) };
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn a_login_for_which_too_much_was_kept_reads_again() {
    let scene = Scene { kept: 0, ..alone(nothing()) };
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn a_release_in_spite_of_an_overflow_loses_what_could_not_be_kept() {
    let rules = Rules { release: Release::DespiteOverflow, ..no_audit() };
    let scene = Scene { kept: 0, ..alone(nothing()) };
    Path { rules, scene }
        .breaks("has 1 of 2", &["reads the head: 1", "the bus brings 2", "is sent 1 to 1 and released: Live"]);
}

#[test]
fn a_sender_that_catches_up_does_not_get_its_own_message() {
    let said = [Said::Elsewhere, Said::ByFirstSession, Said::Elsewhere];
    Path { rules: no_audit(), scene: Scene { said, ..slow(3) } }.holds();
}

#[test]
fn a_sender_that_catches_up_without_waiting_for_commits_gets_its_own_message() {
    let rules = Rules { gate: Gate::OpenForCatchingUp, ..no_audit() };
    let said = [Said::Elsewhere, Said::ByFirstSession, Said::Elsewhere];
    Path { rules, scene: Scene { said, ..slow(2) } }
        .breaks("sent itself", &["this node commits 2 of session 0", "DOES NOT FIT", "reads 1 to 2", "queues 1 to 2"]);
}
