//! Sessions come and go while messages are on their way.

use super::*;

#[test]
fn sessions_that_come_and_go_miss_nothing_though_the_broker_drops_an_envelope() {
    Path { rules: Rules::default(), scene: relay(one_loss()) }.holds();
}

#[test]
fn a_subject_per_node_promises_the_same() {
    let scene = Scene { routing: Routing::PerNode, ..relay(one_loss()) };
    Path { rules: Rules::default(), scene }.holds();
}

#[test]
fn without_faults_nothing_is_ever_repaired() {
    Path { rules: no_audit(), scene: relay(nothing()) }.holds();
}

#[test]
fn without_faults_nothing_is_ever_repaired_with_a_subject_per_node() {
    let scene = Scene { routing: Routing::PerNode, ..relay(nothing()) };
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn a_login_that_commits_presence_after_the_read_loses_a_message() {
    let rules = Rules { login: LoginOrder::PresenceAfterTheRead, ..no_audit() };
    Path { rules, scene: relay(nothing()) }
        .breaks("has 1 of 2", &["reads the head: 1", "the sender of 2 sees nobody", "the row of presence is written"]);
}

#[test]
fn a_login_that_is_heard_after_the_read_loses_a_message() {
    let rules = Rules { login: LoginOrder::SubjectAfterTheRead, ..no_audit() };
    Path { rules, scene: relay(nothing()) }.breaks(
        "has 1 of 2",
        &["reads the head: 1", "the broker takes 2, nobody hears it", "the user's subject is subscribed"],
    );
}

#[test]
fn a_broker_that_counts_who_hears_makes_good_a_login_that_is_heard_late() {
    let rules = Rules { login: LoginOrder::SubjectAfterTheRead, ..no_audit() };
    let scene = Scene { counted: true, ..alone(nothing()) };
    Path { rules, scene }.holds();
}

#[test]
fn a_login_that_reads_before_it_attaches_loses_a_message() {
    let rules = Rules { login: LoginOrder::ReadBeforeAttach, ..no_audit() };
    Path { rules, scene: alone(nothing()) }
        .breaks("has 1 of 2", &["reads the head: 1", "the bus brings 2", "session 0 attaches to a new timeline"]);
}

#[test]
fn an_unsubscription_that_overtakes_the_next_login_makes_it_deaf() {
    let rules = Rules { subscriptions: Order::EndsOvertakeBeginnings, ..no_audit() };
    Path { rules, scene: relay(nothing()) }.breaks(
        "session 1 has 1 of 2",
        &["session 0 ends", "session 1 begins", "A LATE TASK unsubscribes", "the broker takes 2, nobody hears it"],
    );
}

#[test]
fn a_deletion_of_presence_that_overtakes_the_next_login_hides_it() {
    let rules = Rules { presence: Order::EndsOvertakeBeginnings, ..no_audit() };
    Path { rules, scene: relay(nothing()) }.breaks(
        "session 1 has 1 of 2",
        &["session 0 ends", "A LATE TASK deletes", "session 1 begins", "the sender of 2 sees nobody"],
    );
}

#[test]
fn a_login_that_goes_on_without_its_barrier_misses_nothing() {
    let scene = alone(Budget { slow_barriers: 1, ..nothing() });
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn a_barrier_that_lands_late_and_is_trusted_loses_a_message() {
    let rules = Rules { late_barrier: LateBarrier::Trusted, ..no_audit() };
    let scene = alone(Budget { slow_barriers: 1, ..nothing() });
    Path { rules, scene }
        .breaks("has 1 of 2", &["THE BARRIER TAKES TOO LONG", "reads the head: 1", "nobody hears it", "is subscribed"]);
}
