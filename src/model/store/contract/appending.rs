//! Entries get their places.

use super::FreshLog;
use super::scene::{direct, everything, group, say, stored, text, users};
use crate::model::store::{Outcome, StoreError};
use crate::model::{ConversationId, Seq};

/// Appends to three conversations in one batch, twice.
pub async fn seqs_ascend_from_one_in_each_conversation(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let places = [
        group(&*store, &all[..1]).await?,
        direct(&*store, all[0], all[1]).await?,
        direct(&*store, all[0], all[2]).await?,
    ];
    for round in 0..2 {
        let batch: Vec<_> =
            (0..9).map(|n| text(places[n % 3], all[0], &format!("{round} {n}"), &format!("{n}"))).collect();
        let seqs: Vec<Seq> = store.append(&batch).await?.into_iter().map(stored).collect();
        assert_eq!(seqs, [1, 1, 1, 2, 2, 2, 3, 3, 3].map(|seq| seq + round * 3));
    }
    for (n, place) in places.iter().enumerate() {
        let entries = everything(&*store, *place).await?;
        assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(entries[1].body, format!("{}", n + 3));
    }
    assert_eq!(store.heads(&places).await?.iter().map(|head| head.head).collect::<Vec<_>>(), [6, 6, 6]);
    Ok(())
}

/// Appends from two stores at the same time, in batches of all sizes, to the same conversations.
pub async fn concurrent_appends_of_two_stores_leave_no_hole(log: &dyn FreshLog) -> Result<(), StoreError> {
    let stores = [log.open().await?, log.open().await?];
    let all = users(&*stores[0], 4).await?;
    let places = [group(&*stores[0], &all).await?, group(&*stores[0], &all).await?];
    let already = 3;

    let mut writers = tokio::task::JoinSet::new();
    for (writer, sender) in all.iter().copied().enumerate() {
        let store = stores[writer % 2].clone();
        writers.spawn(async move {
            let mut seqs = Vec::new();
            for size in [1, 7, 2, 30, 1, 1, 9, 4] {
                let batch: Vec<_> =
                    (0..size).map(|n| text(places[n % 2], sender, &format!("{} {n}", seqs.len()), "hello")).collect();
                let outcomes = store.append(&batch).await?;
                seqs.extend(
                    outcomes.into_iter().zip(&batch).map(|(outcome, entry)| (entry.conversation, stored(outcome))),
                );
            }
            Ok::<_, StoreError>(seqs)
        });
    }
    let mut given: Vec<(ConversationId, Seq)> = Vec::new();
    while let Some(seqs) = writers.join_next().await {
        given.extend(seqs.expect("no writer panics")?);
    }
    for place in places {
        let mut seqs: Vec<Seq> = given.iter().filter(|(at, _)| *at == place).map(|(_, seq)| *seq).collect();
        seqs.sort_unstable();
        assert_eq!(seqs, (already + 1..=already + seqs.len() as Seq).collect::<Vec<_>>());
        let read: Vec<Seq> = everything(&*stores[1], place).await?.iter().map(|entry| entry.seq).collect();
        assert_eq!(read, (1..=already + seqs.len() as Seq).collect::<Vec<_>>());
    }
    Ok(())
}

/// Sends what databases and encodings like to change.
pub async fn texts_and_keys_come_back_as_they_were_given(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place = direct(&*store, all[0], all[1]).await?;
    let long = "\u{1F980}".repeat(16 * 1024);
    let odd = [
        "",
        " ",
        "0",
        "007",
        "1e3",
        "null",
        "true",
        "{\"a\":[1]}",
        "it's \"quoted\" \\ and \\u0041",
        "a\0b\0",
        "\u{1}\u{1f}\u{7f}",
        "\u{fffd}\u{feff}e\u{301}",
        "line\r\nline\n",
        "\u{10ffff}\u{2028}",
        "%s ? $1 :name --",
        &long,
    ];
    let batch: Vec<_> =
        odd.iter().enumerate().map(|(n, body)| text(place, all[0], &format!("{n} \0'\"\\{{é"), body)).collect();
    store.append(&batch).await?;
    let read = everything(&*store, place).await?;
    for (entry, sent) in read.iter().zip(&batch) {
        assert_eq!((&entry.body, &entry.key), (&sent.body, &sent.key));
        assert_eq!((entry.from, entry.name.as_str()), (all[0], "user-1"));
    }
    assert_eq!(read.len(), odd.len());
    let again = store.append(&batch).await?;
    assert!(again.iter().all(|outcome| matches!(outcome, Outcome::Repeat { .. })), "{again:?}");
    Ok(())
}

/// Writes where the sender is no member, and where nothing is.
pub async fn only_members_of_a_known_conversation_may_write(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let place = direct(&*store, all[0], all[1]).await?;
    let nowhere = ConversationId::new(1_000_000).expect("a valid id");
    let batch = [
        text(place, all[2], "k1", "let me in"),
        text(place, all[0], "k1", "hello"),
        text(nowhere, all[0], "k2", "hello"),
    ];
    let outcomes = store.append(&batch).await?;
    assert_eq!((outcomes[0], outcomes[2]), (Outcome::NotMember, Outcome::NotFound));
    assert_eq!(stored(outcomes[1]), 1);
    assert_eq!(everything(&*store, place).await?.len(), 1);
    // What was refused has not used its key up.
    assert_eq!(stored(store.append(&[text(place, all[0], "k2", "hello")]).await?[0]), 2);
    Ok(())
}

/// Lets two members write and reads the cursors of all.
pub async fn a_text_moves_its_senders_own_read_cursor(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 3).await?;
    let place = group(&*store, &all).await?;
    let batch = [text(place, all[0], "1", "a"), text(place, all[1], "2", "b"), text(place, all[0], "3", "c")];
    store.append(&batch).await?;
    store.append(&batch[1..2]).await?;
    let seats = store.memberships_in(&[place], &all).await?;
    assert_eq!(seats.iter().map(|seat| seat.read).collect::<Vec<_>>(), [5, 4, 2]);
    assert_eq!(seats.iter().map(|seat| seat.delivered).collect::<Vec<_>>(), [0, 1, 2]);
    Ok(())
}

/// Compares the time of an entry with the clock before and after.
pub async fn an_entry_takes_the_databases_time(log: &dyn FreshLog) -> Result<(), StoreError> {
    let store = log.open().await?;
    let all = users(&*store, 2).await?;
    let place = direct(&*store, all[0], all[1]).await?;
    let before = store.now().await?;
    let outcome = say(&*store, place, all[0], "key", 1).await?[0];
    let after = store.now().await?;
    let Outcome::Stored { at, .. } = outcome else { panic!("not stored: {outcome:?}") };
    assert!((before..=after).contains(&at), "{before} <= {at} <= {after}");
    assert_eq!(everything(&*store, place).await?[0].at, at);
    Ok(())
}
