//! How conversations come to be.

use super::FreshLog;
use super::scene::{direct, group, users};
use crate::model::store::StoreError;
use crate::model::{ConversationId, UserId};

/// Asks for pairs again, turned round, and twice in one batch.
pub async fn a_pair_has_one_direct_conversation_in_either_order(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let [a, b, c] = users(&*store, 3).await?[..] else { unreachable!("three were asked for") };
    let ids = store.direct(&[(a, b), (c, a), (b, a), (a, b)]).await?;
    assert!(ids[0].is_some() && ids[1].is_some());
    assert_ne!(ids[0], ids[1]);
    assert_eq!((ids[2], ids[3]), (ids[0], ids[0]));
    assert_eq!(store.direct(&[(b, a), (b, c), (a, c)]).await?[..1], ids[..1]);
    assert_eq!(store.direct(&[(a, c)]).await?[0], ids[1]);
    Ok(())
}

/// Mixes pairs that can be with pairs that cannot.
pub async fn a_pair_with_somebody_unknown_has_no_conversation(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let known = users(&*store, 2).await?;
    let unknown = UserId::new(1_000_000).expect("a valid id");
    let ids = store.direct(&[(known[0], unknown), (known[0], known[1]), (unknown, known[1])]).await?;
    assert_eq!(ids.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(store.conversations_of(&known).await?.len(), 2);
    Ok(())
}

/// Creates the same conversations from two stores at the same moment.
pub async fn two_stores_that_meet_the_same_pairs_at_once_agree(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (one, other) = (log.open().await?, log.open().await?);
    let all = users(&*one, 12).await?;
    let pairs: Vec<(UserId, UserId)> =
        all.iter().flat_map(|a| all.iter().map(|b| (*a, *b))).filter(|(a, b)| a < b).collect();
    let turned: Vec<(UserId, UserId)> = pairs.iter().map(|&(a, b)| (b, a)).collect();
    for (pairs, turned) in pairs.chunks(11).zip(turned.chunks(11)) {
        let (here, there) = tokio::join!(one.direct(pairs), other.direct(turned));
        assert_eq!(here?, there?);
    }
    assert_eq!(one.conversations_of(&all).await?.len(), pairs.len() * 2);
    Ok(())
}

/// Creates two groups of one name and reads them back.
pub async fn a_new_group_has_its_owner_as_its_only_member(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let owner = users(&*store, 1).await?[0];
    let made = store.group_create(owner, "Ümläute & 'quotes'", "about \"nothing\"").await?;
    assert_eq!((made.owner, made.head, made.members), (Some(owner), 0, 1));
    assert_eq!(store.group(made.conversation).await?, Some(made.clone()));
    let twin = store.group_create(owner, "Ümläute & 'quotes'", "").await?;
    assert_ne!(twin.conversation, made.conversation);

    let seat = &store.memberships_in(&[made.conversation], &[owner]).await?[0];
    assert_eq!((seat.name.as_str(), seat.joined_seq, seat.delivered, seat.read), ("Ümläute & 'quotes'", 0, 0, 0));
    assert!(store.group(ConversationId::new(1_000_000).expect("a valid id")).await?.is_none());
    Ok(())
}

/// Reads a direct conversation as if it were a group.
pub async fn a_direct_conversation_is_no_group(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let users = users(&*store, 2).await?;
    let direct = direct(&*store, users[0], users[1]).await?;
    assert!(store.group(direct).await?.is_none());
    let group = group(&*store, &users).await?;
    assert_eq!(store.group(group).await?.expect("a group").members, 2);
    Ok(())
}
