//! What is in the log can be read in every way that is needed.

use super::FreshLog;
use super::scene::{direct, direct_at, group, group_at, join, leave, name, next_moment, say, stored, text, users};
use crate::model::store::{CursorUpdate, Page, Range, StoreError};
use crate::model::{ConversationId, ConversationKind, Message, Peer, Seq};

const END: Seq = Seq::MAX >> 1;

/// Asks for the heads of conversations that are there and of one that is not.
pub async fn heads_of_unknown_conversations_are_left_out(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let (one, other) = (group(&*store, &all).await?, direct(&*store, all[0], all[1]).await?);
    let unknown = ConversationId::new(1_000_000).expect("a valid id");
    let mut heads = store.heads(&[unknown, other, one]).await?;
    heads.sort_by_key(|head| head.head);
    assert_eq!(heads, [direct_at(other, 0), group_at(one, 1)]);
    Ok(())
}

/// Reads ranges in an order that is not that of the ids, with and without room for all.
pub async fn ranges_come_in_their_order_and_stop_at_the_limit(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let (one, other) = (group(&*store, &all[..1]).await?, direct(&*store, all[0], all[1]).await?);
    for round in 0..5 {
        store
            .append(&[text(one, all[0], &format!("one {round}"), ""), text(other, all[0], &format!("{round}"), "")])
            .await?;
    }
    let ranges = [
        Range { conversation: other, after: 2, until: 4 },
        Range { conversation: one, after: 5, until: END },
        Range { conversation: one, after: 1, until: END },
        Range { conversation: other, after: 4, until: 4 },
        Range { conversation: other, after: 0, until: 1 },
    ];
    let all = [(other, 3), (other, 4), (one, 2), (one, 3), (one, 4), (one, 5), (other, 1)];
    for limit in [1, 2, 3, 6, 7, 100] {
        let read = store.messages(&ranges, limit).await?;
        let places: Vec<(ConversationId, Seq)> = read.iter().map(|entry| (entry.conversation, entry.seq)).collect();
        assert_eq!(places, all[..limit.min(7)], "limit {limit}");
    }
    assert!(store.messages(&ranges, 0).await?.is_empty());
    Ok(())
}

fn seqs(messages: &[Message]) -> Vec<Seq> {
    messages.iter().map(|entry| entry.seq).collect()
}

/// Walks through seven entries in pages of three, from both ends.
pub async fn history_pages_down_and_up(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place = direct(&*store, all[0], all[1]).await?;
    say(&*store, place, all[0], "key", 7).await?;
    for (page, expected, more) in [
        (Page::Newest, vec![5, 6, 7], true),
        (Page::Before(5), vec![2, 3, 4], true),
        (Page::Before(4), vec![1, 2, 3], false),
        (Page::Before(2), vec![1], false),
        (Page::Before(1), vec![], false),
        (Page::Before(0), vec![], false),
        (Page::Before(Seq::MAX), vec![5, 6, 7], true),
        (Page::After(0), vec![1, 2, 3], true),
        (Page::After(4), vec![5, 6, 7], false),
        (Page::After(6), vec![7], false),
        (Page::After(7), vec![], false),
        (Page::After(Seq::MAX), vec![], false),
    ] {
        let history = store.history(all[1], place, page, 3).await?.expect("a member");
        assert_eq!((seqs(&history.messages), history.more), (expected, more), "{page:?}");
    }
    Ok(())
}

/// Reads as somebody who joined later.
pub async fn history_begins_at_the_join(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place = group(&*store, &all[..1]).await?;
    say(&*store, place, all[0], "before", 4).await?;
    store.append(&[join(place, all[1], "in")]).await?;
    say(&*store, place, all[0], "after", 2).await?;
    for (page, limit, expected, more) in [
        (Page::Newest, 10, vec![5, 6, 7], false),
        (Page::Newest, 3, vec![5, 6, 7], false),
        (Page::Newest, 2, vec![6, 7], true),
        (Page::Before(6), 10, vec![5], false),
        (Page::Before(5), 10, vec![], false),
        (Page::After(0), 2, vec![5, 6], true),
    ] {
        let history = store.history(all[1], place, page, limit).await?.expect("a member");
        assert_eq!((seqs(&history.messages), history.more), (expected, more), "{page:?} {limit}");
    }
    Ok(())
}

/// Reads as a stranger, as one who left, and where nothing is.
pub async fn history_is_for_members(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let place = group(&*store, &all[..2]).await?;
    store.append(&[leave(place, all[1], "out")]).await?;
    let nowhere = ConversationId::new(1_000_000).expect("a valid id");
    assert!(store.history(all[1], place, Page::Newest, 10).await?.is_none());
    assert!(store.history(all[2], place, Page::After(0), 10).await?.is_none());
    assert!(store.history(all[0], nowhere, Page::Newest, 10).await?.is_none());
    assert_eq!(store.history(all[0], place, Page::Newest, 10).await?.expect("a member").messages.len(), 2);
    Ok(())
}

/// Lists the conversations of two users who share one.
pub async fn every_conversation_of_a_user_is_listed_with_its_head(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let (shared, own) = (direct(&*store, all[0], all[1]).await?, group(&*store, &all[..1]).await?);
    direct(&*store, all[1], all[2]).await?;
    say(&*store, shared, all[0], "key", 2).await?;
    let mut found = store.conversations_of(&[all[0]]).await?;
    found.sort_by_key(|(_, head)| head.head);
    assert_eq!(found, [(all[0], group_at(own, 0)), (all[0], direct_at(shared, 2))]);
    assert_eq!(store.conversations_of(&all[..2]).await?.len(), 4);
    Ok(())
}

/// Changes conversations in an order and pages through them.
pub async fn memberships_come_most_recent_first_and_page_by_page(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 1).await?;
    let mut places = Vec::new();
    for _ in 0..6 {
        places.push(group(&*store, &all).await?);
    }
    next_moment(&*store).await?;
    // Several change in the same millisecond; then the later id comes first.
    store.append(&[2, 4, 0].map(|n| text(places[n], all[0], &format!("{n}"), ""))).await?;
    next_moment(&*store).await?;
    store.append(&[text(places[1], all[0], "last", "")]).await?;

    let expected: Vec<_> = [1, 4, 2, 0, 5, 3].map(|n| places[n]).into();
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let page = store.memberships(&all, before, 4).await?;
        found.extend(page.iter().map(|seat| seat.conversation));
        before = found.last().copied();
        if page.len() < 4 {
            break;
        }
    }
    assert_eq!(found, expected);
    assert!(store.memberships(&all, before, 4).await?.is_empty());
    Ok(())
}

/// Reads two of the conversations of each of three users.
pub async fn memberships_are_limited_per_user(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 4).await?;
    for _ in 0..3 {
        group(&*store, &all[..2]).await?;
    }
    group(&*store, &all[2..3]).await?;
    let found = store.memberships(&[all[2], all[0], all[3], all[1], all[0]], None, 2).await?;
    let seats: Vec<_> = found.iter().map(|seat| seat.user).collect();
    assert_eq!(seats, [all[2], all[0], all[0], all[1], all[1]]);
    Ok(())
}

/// Picks some memberships out of many.
pub async fn memberships_in_chosen_conversations_are_those_of_the_chosen_users(
    log: &dyn FreshLog,
) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let places = [group(&*store, &all).await?, group(&*store, &all[..2]).await?, group(&*store, &all[1..]).await?];
    let found = store.memberships_in(&places[1..], &[all[2], all[0]]).await?;
    let mut seats: Vec<_> = found.iter().map(|seat| (seat.user, seat.conversation)).collect();
    seats.sort_unstable();
    assert_eq!(seats, [(all[0], places[1]), (all[2], places[2])]);
    assert!(found.iter().all(|seat| seat.kind == ConversationKind::Group && seat.peer.is_none()));
    Ok(())
}

/// Looks at a direct conversation from both sides.
pub async fn a_direct_membership_shows_the_other_user(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let (alice, bob) =
        (store.user_create(&name("Alice"), "hash").await?, store.user_create(&name("Bob"), "hash").await?);
    let place = direct(&*store, alice, bob).await?;
    assert_eq!(stored(say(&*store, place, alice, "key", 3).await?[2]), 3);
    store.cursors(&[CursorUpdate { conversation: place, user: bob, delivered: 2, read: 1 }]).await?;
    let expected = Peer { user: bob, delivered: 2, read: 1 };
    for seats in [store.memberships(&[alice], None, 10).await?, store.memberships_in(&[place], &[alice]).await?] {
        assert_eq!((seats[0].kind, seats[0].name.as_str()), (ConversationKind::Direct, "Bob"));
        assert_eq!((seats[0].peer, seats[0].head, seats[0].read), (Some(expected), 3, 3));
    }
    let seats = store.memberships(&[bob], None, 10).await?;
    assert_eq!((seats[0].name.as_str(), seats[0].delivered, seats[0].read), ("Alice", 2, 1));
    assert_eq!(seats[0].peer, Some(Peer { user: alice, delivered: 0, read: 3 }));
    Ok(())
}
