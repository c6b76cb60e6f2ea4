//! Accounts change, and what was given for them before is good no more.

use super::FreshLog;
use super::scene::{befriend, direct, group, name, say, stored, users};
use crate::model::UserId;
use crate::model::store::{Friendship, Store, StoreError, StoreErrorKind, User, UserChange};

async fn user(store: &dyn Store, id: UserId) -> Result<User, StoreError> {
    Ok(store.users(&[id]).await?.pop().expect("registered"))
}

/// Lists users whose names sort otherwise than they are written, two at a time.
pub async fn users_are_listed_by_folded_name_page_by_page(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    for text in ["bob", "Zoe", "Alice", "éva", "Bo", "straße"] {
        store.user_create(&name(text), "hash").await?;
    }
    let mut listed: Vec<String> = Vec::new();
    let mut after = None;
    loop {
        let page = store.user_list(after.as_ref(), 2).await?;
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        listed.extend(page.iter().map(|user| user.name.to_string()));
    }
    assert_eq!(listed, ["Alice", "Bo", "bob", "straße", "Zoe", "éva"]);
    assert_eq!(store.user_list(Some(&name("STRASSE")), 10).await?.len(), 2);
    assert!(store.user_list(None, 0).await?.is_empty());
    Ok(())
}

/// Changes a password, then nothing but the tokens.
pub async fn a_change_of_an_account_makes_earlier_tokens_stale(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (store, other) = (log.open().await?, log.open().await?);
    let all = users(&*store, 2).await?;
    let first = user(&*store, all[0]).await?;
    assert!(!first.disabled);
    assert!(store.user_change(all[0], &UserChange::Password("another".to_owned())).await?);
    let second = user(&*other, all[0]).await?;
    assert!(second.token_version > first.token_version);
    assert_eq!((second.password_hash.as_str(), second.disabled), ("another", false));
    assert!(other.user_change(all[0], &UserChange::Tokens).await?);
    let third = store.user_by_name(&name("user-1")).await?.expect("registered");
    assert!(third.token_version > second.token_version);
    assert_eq!((third.password_hash.as_str(), third.disabled), ("another", false));
    let bystander = user(&*store, all[1]).await?;
    assert_eq!((bystander.token_version, bystander.password_hash.as_str()), (first.token_version, "hash"));
    Ok(())
}

/// Disables an account twice and enables it.
pub async fn a_disabled_account_can_be_enabled_again(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let mut version = user(&*store, all[0]).await?.token_version;
    for disabled in [true, true, false] {
        assert!(store.user_change(all[0], &UserChange::Disabled(disabled)).await?);
        let now = user(&*store, all[0]).await?;
        assert_eq!((now.disabled, now.password_hash.as_str()), (disabled, "hash"));
        assert!(now.token_version > version);
        version = now.token_version;
    }
    assert!(!user(&*store, all[1]).await?.disabled);
    Ok(())
}

/// Deletes an account, then tries to bring it back in every way.
pub async fn a_deleted_account_stays_deleted_and_keeps_its_name(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let room = group(&*store, &all).await?;
    say(&*store, room, all[1], "key", 1).await?;
    let before = user(&*store, all[1]).await?;
    assert!(store.user_change(all[1], &UserChange::Deleted).await?);
    let gone = user(&*store, all[1]).await?;
    assert!(gone.disabled && gone.token_version > before.token_version);
    assert_ne!(gone.password_hash, before.password_hash);
    for change in [
        UserChange::Password("another".to_owned()),
        UserChange::Disabled(false),
        UserChange::Tokens,
        UserChange::Deleted,
    ] {
        assert!(!store.user_change(all[1], &change).await?, "{change:?}");
        let still = user(&*store, all[1]).await?;
        assert!(still.disabled, "{change:?}");
        assert_eq!(still.password_hash, gone.password_hash, "{change:?}");
    }
    let error = store.user_create(&name("user-2"), "hash").await.expect_err("the name stays taken");
    assert_eq!(error.kind(), StoreErrorKind::Conflict);
    assert_eq!(store.memberships_in(&[room], &all[1..]).await?.len(), 1);
    assert_eq!(store.group(room).await?.expect("a group").head, 2);
    Ok(())
}

/// Deletes somebody with a friend, who has asked one and was asked by one.
pub async fn a_deleted_account_has_no_friends_and_no_requests(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let [gone, friend, asked, asker, elsewhere] = users(&*store, 5).await?[..] else { unreachable!("five") };
    befriend(&*store, friend, gone).await?;
    befriend(&*store, friend, elsewhere).await?;
    store.friend_add(gone, asked).await?;
    store.friend_add(asker, gone).await?;
    store.friend_add(asker, asked).await?;
    assert!(store.user_change(gone, &UserChange::Deleted).await?);
    let left = store.friends(&[gone, friend, asked, asker]).await?;
    let left: Vec<_> = left.iter().map(|row| (row.user, row.friend, row.accepted)).collect();
    assert_eq!(left, [(friend, elsewhere, true), (asked, asker, false)]);
    assert!(!store.friend_accept(asked, gone).await?);
    assert_eq!(store.friend_add(friend, gone).await?, Friendship::Forbidden);
    assert_eq!(store.friend_add(gone, friend).await?, Friendship::Forbidden);
    // What they said to each other can be read and gone on with.
    let place = direct(&*store, gone, friend).await?;
    assert_eq!(stored(say(&*store, place, friend, "key", 1).await?[0]), 1);
    Ok(())
}

/// Changes somebody who was never registered.
pub async fn an_unknown_account_is_not_changed(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    users(&*store, 1).await?;
    let unknown = UserId::new(1_000_000).expect("a valid id");
    for change in [UserChange::Tokens, UserChange::Disabled(true), UserChange::Deleted] {
        assert!(!store.user_change(unknown, &change).await?, "{change:?}");
    }
    assert!(store.users(&[unknown]).await?.is_empty());
    Ok(())
}
