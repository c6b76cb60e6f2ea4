//! Nodes and their leases.

use super::FreshLog;
use super::scene::{claim, node, put, until_past, users};
use crate::model::Millis;
use crate::model::store::{Beat, Beaten, Claim, Claimed, NodeRow, NodeState, PresenceChange, Store, StoreError};

fn ours(claimed: Claimed) -> (u64, Millis) {
    match claimed {
        Claimed::Ours { epoch, now } => (epoch, now),
        held => panic!("{held:?}"),
    }
}

fn beat(id: &str, epoch: u64) -> Beat {
    Beat {
        node: node(id),
        epoch,
        state: NodeState::Ready,
        bus_ok: true,
        heard: false,
        dirty_since: None,
        sessions: 0,
        lease_ms: 60_000,
    }
}

async fn row(store: &dyn Store, id: &str) -> Result<NodeRow, StoreError> {
    let (_, rows) = store.nodes().await?;
    Ok(rows.into_iter().find(|row| row.node == node(id)).expect("claimed before"))
}

/// Claims a node and waits until its lease of a millisecond has run out.
async fn lapsed(store: &dyn Store, id: &str) -> Result<u64, StoreError> {
    let (epoch, _) = ours(store.node_claim(&Claim { lease_ms: 1, ..claim(id, "a process") }).await?);
    let until = row(store, id).await?.lease_until;
    until_past(store, until).await?;
    Ok(epoch)
}

/// Claims two nodes.
pub async fn a_first_claim_gets_the_first_epoch_and_shows_in_the_table(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let (epoch, now) = ours(store.node_claim(&Claim { weight: 7, ..claim("a", "host 12") }).await?);
    ours(store.node_claim(&claim("b", "host 13")).await?);
    assert_eq!(epoch, 1);
    let (clock, rows) = store.nodes().await?;
    assert!(clock >= now && rows.len() == 2);
    let expected = NodeRow {
        node: node("a"),
        epoch: 1,
        holder: "host 12".to_owned(),
        tcp: "127.0.0.1:6000".to_owned(),
        http: "127.0.0.1:7000".to_owned(),
        weight: 7,
        state: NodeState::Starting,
        bus_ok: false,
        heard_at: None,
        dirty_since: None,
        sessions: 0,
        beat_at: now,
        lease_until: now + 60_000,
        drain_asked_at: None,
    };
    assert_eq!(row(&*store, "a").await?, expected);
    Ok(())
}

/// Claims a node twice, by two processes.
pub async fn a_live_lease_refuses_another_holder(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (store, other) = (log.open().await?, log.open().await?);
    let (epoch, now) = ours(store.node_claim(&claim("a", "the first")).await?);
    let refused = other.node_claim(&claim("a", "the second")).await?;
    assert_eq!(refused, Claimed::Held { holder: "the first".to_owned(), lease_until: now + 60_000 });
    assert!(matches!(store.node_beat(&beat("a", epoch)).await?, Beaten::Alive { .. }));

    let lapsed = lapsed(&*store, "b").await?;
    assert_eq!(ours(other.node_claim(&claim("b", "the second")).await?).0, lapsed + 1);
    Ok(())
}

/// Claims a node twice, by one process.
pub async fn the_same_holder_claims_again_with_a_higher_epoch(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let (first, _) = ours(store.node_claim(&claim("a", "a process")).await?);
    let (second, _) = ours(store.node_claim(&claim("a", "a process")).await?);
    assert!(second > first);
    assert_eq!(store.node_beat(&beat("a", first)).await?, Beaten::Fenced);
    Ok(())
}

/// Takes the row of a process that is known to be dead.
pub async fn a_takeover_fences_the_earlier_holder_and_drops_its_presence(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (store, other) = (log.open().await?, log.open().await?);
    let all = users(&*store, 1).await?;
    let (first, then) = ours(store.node_claim(&claim("a", "the first")).await?);
    assert!(store.presence_change(&node("a"), first, &[PresenceChange { user: all[0], here: true }]).await?);
    let (second, _) = ours(other.node_claim(&Claim { take_over: true, ..claim("a", "the second") }).await?);
    assert!(second > first);
    assert!(other.online(&all).await?.is_empty());
    let row = row(&*store, "a").await?;
    assert_eq!((row.holder.as_str(), row.dirty_since), ("the second", Some(then)));
    let before = store.nodes().await?.1;
    assert_eq!(store.node_beat(&beat("a", first)).await?, Beaten::Fenced);
    assert_eq!(store.nodes().await?.1, before);
    Ok(())
}

/// Races two processes for one row.
pub async fn two_stores_that_claim_one_node_at_once_do_not_both_get_it(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (one, other) = (log.open().await?, log.open().await?);
    for round in 0..10 {
        let id = format!("node-{round}");
        let (first, second) = (claim(&id, "the first"), claim(&id, "the second"));
        let (here, there) = tokio::join!(one.node_claim(&first), other.node_claim(&second));
        let both = [here?, there?];
        assert_eq!(both.iter().filter(|claimed| matches!(claimed, Claimed::Ours { .. })).count(), 1, "{both:?}");
    }
    Ok(())
}

/// Beats with everything set, then with nothing.
pub async fn a_beat_renews_the_lease_and_writes_the_condition(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let (epoch, claimed) = ours(store.node_claim(&claim("a", "a process")).await?);
    let full = Beat { heard: true, dirty_since: Some(5), sessions: 17, lease_ms: 90_000, ..beat("a", epoch) };
    let Beaten::Alive { now } = store.node_beat(&full).await? else { panic!("fenced") };
    assert!(now >= claimed);
    let found = row(&*store, "a").await?;
    assert_eq!((found.state, found.bus_ok, found.sessions), (NodeState::Ready, true, 17));
    assert_eq!((found.heard_at, found.dirty_since), (Some(now), Some(5)));
    assert_eq!((found.beat_at, found.lease_until), (now, now + 90_000));

    let bare = Beat { state: NodeState::Draining, bus_ok: false, ..beat("a", epoch) };
    assert!(matches!(store.node_beat(&bare).await?, Beaten::Alive { .. }));
    let found = row(&*store, "a").await?;
    assert_eq!((found.state, found.bus_ok, found.sessions), (NodeState::Draining, false, 0));
    assert_eq!((found.heard_at, found.dirty_since), (Some(now), None));
    assert_eq!(store.node_beat(&beat("b", epoch)).await?, Beaten::Fenced);
    Ok(())
}

/// Expires a node from two stores, then lets it beat.
pub async fn a_lease_that_has_run_out_is_expired_once(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (store, other) = (log.open().await?, log.open().await?);
    let all = users(&*store, 2).await?;
    let epoch = lapsed(&*store, "a").await?;
    let (b, _) = ours(store.node_claim(&claim("b", "another process")).await?);
    let come = |user| [PresenceChange { user, here: true }];
    assert!(store.presence_change(&node("a"), epoch, &come(all[0])).await?);
    assert!(store.presence_change(&node("b"), b, &come(all[1])).await?);

    assert!(other.node_expire(&node("a"), epoch + 1).await?.is_none());
    let id = node("a");
    let (here, there) = tokio::join!(store.node_expire(&id, epoch), other.node_expire(&id, epoch));
    let answers = [here?, there?];
    let there_were = Some(all[..1].to_vec());
    assert!(answers == [there_were.clone(), None] || answers == [None, there_were], "{answers:?}");
    assert_eq!(store.online(&all).await?, all[1..]);
    let found = row(&*store, "a").await?;
    assert_eq!((found.state, found.epoch), (NodeState::Expired, epoch + 1));

    for epoch in [epoch, epoch + 1] {
        assert_eq!(store.node_beat(&beat("a", epoch)).await?, Beaten::Fenced);
        assert!(!store.presence_change(&node("a"), epoch, &come(all[0])).await?);
    }
    assert_eq!(ours(store.node_claim(&claim("a", "a new process")).await?).0, epoch + 2);
    Ok(())
}

/// Expires a node with many users, one of whom is elsewhere too, and one on which nobody is.
pub async fn an_expiry_tells_who_was_there(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 5).await?;
    let epoch = lapsed(&*store, "a").await?;
    let come: Vec<_> = [4, 0, 2].map(|place: usize| PresenceChange { user: all[place], here: true }).into();
    assert!(store.presence_change(&node("a"), epoch, &come).await?);
    put(&*store, "b", &all[..2]).await?;
    assert_eq!(store.node_expire(&node("a"), epoch).await?, Some(vec![all[0], all[2], all[4]]));
    assert_eq!(store.online(&all).await?, all[..2]);
    let empty = lapsed(&*store, "c").await?;
    assert_eq!(store.node_expire(&node("c"), empty).await?, Some(Vec::new()));
    Ok(())
}

/// Tries to expire a node whose lease holds, and one that has beaten again.
pub async fn a_live_lease_is_not_expired(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let (epoch, _) = ours(store.node_claim(&claim("a", "a process")).await?);
    assert!(store.node_expire(&node("a"), epoch).await?.is_none());
    let late = lapsed(&*store, "b").await?;
    assert!(matches!(store.node_beat(&beat("b", late)).await?, Beaten::Alive { .. }));
    assert!(store.node_expire(&node("b"), late).await?.is_none());
    assert_eq!(row(&*store, "b").await?.state, NodeState::Ready);
    assert!(store.node_expire(&node("nowhere"), 1).await?.is_none());
    Ok(())
}

/// Asks a node to drain twice, from two stores, then has it claimed anew.
pub async fn a_wish_to_drain_stands_until_the_next_claim(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (store, other) = (log.open().await?, log.open().await?);
    let (epoch, now) = ours(store.node_claim(&claim("a", "a process")).await?);
    ours(store.node_claim(&claim("b", "another process")).await?);
    assert!(other.node_drain(&node("a"), epoch).await?);
    let asked = row(&*store, "a").await?.drain_asked_at;
    assert!(asked.is_some_and(|asked| asked >= now), "{asked:?}");
    assert_eq!(row(&*store, "b").await?.drain_asked_at, None);
    until_past(&*store, asked.unwrap_or_default()).await?;
    assert!(store.node_drain(&node("a"), epoch).await?);
    assert!(matches!(store.node_beat(&beat("a", epoch)).await?, Beaten::Alive { .. }));
    assert_eq!(row(&*store, "a").await?.drain_asked_at, asked, "the first wish stays, and a beat leaves it alone");
    let (next, _) = ours(store.node_claim(&claim("a", "a process")).await?);
    assert_eq!(row(&*store, "a").await?.drain_asked_at, None);
    assert!(!store.node_drain(&node("a"), epoch).await?, "the wish was for an earlier holder");
    assert!(store.node_drain(&node("a"), next).await?);
    Ok(())
}

/// Asks nodes to drain that are stopped, whose lease has run out, that are expired, and that never were.
pub async fn who_does_not_live_is_not_asked_to_drain(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let (stopped, _) = ours(store.node_claim(&claim("a", "a process")).await?);
    store.node_release(&node("a"), stopped).await?;
    let late = lapsed(&*store, "b").await?;
    assert!(!store.node_drain(&node("a"), stopped).await?);
    assert!(!store.node_drain(&node("b"), late).await?);
    store.node_expire(&node("b"), late).await?;
    assert!(!store.node_drain(&node("b"), late + 1).await?);
    assert!(!store.node_drain(&node("nowhere"), 1).await?);
    let (_, rows) = store.nodes().await?;
    assert!(rows.iter().all(|row| row.drain_asked_at.is_none()), "{rows:?}");
    Ok(())
}

/// Stops a node in the ordinary way.
pub async fn a_released_lease_is_free_and_leaves_no_presence(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 1).await?;
    let (epoch, _) = ours(store.node_claim(&claim("a", "a process")).await?);
    store.presence_change(&node("a"), epoch, &[PresenceChange { user: all[0], here: true }]).await?;
    store.node_release(&node("a"), epoch).await?;
    assert_eq!(row(&*store, "a").await?.state, NodeState::Stopped);
    assert!(store.online(&all).await?.is_empty());
    assert_eq!(store.node_beat(&beat("a", epoch)).await?, Beaten::Fenced);
    assert!(store.node_expire(&node("a"), epoch).await?.is_none());
    assert_eq!(ours(store.node_claim(&claim("a", "another process")).await?).0, epoch + 1);
    assert_eq!(row(&*store, "a").await?.dirty_since, None);
    Ok(())
}

/// Releases a row that is somebody else's by now.
pub async fn a_release_by_a_fenced_node_changes_nothing(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 1).await?;
    let (first, _) = ours(store.node_claim(&claim("a", "a process")).await?);
    let (second, _) = ours(store.node_claim(&claim("a", "a process")).await?);
    store.presence_change(&node("a"), second, &[PresenceChange { user: all[0], here: true }]).await?;
    let before = store.nodes().await?.1;
    store.node_release(&node("a"), first).await?;
    assert_eq!(store.nodes().await?.1, before);
    assert_eq!(store.online(&all).await?, all);
    Ok(())
}
