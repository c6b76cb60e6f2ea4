//! The life of a node: real processes that are asked to stop, killed, and started again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use switchboard::model::store::{Beat, Claim, Claimed, NodeRow, NodeState, Range, Store};
use switchboard::model::{ConversationId, NodeId, Seq, UserId};

use crate::harness::cluster::{Bus, Cluster, Settings, run};
use crate::harness::process::Site;
use crate::harness::{DEADLINE, User, Wire, eventually};

async fn row(log: &dyn Store, node: &str) -> NodeRow {
    let (_, rows) = log.nodes().await.unwrap();
    rows.into_iter().find(|row| row.node.as_str() == node).expect("the node has a row")
}

/// Reads who said what in a conversation, in order.
async fn said(log: &dyn Store, conversation: u64) -> Vec<(Seq, String)> {
    let conversation = ConversationId::new(conversation).unwrap();
    let range = Range { conversation, after: 0, until: Seq::MAX >> 1 };
    let messages = log.messages(&[range], 1_000_000).await.unwrap();
    messages.into_iter().map(|message| (message.seq, message.key.as_str().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_asked_to_stop_answers_what_it_has_accepted() {
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node("node-a"), site.node("node-b"));
    let (mut stopping, staying) = (site.start(&a).await, site.start(&b).await);
    let mut listener = User::new(staying.tcp(), "listener").await;
    let listener_id = listener.id;
    let answered = Arc::new(AtomicU64::new(0));
    let mut speakers = Vec::new();
    for number in 0..4 {
        let mut speaker = User::new(stopping.tcp(), &format!("speaker-{number}")).await;
        let answered = Arc::clone(&answered);
        speakers.push(tokio::spawn(async move {
            let mut sent = BTreeSet::new();
            for burst in 0.. {
                let send =
                    |n: u64| json!({"type": "send", "key": format!("{burst}-{n}"), "to": listener_id, "body": "x"});
                let lines: String = (0..20).map(|n| format!("{}\n", send(n))).collect();
                if !speaker.try_say_bytes(lines.as_bytes()).await {
                    break;
                }
                let mut answers = 0;
                while answers < 20 {
                    let frame = speaker.hear().await;
                    if frame["type"] == "closing" {
                        return (sent, Some(frame), speaker);
                    }
                    assert_eq!(frame["type"], "sent", "{frame}");
                    sent.insert((frame["seq"].as_u64().unwrap(), frame["key"].as_str().unwrap().to_owned()));
                    answers += 1;
                    answered.fetch_add(1, Ordering::AcqRel);
                }
            }
            let closing = speaker.hear_past(&["sent"], "closing").await;
            (sent, Some(closing), speaker)
        }));
    }
    eventually("there is traffic", DEADLINE, || async { answered.load(Ordering::Acquire) > 400 }).await;
    stopping.terminate();
    let mut stored = 0;
    let log = site.log().await;
    let mut expected = Vec::new();
    for speaker in speakers {
        let (sent, closing, mut speaker) = speaker.await.unwrap();
        let closing = closing.unwrap();
        assert_eq!((&closing["code"], &closing["reason"]), (&json!(4001), &json!("drain")));
        assert_eq!(closing["reconnect"], true);
        assert!(closing["after_ms"].as_u64().unwrap() <= 1_000);
        speaker.ended().await;
        expected.push((speaker.id, sent));
    }
    let status = stopping.ended().await;
    assert_eq!(status.code(), Some(0), "{}", stopping.said());
    // What is in the log was acknowledged, and what was acknowledged is in the log.
    for (speaker, sent) in expected {
        let pair = (UserId::new(speaker).unwrap(), UserId::new(listener_id).unwrap());
        let conversation = log.direct(&[pair]).await.unwrap()[0].unwrap();
        let log: BTreeSet<(Seq, String)> = said(&*log, conversation.get()).await.into_iter().collect();
        assert_eq!(log, sent);
        stored += log.len();
    }
    // And all of it has arrived on the other node, once.
    let mut heard = std::collections::HashMap::new();
    for _ in 0..stored {
        let message = listener.hear_past(&["conversation"], "message").await;
        let next = heard.entry(message["conversation"].as_u64().unwrap()).or_insert(1);
        assert_eq!(message["seq"], *next);
        *next += 1;
    }
    listener.quiet().await;
    assert_eq!(row(&*log, "node-a").await.state, NodeState::Stopped);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_under_the_id_of_a_living_node_is_refused() {
    let Some(site) = Site::new().await else { return };
    let first = site.start(&site.node("node-a")).await;
    let mut second = site.launch(&site.node("node-a"));
    assert_eq!(second.ended().await.code(), Some(69), "{}", second.said());
    let said = second.said();
    assert!(said.contains("node.id = \"node-a\" is in use by"), "{said}");
    assert!(said.contains(&format!("pid {}", first.id())), "{said}");
    // The first one has not noticed.
    User::new(first.tcp(), "alice").await.quiet().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_named_with_its_key() {
    let Some(site) = Site::new().await else { return };
    let node = site.node("node-a");
    let _first = site.start(&node).await;
    let other = site.node("node-b");
    for (taken, flag, key) in [(node.tcp, "--tcp", "listen.tcp"), (node.http, "--http", "listen.http")] {
        let mut second = site.launch_with(&other, &[flag, &taken.to_string()]);
        assert_eq!(second.ended().await.code(), Some(1), "{}", second.said());
        let said = second.said();
        assert!(said.contains(&format!("{key} = \"{taken}\" cannot be listened on")), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_that_is_started_again_takes_over_at_once() {
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node("node-a"), site.node("node-b"));
    let (killed, staying) = (site.start(&a).await, site.start(&b).await);
    let log = site.log().await;
    let mut alice = User::new(killed.tcp(), "alice").await;
    let mut bob = User::new(staying.tcp(), "bob").await;
    let first = alice.tell(bob.id, "1", "before").await;
    bob.hear_past(&["conversation"], "message").await;
    let epoch = row(&*log, "node-a").await.epoch;
    killed.kill();
    assert!(alice.hear_any().await.is_none());

    let restarted = site.start(&a).await;
    // One epoch further: nobody had to wait for the lease to run out, which counts as one too.
    assert_eq!(row(&*log, "node-a").await.epoch, epoch + 1);
    let mut alice = alice.again(restarted.tcp(), json!({first.conversation.to_string(): 1})).await;
    alice.expect(json!({"type": "caught_up", "more": []})).await;
    let second = bob.tell(alice.id, "2", "after").await;
    assert_eq!(alice.hear().await, bob.message(second, "2", "after"));
    let third = alice.tell(bob.id, "3", "there again").await;
    assert_eq!(bob.hear().await, alice.message(third, "3", "there again"));
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_of_a_killed_node_go_offline_and_their_messages_wait() {
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node("node-a"), site.node("node-b"));
    let (killed, staying) = (site.start(&a).await, site.start(&b).await);
    let log = site.log().await;
    let alice = User::new(killed.tcp(), "alice").await;
    let mut bob = User::new(staying.tcp(), "bob").await;
    let user = UserId::new(alice.id).unwrap();
    assert_eq!(log.online(&[user]).await.unwrap(), [user]);
    let mut messages = Vec::new();
    let first = bob.tell(alice.id, "before", "x").await;
    messages.push(bob.message(first, "before", "x"));
    let epoch = row(&*log, "node-a").await.epoch;
    killed.kill();
    // Whether or not the others know yet, nothing is lost by sending to it.
    let second = bob.tell(alice.id, "ghost", "x").await;
    messages.push(bob.message(second, "ghost", "x"));
    eventually("presence on the killed node is gone", DEADLINE, || async {
        log.online(&[user]).await.unwrap().is_empty()
    })
    .await;
    let dead = row(&*log, "node-a").await;
    assert_eq!((dead.state, dead.epoch), (NodeState::Expired, epoch + 1));
    let third = bob.tell(alice.id, "offline", "x").await;
    messages.push(bob.message(third, "offline", "x"));
    let mut alice = User::login(staying.tcp(), "alice").await;
    for message in messages {
        alice.expect(message).await;
    }
    alice.expect(json!({"type": "caught_up", "more": []})).await;
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn friends_hear_that_the_users_of_a_killed_node_have_gone() {
    let Some(site) = Site::new().await else { return };
    let (a, b) = (site.node("node-a"), site.node("node-b"));
    let (killed, staying) = (site.start(&a).await, site.start(&b).await);
    let mut alice = User::new(killed.tcp(), "alice").await;
    let mut bob = User::new(staying.tcp(), "bob").await;
    alice.say(json!({"type": "friend_add", "name": "bob"})).await;
    bob.expect(json!({"type": "friend_request", "user": alice.id, "name": "alice"})).await;
    bob.say(json!({"type": "friend_accept", "user": alice.id})).await;
    let presence = |online| json!({"type": "presence", "user": alice.id, "online": online});
    while bob.hear_past(&["ok"], "presence").await != presence(true) {}
    killed.kill();
    assert_eq!(bob.hear_past(&["ok"], "presence").await, presence(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_logged_in_is_sent_away_too_when_a_node_stops() {
    run(Bus::Memory, Settings::default(), async |cluster: &mut Cluster| {
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        let mut guest = Wire::connect(cluster.tcp(0)).await;
        guest.quiet().await;
        let stopping = tokio::spawn(cluster.stop_node(0));
        alice.closed_with(4000, "shutdown").await;
        let closing = guest.closed_with(4000, "shutdown").await;
        assert!(closing["after_ms"].as_u64().unwrap() <= 2_000);
        assert!(stopping.await.unwrap(), "it stopped in order");
        // There is another node, and it knows nobody of the one that is gone.
        let user = UserId::new(alice.id).unwrap();
        assert_eq!(cluster.log.online(&[user]).await.unwrap(), []);
        let mut back = alice.again(cluster.tcp(1), Value::Null).await;
        back.expect(json!({"type": "caught_up", "more": []})).await;
    })
    .await;
}

/// Takes a node's row away from it, as a process elsewhere would that was started under the same id.
async fn usurp(log: &dyn Store, node: &str) -> u64 {
    let claim = Claim {
        node: NodeId::new(node).unwrap(),
        holder: "elsewhere pid 1 started 1".to_owned(),
        tcp: "192.0.2.1:6000".to_owned(),
        http: "192.0.2.1:7000".to_owned(),
        weight: 1,
        lease_ms: 5_000,
        take_over: true,
    };
    match log.node_claim(&claim).await.unwrap() {
        Claimed::Ours { epoch, .. } => epoch,
        Claimed::Held { .. } => panic!("it was to be taken over"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_fenced_comes_back_and_its_sessions_miss_nothing() {
    run(Bus::Memory, Settings::default(), async |cluster: &mut Cluster| {
        let mut alice = User::new(cluster.tcp(0), "alice").await;
        let mut bob = User::new(cluster.tcp(1), "bob").await;
        let bob_id = UserId::new(bob.id).unwrap();
        let first = alice.tell(bob.id, "before", "x").await;
        assert_eq!(bob.hear_past(&["conversation"], "message").await, alice.message(first, "before", "x"));
        let epoch = usurp(&*cluster.log, "node-1").await;
        // With the row went the presence: for a while nobody knows that the user is there.
        assert_eq!(cluster.log.online(&[bob_id]).await.unwrap(), []);
        let fenced = alice.tell(bob.id, "fenced", "x").await;
        bob.expect(alice.message(fenced, "fenced", "x")).await;
        let log = &cluster.log;
        eventually("the node has a row again, and its users their presence", DEADLINE, || async {
            let row = row(&**log, "node-1").await;
            row.epoch > epoch && log.online(&[bob_id]).await.unwrap() == [bob_id]
        })
        .await;
        let back = bob.tell(alice.id, "back", "x").await;
        assert_eq!(alice.hear_past(&["conversation"], "message").await, bob.message(back, "back", "x"));
        let after = alice.tell(bob.id, "after", "x").await;
        bob.expect(alice.message(after, "after", "x")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_id_a_living_process_has_taken_ends() {
    let Some(site) = Site::new().await else { return };
    let mut ousted = site.start(&site.node("node-a")).await;
    let mut alice = User::new(ousted.tcp(), "alice").await;
    let log = site.log().await;
    let epoch = usurp(&*log, "node-a").await;
    let beat = Beat {
        node: NodeId::new("node-a").unwrap(),
        epoch,
        state: NodeState::Ready,
        bus_ok: true,
        heard: false,
        dirty_since: None,
        sessions: 0,
        lease_ms: 5_000,
    };
    let beating = async {
        loop {
            log.node_beat(&beat).await.unwrap();
        }
    };
    let status = tokio::select! {
        status = ousted.ended() => status,
        () = beating => unreachable!("it beats for ever"),
    };
    assert_eq!(status.code(), Some(69), "{}", ousted.said());
    assert!(ousted.said().contains("node.id = \"node-a\" is in use by elsewhere pid 1"), "{}", ousted.said());
    alice.closed_with(4002, "fenced").await;
    log.close().await;
}
