//! What a real Redis is asked to bring: a channel per user who is there, and one per group.

use std::time::Duration;

use serde_json::json;
use switchboard::bus::Routing;

use crate::harness::cluster::{Broker, Bus, Cluster, Settings, run};
use crate::harness::{DEADLINE, User, eventually};

/// Returns what stands behind the cluster's name and id in the channels of its Redis.
async fn channels(cluster: &Cluster) -> Vec<String> {
    let Broker::Redis(place) = &cluster.broker else { panic!("a real Redis") };
    let prefix = format!("switchboard.{}.", cluster.log.meta().cluster_id);
    let channels = place.own().channels(&format!("{prefix}*")).await;
    channels.into_iter().map(|channel| channel[prefix.len()..].to_owned()).collect()
}

async fn become_channels(cluster: &Cluster, expected: &[String]) {
    let are = || async { channels(cluster).await == expected };
    eventually("the channels are those that are needed", DEADLINE, are).await;
}

fn inboxes() -> Vec<String> {
    vec!["n.node-0".to_owned(), "n.node-1".to_owned()]
}

fn with<const N: usize>(more: [String; N]) -> Vec<String> {
    let mut all: Vec<String> = inboxes().into_iter().chain(more).collect();
    all.sort();
    all
}

async fn on_its_own_redis(settings: Settings, case: impl AsyncFnOnce(&mut Cluster)) {
    run(Bus::OwnRedis, settings, case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_channel_comes_with_the_login_and_goes_after_the_logout() {
    let settings = Settings { unsubscribe_after: Duration::from_millis(50), ..Settings::default() };
    on_its_own_redis(settings, async |cluster: &mut Cluster| {
        assert_eq!(channels(cluster).await, inboxes());
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        let bob = User::new(cluster.tcp(1), "bob").await;
        let mut device = bob.device(cluster.tcp(0)).await;
        let (alices, bobs) = (format!("u.{}", alice.id), format!("u.{}", bob.id));
        // Whoever is welcomed is heard of.
        assert_eq!(channels(cluster).await, with([alices.clone(), bobs.clone()]));
        let group = alice.found("tea").await;
        let groups = format!("g.{group}");
        become_channels(cluster, &with([alices.clone(), bobs.clone(), groups.clone()])).await;
        alice.say(json!({"type": "group_leave", "conversation": group})).await;
        become_channels(cluster, &with([alices.clone(), bobs.clone()])).await;
        device.say(json!({"type": "logout"})).await;
        device.closed_with(4100, "logout").await;
        drop(bob);
        become_channels(cluster, &with([alices])).await;
        drop(alice);
        become_channels(cluster, &inboxes()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_are_subscribed_again_after_the_broker_was_away() {
    on_its_own_redis(Settings::default(), async |cluster: &mut Cluster| {
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        let mut bob = User::new(cluster.tcp(1), "bob").await;
        let group = alice.found("tea").await;
        bob.join(group).await;
        alice.hear_past(&[], "message").await;
        let expected = with([format!("u.{}", alice.id), format!("u.{}", bob.id), format!("g.{group}")]);
        become_channels(cluster, &expected).await;
        cluster.broker.cut();
        for user in [&mut alice, &mut bob] {
            user.condition("degraded").await;
        }
        cluster.broker.heal().await;
        for user in [&mut alice, &mut bob] {
            user.condition("restored").await;
        }
        become_channels(cluster, &expected).await;
        let sent = alice.post(group, "1", "all well?").await;
        bob.expect(alice.message(sent, "1", "all well?")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_channels_for_users_there_is_one_per_node() {
    let settings = Settings { routing: Routing::PerNode, ..Settings::default() };
    on_its_own_redis(settings, async |cluster: &mut Cluster| {
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        let mut bob = User::new(cluster.tcp(1), "bob").await;
        let group = alice.found("tea").await;
        bob.join(group).await;
        alice.hear_past(&[], "message").await;
        let sent = alice.post(group, "1", "hello").await;
        bob.expect(alice.message(sent, "1", "hello")).await;
        assert_eq!(channels(cluster).await, inboxes());
    })
    .await;
}
