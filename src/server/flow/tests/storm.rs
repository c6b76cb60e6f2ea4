//! Everything at once: two nodes on a bus that loses, delays and breaks, clients with small outboxes that read when
//! they like, come and go. Whatever happens, every session has every message of others once and in order.

use std::collections::BTreeSet;
use std::time::Duration;

use bytesize::ByteSize;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::model::{ConversationId, Seq, UserId};
use crate::protocol::ServerFrame;
use crate::server::LimitsConfig;
use crate::server::scene::{Client, Cluster, Host};

const USERS: usize = 3;
const STEPS: usize = 400;

struct Storm {
    chance: StdRng,
    hosts: [Host; 2],
    group: ConversationId,
    users: [UserId; USERS],
    clients: Vec<Client>,
    said: usize,
}

impl Storm {
    async fn log_in(&mut self) {
        let (host, user) = (self.chance.random_range(0..2), self.users[self.chance.random_range(0..USERS)]);
        let client = Client::login_since(&self.hosts[host], user, [(self.group, 0)]).await;
        self.clients.push(client);
    }

    /// Says something short, or something that fills an outbox.
    fn say(&mut self, who: usize) {
        let client = &self.clients[who];
        let body = "x".repeat(if self.chance.random_bool(0.2) { 400 } else { 10 });
        client.say(&format!("{who} {}", self.said), self.group, &body);
        self.said += 1;
    }
}

/// Checks what a session was told so far. Returns how far it has everything. The users have joined one after the other,
/// and nobody sees what was before.
fn check(client: &Client, group: ConversationId, users: &[UserId]) -> Seq {
    let joined = users.iter().position(|user| *user == client.user).unwrap() as Seq;
    let (mut last, mut own) = (joined, BTreeSet::new());
    for frame in &client.frames {
        match frame {
            ServerFrame::Sent { conversation, seq, .. } if *conversation == group => _ = own.insert(*seq),
            ServerFrame::Message(message) if message.conversation == group => {
                assert!(message.seq > last, "{} after {last} for user {}", message.seq, client.user);
                last = message.seq;
            }
            _ => {}
        }
    }
    let messages: BTreeSet<Seq> = client.seqs(group).into_iter().collect();
    assert!(messages.is_disjoint(&own), "user {} got its own: {:?}", client.user, messages.intersection(&own));
    let everything: BTreeSet<Seq> = messages.union(&own).copied().collect();
    (joined + 1..).find(|seq| !everything.contains(seq)).expect("finite") - 1
}

async fn rage(seed: u64) {
    let limits = LimitsConfig { outbox: ByteSize::kib(2), ..LimitsConfig::default() };
    let cluster = Cluster::new().await;
    let hosts = [cluster.start("node-a", limits.clone()).await, cluster.start("node-b", limits).await];
    hosts[0].hears().await;
    hosts[1].hears().await;
    let users = cluster.users(["alice", "bob", "carol"]).await;
    let group = cluster.group(&users).await;
    let mut storm = Storm { chance: StdRng::seed_from_u64(seed), hosts, group, users, clients: Vec::new(), said: 0 };
    storm.log_in().await;
    for _ in 0..STEPS {
        let who = storm.chance.random_range(0..storm.clients.len());
        match storm.chance.random_range(0..100) {
            0..45 => storm.say(who),
            45..75 => {
                let wait = Duration::from_millis(storm.chance.random_range(0..5));
                let read = storm.clients[who].until("nothing", |_| false);
                assert!(tokio::time::timeout(wait, read).await.is_err());
            }
            75..82 if storm.clients.len() < 6 => storm.log_in().await,
            82..84 if storm.clients.len() > 1 => {
                let mut gone = storm.clients.swap_remove(who);
                gone.take();
                check(&gone, group, &users);
            }
            84..87 => cluster.broker.drop_next(storm.chance.random_range(1..4)),
            87..89 => cluster.broker.delay(Duration::from_millis(storm.chance.random_range(0..40))),
            89 => cluster.broker.disconnect(),
            _ => tokio::time::sleep(Duration::from_millis(storm.chance.random_range(0..30))).await,
        }
    }
    // What was lost without a trace comes with the audits.
    tokio::time::sleep(Duration::from_secs(35)).await;
    let head = cluster.log.heads(&[group]).await.unwrap()[0].head;
    for mut client in storm.clients {
        for _ in 0..10_000 {
            if check(&client, group, &users) == head {
                break;
            }
            let read = client.until("nothing", |_| false);
            assert!(tokio::time::timeout(Duration::from_millis(5), read).await.is_err());
        }
        assert_eq!(check(&client, group, &users), head, "seed {seed}, user {}", client.user);
    }
}

#[tokio::test(start_paused = true)]
async fn every_session_gets_everything_whatever_happens() {
    for seed in 0..8 {
        rage(seed).await;
    }
}
