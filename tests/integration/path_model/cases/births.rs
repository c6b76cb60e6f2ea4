//! A conversation comes to be while its member is logged in, or logs in.

use super::*;

fn born(conversation: Conversation, budget: Budget) -> Scene {
    Scene { conversation, budget, ..Scene::default() }
}

#[test]
fn a_conversation_born_while_its_member_logs_in_arrives_whole() {
    let scene = Scene { sessions: 1, ..born(Conversation::BornDirect, one_loss()) };
    Path { rules: Rules::default(), scene }.holds();
}

#[test]
fn a_newborn_conversation_reaches_whoever_logs_in_beside_those_who_are_there() {
    let scene = Scene { messages: 1, ..born(Conversation::BornDirect, nothing()) };
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn a_timeline_that_begins_with_an_envelope_skips_what_was_before() {
    let rules = Rules { birth: Birth::FromTheEnvelope, ..Rules::default() };
    let scene = Scene { sessions: 1, ..born(Conversation::BornDirect, nothing()) };
    Path { rules, scene }.breaks("got 2 without", &["a sender commits 1", "the bus brings 2"]);
}

#[test]
fn a_session_that_is_registered_after_it_has_listed_is_forgotten() {
    let rules = Rules { registration: Registration::AfterListing, ..no_audit() };
    let scene = Scene { sessions: 1, ..born(Conversation::BornDirect, nothing()) };
    Path { rules, scene }.breaks(
        "has 0 of",
        &["lists its conversations: none", "a sender commits 1", "the bus brings 1", "has nothing to attach to"],
    );
}

#[test]
fn a_group_joined_on_another_device_arrives_whole_from_the_join_on() {
    let scene = Scene { messages: 3, sessions: 1, ..born(Conversation::JoinedGroup, nothing()) };
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn a_group_joined_on_another_device_arrives_whole_though_the_broker_drops_an_envelope() {
    let scene = Scene { sessions: 1, ..born(Conversation::JoinedGroup, one_loss()) };
    Path { rules: Rules::default(), scene }.holds();
}

#[test]
fn a_group_that_is_not_fetched_when_its_subject_lands_loses_what_was_said_before() {
    let rules = Rules { late_barrier: LateBarrier::Trusted, ..no_audit() };
    let scene = Scene { messages: 3, sessions: 1, ..born(Conversation::JoinedGroup, nothing()) };
    Path { rules, scene }.breaks(
        "has 2 of 3",
        &[
            "newcomers are attached",
            "reads 2 to 2",
            "the broker takes 3, nobody hears it",
            "the group's subject is subscribed",
        ],
    );
}

#[test]
fn a_join_that_is_not_heard_while_a_session_lists_is_found_by_the_sweep() {
    let scene = Scene { sessions: 1, ..born(Conversation::JoinedGroup, Budget { slow_barriers: 1, ..nothing() }) };
    Path { rules: no_audit(), scene }.holds();
}

#[test]
fn a_sweep_that_leaves_a_session_alone_while_it_lists_loses_the_conversation() {
    let rules = Rules { sweep: Sweep::OfWhoHasListed, ..no_audit() };
    let scene = Scene { sessions: 1, ..born(Conversation::JoinedGroup, Budget { slow_barriers: 1, ..nothing() }) };
    let decisive = ["lists its conversations: none", "the broker takes 1, nobody hears it", "a sweep compares"];
    Path { rules, scene }.breaks("has 1 of 2", &decisive);
}
