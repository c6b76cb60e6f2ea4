//! Who asks whom to be a friend, and what becomes of it.

use super::FreshLog;
use super::scene::{befriend, name, put, users};
use crate::model::UserId;
use crate::model::store::{Friendship, Store, StoreError};

/// Reads (user, friend, accepted).
async fn friends(store: &dyn Store, users: &[UserId]) -> Result<Vec<(UserId, UserId, bool)>, StoreError> {
    Ok(store.friends(users).await?.iter().map(|row| (row.user, row.friend, row.accepted)).collect())
}

/// Asks twice.
pub async fn a_request_shows_to_the_asked_user_only(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    assert_eq!(store.friend_add(all[0], all[1]).await?, Friendship::Requested);
    assert_eq!(store.friend_add(all[0], all[1]).await?, Friendship::Unchanged);
    assert_eq!(friends(&*store, &all).await?, [(all[1], all[0], false)]);
    assert_eq!(store.friends(&all).await?[0].name, name("user-1"));
    Ok(())
}

/// Asks on one store and accepts on another.
pub async fn an_accepted_request_is_a_friendship_of_both(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (store, other) = (log.open().await?, log.open().await?);
    let all = users(&*store, 3).await?;
    befriend(&*store, all[0], all[1]).await?;
    assert_eq!(friends(&*other, &all).await?, [(all[0], all[1], true), (all[1], all[0], true)]);
    for (user, friend) in [(all[0], all[1]), (all[1], all[0])] {
        assert_eq!(other.friend_add(user, friend).await?, Friendship::Unchanged);
        assert!(!other.friend_accept(user, friend).await?);
    }
    assert_eq!(friends(&*other, &all).await?.len(), 2);
    Ok(())
}

/// Asks the one who has asked.
pub async fn asking_back_accepts(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    store.friend_add(all[1], all[0]).await?;
    assert_eq!(store.friend_add(all[0], all[1]).await?, Friendship::Accepted);
    assert_eq!(friends(&*store, &all).await?, [(all[0], all[1], true), (all[1], all[0], true)]);
    Ok(())
}

/// Asks on two stores at the same moment.
pub async fn two_users_who_ask_each_other_at_once_are_friends(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (one, other) = (log.open().await?, log.open().await?);
    let all = users(&*one, 20).await?;
    for pair in all.chunks(2) {
        let (here, there) = tokio::join!(one.friend_add(pair[0], pair[1]), other.friend_add(pair[1], pair[0]));
        let both = [here?, there?];
        assert!(both.contains(&Friendship::Requested) && both.contains(&Friendship::Accepted), "{both:?}");
    }
    assert_eq!(friends(&*one, &all).await?.iter().filter(|(.., accepted)| *accepted).count(), all.len());
    Ok(())
}

/// Accepts one's own request, and where none is.
pub async fn nothing_is_accepted_that_was_not_asked(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    store.friend_add(all[0], all[1]).await?;
    assert!(!store.friend_accept(all[0], all[1]).await?);
    assert!(!store.friend_accept(all[2], all[0]).await?);
    assert!(!store.friend_accept(all[0], UserId::new(1_000_000).expect("a valid id")).await?);
    assert_eq!(friends(&*store, &all).await?, [(all[1], all[0], false)]);
    Ok(())
}

/// Ends friendships, takes a request back and declines one.
pub async fn a_friendship_or_a_request_is_removed_from_either_side(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 4).await?;
    befriend(&*store, all[1], all[3]).await?;
    for (user, friend) in [(all[0], all[1]), (all[1], all[0])] {
        befriend(&*store, all[0], all[1]).await?;
        assert!(store.friend_remove(user, friend).await?);
        assert!(!store.friend_remove(user, friend).await?);
        store.friend_add(all[0], all[1]).await?;
        assert!(store.friend_remove(user, friend).await?);
        assert!(!store.friend_accept(all[1], all[0]).await?);
    }
    assert!(!store.friend_remove(all[0], all[2]).await?);
    assert_eq!(friends(&*store, &all).await?, [(all[1], all[3], true), (all[3], all[1], true)]);
    Ok(())
}

/// Reads many users in one go, one of them named twice.
pub async fn friends_come_by_name_in_the_order_of_the_users(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let mut all = Vec::new();
    for text in ["zoe", "Éva", "bob", "Alice"] {
        all.push(store.user_create(&name(text), "hash").await?);
    }
    let [zoe, eva, bob, alice] = all[..] else { unreachable!("four were made") };
    for friend in [eva, bob, alice] {
        store.friend_add(friend, zoe).await?;
    }
    store.friend_accept(zoe, bob).await?;
    assert_eq!(
        friends(&*store, &[zoe, bob, alice, zoe]).await?,
        [(zoe, alice, false), (zoe, bob, true), (zoe, eva, false), (bob, zoe, true)]
    );
    assert_eq!(friends(&*store, &[alice, bob, zoe]).await?[0], (bob, zoe, true));
    let many: Vec<UserId> = (1..=500).map(|id| UserId::new(id).expect("a valid id")).collect();
    assert_eq!(friends(&*store, &many).await?.len(), 4);
    Ok(())
}

/// Has one friend on two nodes, one on none, and somebody who asks on one.
pub async fn a_friend_on_several_nodes_is_one_friend_online(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 4).await?;
    befriend(&*store, all[0], all[1]).await?;
    befriend(&*store, all[0], all[2]).await?;
    store.friend_add(all[3], all[0]).await?;
    put(&*store, "a", &[all[0], all[1]]).await?;
    put(&*store, "b", &[all[1], all[3]]).await?;
    let found = store.friends(&all[..1]).await?;
    let found: Vec<_> = found.iter().map(|row| (row.friend, row.accepted, row.online)).collect();
    assert_eq!(found, [(all[1], true, true), (all[2], true, false), (all[3], false, true)]);
    Ok(())
}

/// Asks whom nobody can ask.
pub async fn nobody_asks_themselves_or_somebody_unknown(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 1).await?;
    let unknown = UserId::new(1_000_000).expect("a valid id");
    assert_eq!(store.friend_add(all[0], all[0]).await?, Friendship::Forbidden);
    assert_eq!(store.friend_add(all[0], unknown).await?, Friendship::Forbidden);
    assert_eq!(store.friend_add(unknown, all[0]).await?, Friendship::Forbidden);
    assert!(friends(&*store, &[all[0], unknown]).await?.is_empty());
    Ok(())
}
