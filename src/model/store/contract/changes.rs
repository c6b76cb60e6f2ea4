//! What a sweep sees.

use std::collections::HashMap;

use super::FreshLog;
use super::scene::{direct, direct_at, group, group_at, join, next_moment, say, text, users};
use crate::model::store::StoreError;
use crate::model::{ConversationId, Seq};

/// Changes some things and leaves others.
pub async fn changes_are_heads_that_moved_and_members_that_came(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let (still, moved) = (group(&*store, &all[..2]).await?, group(&*store, &all[..2]).await?);
    next_moment(&*store).await?;
    let since = store.now().await?;
    store.append(&[text(moved, all[0], "key", ""), join(moved, all[2], "in")]).await?;
    let new = direct(&*store, all[0], all[1]).await?;

    let changes = store.changes(since).await?;
    assert!(changes.at >= since);
    let mut heads = changes.heads;
    heads.sort_by_key(|head| head.conversation);
    assert_eq!(heads, [group_at(moved, 3), direct_at(new, 0)]);
    let mut members = changes.members;
    members.sort_unstable();
    assert_eq!(members, [(moved, all[2]), (new, all[0]), (new, all[1])]);

    let everything = store.changes(0).await?;
    assert!(everything.heads.iter().any(|head| head.conversation == still));
    let later = store.now().await? + 60_000;
    let nothing = store.changes(later).await?;
    assert!(nothing.heads.is_empty() && nothing.members.is_empty() && nothing.at < later);
    Ok(())
}

/// Sweeps with one store while another appends.
pub async fn overlapping_reads_miss_no_commit_of_another_store(log: &dyn FreshLog) -> Result<(), StoreError> {
    let (writer, sweeper) = (log.open().await?, log.open().await?);
    let all = users(&*writer, 2).await?;
    let mut places = Vec::new();
    for _ in 0..5 {
        places.push(group(&*writer, &all).await?);
    }
    let start = sweeper.now().await?;
    let writing = tokio::spawn(async move {
        for round in 0..40 {
            say(&*writer, places[round % 5], all[0], &format!("{round}"), 1 + round % 3).await?;
        }
        let heads = writer.heads(&places).await?;
        Ok::<_, StoreError>(heads)
    });
    let mut seen: HashMap<ConversationId, Seq> = HashMap::new();
    let mut since = start;
    loop {
        // Asked before the read, so that one whole read follows the last commit.
        let last = writing.is_finished();
        let changes = sweeper.changes(since - 500).await?;
        since = changes.at;
        for head in changes.heads {
            let known = seen.entry(head.conversation).or_default();
            assert!(head.head >= *known, "a head went back from {known} to {head:?}");
            *known = head.head;
        }
        if last {
            break;
        }
    }
    for head in writing.await.expect("the writer does not panic")? {
        assert_eq!(seen.get(&head.conversation), Some(&head.head));
    }
    Ok(())
}
