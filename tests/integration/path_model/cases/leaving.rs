//! The user leaves the conversation, on another device.

use super::*;

fn leaves() -> Scene {
    Scene { messages: 3, leave: 2, ..Scene::default() }
}

#[test]
fn who_leaves_gets_the_leave_and_nothing_behind_it() {
    Path { rules: no_audit(), scene: Scene { sessions: 1, ..leaves() } }.holds();
}

#[test]
fn who_leaves_while_catching_up_gets_the_leave_and_nothing_behind_it() {
    let scene = Scene { sessions: 1, budget: Budget { overflows: 1, ..nothing() }, ..leaves() };
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn who_is_let_go_with_the_leave_while_reading_the_log_does_not_get_it() {
    let rules = Rules { leave: Leave::AtOnce, ..no_audit() };
    let scene = Scene { sessions: 1, budget: Budget { overflows: 1, ..nothing() }, ..leaves() };
    Path { rules, scene }
        .breaks("has 1 of 2", &["reads the head: 1", "the bus brings 2", "is sent 1 to 1 and released: Gone"]);
}

#[test]
fn who_is_let_go_by_the_audit_hears_what_is_said_behind_the_leave() {
    let rules = Rules { leave: Leave::WithTheNextAudit, ..Rules::default() };
    Path { rules, scene: Scene { sessions: 1, ..leaves() } }
        .breaks("after its user had left", &["a sender commits 3", "reaches the timeline"]);
}

#[test]
fn who_has_left_and_reads_too_slowly_does_not_get_what_only_members_may_read() {
    let rules = Rules { catch_up: CatchUp::OnlyOfMembers, ..no_audit() };
    let scene = Scene { sessions: 1, budget: Budget { overflows: 1, ..nothing() }, ..leaves() };
    Path { rules, scene }.breaks("has 0 of 2", &["the bus brings 2", "DOES NOT FIT", "will read from None"]);
}

#[test]
fn who_has_left_and_is_adopted_by_what_was_read_before_gets_everything_again() {
    let rules = Rules { adoption: Adoption::OfWhoWasAMember, ..no_audit() };
    Path { rules, scene: Scene { sessions: 1, ..leaves() } }.breaks(
        "got 1 again",
        &["is found to be a member", "the bus brings 2", "released: Gone", "newcomers are attached", "reads 1 to 2"],
    );
}
