//! The statements that run for every message, login and sweep look rows up and never walk through a table.

use sqlx::{AssertSqlSafe, Row};

use super::super::{accounts, append, directs, entries, friends, groups, heads, memberships, open, presence, pruning};

/// Explains each statement of a query string; a bind has no value, which is no matter for the plan.
async fn plans(sql: &str) -> Vec<String> {
    let (mut connection, _) = open::in_memory().await.unwrap();
    let mut found = Vec::new();
    for statement in
        sql.split(';').map(str::trim).filter(|s| !s.is_empty() && !s.starts_with("BEGIN") && *s != "COMMIT")
    {
        let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
        let rows = rows.fetch_all(&mut connection).await.unwrap();
        found.extend(rows.iter().map(|row| row.get::<String, _>("detail")));
    }
    found
}

#[tokio::test]
async fn the_hot_statements_use_indexes() {
    for sql in [
        accounts::BY_NAME,
        accounts::BY_ID,
        accounts::LIST,
        accounts::DELETE,
        append::READ,
        append::WRITE,
        append::WRITE_WITH_MEMBERS,
        directs::FIND,
        entries::RANGES,
        entries::PAGE_DOWN,
        entries::PAGE_UP,
        friends::FRIENDS,
        friends::REMOVE,
        groups::BY_PREFIX,
        groups::MEMBERS,
        heads::HEADS,
        heads::HEADS_OF_USERS,
        heads::CHANGES,
        memberships::RECENT,
        memberships::CHOSEN,
        memberships::RAISE,
        presence::WHERE_MEMBERS_ARE,
        presence::ONLINE,
        presence::WHEREABOUTS,
        pruning::DELETE,
    ] {
        let plan = plans(sql).await;
        assert!(plan.iter().any(|step| step.starts_with("SEARCH")), "{sql}\n{plan:#?}");
        for step in plan {
            let walks = step.starts_with("SCAN");
            // Arrays, and results that a statement made itself, are as long as the batch.
            let batch = ["VIRTUAL TABLE", "CONSTANT ROW", "VALUES CLAUSE", "(subquery-"];
            assert!(!walks || batch.iter().any(|small| step.contains(small)), "{step}\n{sql}");
        }
    }
}

#[tokio::test]
async fn pages_and_ranges_are_read_in_the_order_of_the_index() {
    for sql in [entries::PAGE_DOWN, entries::PAGE_UP] {
        let plan = plans(sql).await.join("\n");
        assert!(plan.contains("messages_by_seq (conversation=? AND seq>? AND seq<?)"), "{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }
    let plan = plans(entries::RANGES).await.join("\n");
    assert!(plan.contains("messages_by_seq (conversation=? AND seq>? AND seq<?)"), "{plan}");
    let plan = plans(heads::CHANGES).await.join("\n");
    assert!(
        plan.contains("conversations_changed (changed_at>?)") && plan.contains("members_added (added_at>?)"),
        "{plan}"
    );
}

#[tokio::test]
async fn who_may_write_to_a_direct_conversation_is_known_by_probes() {
    let plan = plans(append::READ).await.join("\n");
    for probe in [
        "SEARCH b USING PRIMARY KEY (blocked=?)",
        "SEARCH peer USING PRIMARY KEY (conversation=?)",
        "SEARCH b USING PRIMARY KEY (blocked=? AND user=?)",
        "SEARCH f USING PRIMARY KEY (user=? AND friend=?)",
    ] {
        assert!(plan.contains(probe), "{probe}\n{plan}");
    }
}

#[tokio::test]
async fn lists_are_read_in_the_order_of_an_index() {
    for (sql, index) in [
        (accounts::LIST, "(folded>?)"),
        (groups::BY_PREFIX, "groups_by_name (folded>? AND folded<?)"),
        (groups::MEMBERS, "m USING PRIMARY KEY (conversation=? AND user>?)"),
    ] {
        let plan = plans(sql).await.join("\n");
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{plan}");
    }
}

#[tokio::test]
async fn a_search_for_old_entries_walks_along_the_ids() {
    let plan = plans(pruning::OLD).await;
    let scans: Vec<&String> = plan.iter().filter(|step| step.starts_with("SCAN")).collect();
    // What was walked so far, and what was found by it.
    assert_eq!(scans, ["SCAN old", "SCAN old"], "{plan:#?}");
    assert!(plan.iter().any(|step| step.contains("next USING INTEGER PRIMARY KEY")), "{plan:#?}");
    assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:#?}");
}
