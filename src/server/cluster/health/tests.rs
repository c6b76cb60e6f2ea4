use tokio::time::advance;

use super::*;
use crate::server::scene::{Client, Cluster};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a second does to a node that hears its canaries, or does not.
async fn second(health: &Health, hears: bool, database_now: Millis) {
    let number = health.next_canary();
    if hears {
        health.heard_canary(number, database_now);
    }
    advance(seconds(1)).await;
    if Instant::now() >= health.canary_due() {
        health.miss_canary();
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_is_deaf_three_seconds_after_its_last_canary_and_hears_again_with_the_third() {
    let health = Health::new(true, 0);
    for second_number in 0..10 {
        second(&health, true, second_number * 1_000).await;
    }
    assert!(health.bus_ok());
    assert_eq!(health.canary_due().duration_since(Instant::now()), seconds(2));
    second(&health, false, 0).await;
    assert!(health.bus_ok());
    second(&health, false, 0).await;
    assert!(!health.bus_ok());
    assert_eq!(*health.heard.borrow(), Heard::Deaf { since: health.since() });
    second(&health, true, 20_000).await;
    second(&health, true, 21_000).await;
    assert!(!health.bus_ok(), "two may be luck");
    second(&health, true, 22_000).await;
    // What was missed came behind the last canary that was heard.
    assert_eq!(*health.heard.borrow(), Heard::Resumed { sweep_since: 9_000 });
}

#[tokio::test(start_paused = true)]
async fn canaries_count_in_a_row_and_late_ones_not_at_all() {
    let health = Health::new(true, 0);
    advance(seconds(3)).await;
    health.miss_canary();
    assert!(!health.bus_ok());
    second(&health, true, 1).await;
    second(&health, true, 2).await;
    for _ in 0..4 {
        second(&health, false, 0).await;
    }
    second(&health, true, 3).await;
    assert!(!health.bus_ok(), "there was a silence between them");
    let late = health.next_canary();
    advance(Duration::from_millis(3_001)).await;
    for _ in 0..3 {
        health.heard_canary(late, 4);
    }
    assert!(!health.bus_ok());
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_does_not_cure_a_deaf_node() {
    let health = Health::new(true, 0);
    advance(seconds(3)).await;
    health.miss_canary();
    health.bus_lost();
    health.bus_resumed(5);
    assert!(!health.bus_ok());
    for _ in 0..3 {
        second(&health, true, 9).await;
    }
    assert!(health.bus_ok());
}

#[tokio::test(start_paused = true)]
async fn a_node_is_outdone_when_it_is_deaf_for_long_and_another_hears_better_for_some_time() {
    let health = Health::new(true, 10_000);
    advance(seconds(3)).await;
    assert!(!health.is_outdone(Some(20_000)));
    advance(seconds(9)).await;
    assert!(!health.is_outdone(Some(20_000)), "it is not known to be deaf");
    health.miss_canary();
    advance(Duration::from_millis(4_999)).await;
    assert!(!health.is_outdone(Some(20_000)), "it is not deaf for long");
    advance(Duration::from_millis(1)).await;
    assert!(health.is_outdone(Some(14_000)));
    assert!(!health.is_outdone(Some(13_999)), "nobody hears so much better");
    advance(seconds(9)).await;
    assert!(!health.is_outdone(Some(14_000)), "once");
    advance(Duration::from_millis(2_999)).await;
    assert!(!health.is_outdone(Some(14_000)), "not for long");
    advance(Duration::from_millis(1)).await;
    assert!(health.is_outdone(Some(14_000)));
    assert!(!health.is_outdone(None), "nobody else is there");
    for _ in 0..3 {
        second(&health, true, 30_000).await;
    }
    for _ in 0..9 {
        second(&health, true, 30_000).await;
        assert!(!health.is_outdone(Some(90_000)), "it hears again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_without_its_bus_is_outdone_too_and_then_a_connection_alone_does_not_bring_it_back() {
    let health = Health::new(true, 10_000);
    health.bus_lost();
    for _ in 0..5 {
        assert!(!health.is_outdone(Some(20_000)));
        second(&health, false, 0).await;
    }
    assert!(health.is_outdone(Some(20_000)));
    health.bus_resumed(9_000);
    assert!(!health.bus_ok());
    for _ in 0..3 {
        second(&health, true, 30_000).await;
    }
    assert!(health.bus_ok());
}

#[tokio::test(start_paused = true)]
async fn one_trouble_after_another_is_told_once() {
    let cluster = Cluster::new().await;
    let a = cluster.node("node-a").await;
    a.hears().await;
    let [alice] = cluster.users(["alice"]).await;
    let mut client = Client::login(&a, alice).await;
    let before = client.conditions();
    for since in [5, 9, 9, 0, 0, 12] {
        a.core.health.tell(&a.core, since);
    }
    client.take();
    assert_eq!(client.conditions()[before.len()..], [5, 0, 12]);
}
