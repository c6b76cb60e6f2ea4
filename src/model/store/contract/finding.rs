//! Groups, their members, and where users are.

use super::FreshLog;
use super::scene::{befriend, direct, group, join, leave, name, node, put, say, users};
use crate::model::store::{CursorUpdate, PresenceChange, Store, StoreError};
use crate::model::{ConversationId, Role};

async fn found(store: &dyn Store, prefix: &str, limit: usize) -> Result<Vec<String>, StoreError> {
    Ok(store.group_find(prefix, limit).await?.into_iter().map(|group| group.name).collect())
}

/// Looks for names in other cases, up to a limit, and for all of them.
pub async fn groups_are_found_by_the_beginning_of_their_folded_names(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let owner = users(&*store, 1).await?[0];
    for text in ["Rust & Co", "rustic", "rus", "STRASSENFEST", "Über uns", "rU", "trust", "ruſt never sleeps"] {
        store.group_create(owner, text, "").await?;
    }
    assert_eq!(found(&*store, "RUST", 10).await?, ["Rust & Co", "ruſt never sleeps", "rustic"]);
    assert_eq!(found(&*store, "rust ", 10).await?, ["Rust & Co", "ruſt never sleeps"]);
    assert_eq!(found(&*store, "straße", 10).await?, ["STRASSENFEST"]);
    assert_eq!(found(&*store, "ÜBER", 10).await?, ["Über uns"]);
    assert_eq!(found(&*store, "ru", 2).await?, ["rU", "rus"]);
    assert!(found(&*store, "rusty", 10).await?.is_empty());
    assert_eq!(found(&*store, "", 100).await?.len(), 8);
    assert_eq!(found(&*store, "", 1).await?, ["rU"]);
    assert!(found(&*store, "ru", 0).await?.is_empty());
    Ok(())
}

/// Creates groups of one name, joins and leaves them.
pub async fn groups_of_one_name_come_in_the_order_of_their_ids(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (store, other) = (log.open().await?, log.open().await?);
    let all = users(&*store, 3).await?;
    let mut made: Vec<ConversationId> = Vec::new();
    for (text, about) in [("Twins", "one"), ("twins", "two"), ("TWINS", "three")] {
        made.push(store.group_create(all[0], text, about).await?.conversation);
    }
    store.append(&[join(made[1], all[1], "1"), join(made[1], all[2], "2"), leave(made[2], all[0], "3")]).await?;
    let found = other.group_find("twin", 10).await?;
    let ids: Vec<ConversationId> = found.iter().map(|group| group.conversation).collect();
    made.sort_unstable();
    assert_eq!(ids, made);
    let shown: Vec<_> = found.iter().map(|group| (group.description.as_str(), group.members, group.head)).collect();
    assert_eq!(shown, [("one", 1, 0), ("two", 3, 2), ("three", 0, 1)]);
    assert_eq!(found[1], other.group(made[1]).await?.expect("a group"));
    assert_eq!(found[2].owner, None);
    Ok(())
}

/// Looks for texts that mean something to a database.
pub async fn a_prefix_is_taken_as_it_is_written(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let owner = users(&*store, 1).await?[0];
    let odd = ["%", "100% wool", "a_b", "axb", "\u{10ffff}\u{10ffff}", "'; --", "\\", "*", "e\u{301}t\u{e9}"];
    for text in odd {
        store.group_create(owner, text, "").await?;
    }
    for (prefix, expected) in [
        ("%", &["%"][..]),
        ("100%", &["100% wool"]),
        ("a_", &["a_b"]),
        ("\u{10ffff}", &["\u{10ffff}\u{10ffff}"]),
        ("'", &["'; --"]),
        ("\\", &["\\"]),
        ("*", &["*"]),
        ("\u{e9}te\u{301}", &["e\u{301}t\u{e9}"]),
    ] {
        assert_eq!(found(&*store, prefix, 10).await?, expected, "{prefix}");
    }
    Ok(())
}

/// Looks for the one group among direct conversations.
pub async fn direct_conversations_are_no_groups_to_find(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    direct(&*store, all[0], all[1]).await?;
    let room = group(&*store, &all).await?;
    direct(&*store, all[0], all[2]).await?;
    let found = store.group_find("", 10).await?;
    assert_eq!(found.iter().map(|group| group.conversation).collect::<Vec<_>>(), [room]);
    Ok(())
}

/// Reads seven members in pages of three.
pub async fn members_come_by_id_page_by_page(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 8).await?;
    let mut order = all[..7].to_vec();
    order.reverse();
    let room = group(&*store, &order).await?;
    group(&*store, &all[6..]).await?;
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = store.group_members(room, after, 3).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.user);
        pages.push(page.into_iter().map(|member| member.user).collect::<Vec<_>>());
    }
    assert_eq!(pages, [&all[..3], &all[3..6], &all[6..7]]);
    let nowhere = ConversationId::new(1_000_000).expect("a valid id");
    assert!(store.group_members(nowhere, None, 3).await?.is_empty());
    assert!(store.group_members(room, None, 0).await?.is_empty());
    Ok(())
}

/// Reads members of whom one owns the group, one is on two nodes, and one has read.
pub async fn members_show_role_presence_and_cursors(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let room = group(&*store, &[all[1], all[0], all[2]]).await?;
    say(&*store, room, all[1], "key", 2).await?;
    store.cursors(&[CursorUpdate { conversation: room, user: all[2], delivered: 4, read: 3 }]).await?;
    put(&*store, "a", &[all[0]]).await?;
    put(&*store, "b", &[all[0], all[2]]).await?;
    let members = store.group_members(room, None, 10).await?;
    let shown: Vec<_> = members.iter().map(|m| (m.user, m.role, m.online, m.delivered, m.read)).collect();
    assert_eq!(
        shown,
        [(all[0], Role::Member, true, 1, 1), (all[1], Role::Owner, false, 0, 4), (all[2], Role::Member, true, 4, 3),]
    );
    assert_eq!(members[2].name, name("user-3"));
    store.append(&[leave(room, all[1], "out")]).await?;
    let roles: Vec<Role> = store.group_members(room, None, 10).await?.iter().map(|member| member.role).collect();
    assert_eq!(roles, [Role::Owner, Role::Member]);

    let pair = direct(&*store, all[0], all[1]).await?;
    let roles: Vec<Role> = store.group_members(pair, None, 10).await?.iter().map(|member| member.role).collect();
    assert_eq!(roles, [Role::Member; 2]);
    Ok(())
}

/// Asks for users on two nodes, on one and on none.
pub async fn whereabouts_are_the_nodes_of_each_user(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 4).await?;
    befriend(&*store, all[0], all[1]).await?;
    let b = put(&*store, "b", &[all[0], all[1], all[3]]).await?;
    put(&*store, "a", &[all[1]]).await?;
    let asked = [all[2], all[1], all[0], all[1]];
    assert_eq!(store.whereabouts(&asked).await?, [(all[0], node("b")), (all[1], node("a")), (all[1], node("b"))]);
    store.presence_change(&node("b"), b, &[PresenceChange { user: all[1], here: false }]).await?;
    assert_eq!(store.whereabouts(&asked).await?, [(all[0], node("b")), (all[1], node("a"))]);
    Ok(())
}
