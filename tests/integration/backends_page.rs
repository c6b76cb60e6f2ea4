//! docs/BACKENDS.md says what the backends claim: its table is that of the code.

use std::path::{Path, PathBuf};

use switchboard::bus::{self, BusConfig, BusKind, Claim, Guarantees};

/// Between these the table stands.
const MARKS: [&str; 2] = ["<!-- guarantees -->\n", "<!-- end of guarantees -->\n"];
const HEAD: &str = "| `bus.kind` | ordered | at least once | survives a restart | confirmed | counts receivers | tells \
    no receivers | a subject per user | largest payload |\n|---|---|---|---|---|---|---|---|---|\n";

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/BACKENDS.md")
}

/// Takes the page apart: what is above the table, its rows, what is below.
fn parts(page: &str) -> (&str, &str, &str) {
    let (above, rest) = page.split_once(MARKS[0]).expect("the mark above the table");
    let (table, below) = rest.split_once(MARKS[1]).expect("the mark below the table");
    (above, table.strip_prefix(HEAD).expect("the table has the head that this test has"), below)
}

fn beginning(kind: BusKind) -> String {
    format!("| `{kind}` |")
}

fn row(kind: BusKind, claimed: &Guarantees) -> String {
    // A new claim does not compile here until it has a column.
    let Guarantees {
        ordered,
        at_least_once,
        survives_broker_restart,
        confirmed,
        counts_receivers,
        tells_no_receivers,
        per_user_subjects,
        max_payload,
    } = claimed;
    let claims = [
        ordered,
        at_least_once,
        survives_broker_restart,
        confirmed,
        counts_receivers,
        tells_no_receivers,
        per_user_subjects,
    ];
    let cells = claims.map(|claim| match claim {
        Claim::Yes => "yes",
        Claim::No => "no",
        Claim::NotApplicable => "n/a",
    });
    let size = if max_payload % 1024 == 0 { format!("{} KiB", max_payload / 1024) } else { format!("{max_payload} B") };
    format!("{} {} | {size} |\n", beginning(kind), cells.join(" | "))
}

/// Returns the rows as they have to be. Those of backends that this build does not have stay as they are.
fn rows(written: &str) -> String {
    let compiled = bus::backends();
    let row_of = |kind| {
        if compiled.contains(&kind) {
            let config = BusConfig { kind, ..BusConfig::default() };
            return row(kind, &bus::guarantees(&config).expect("the default config is good"));
        }
        let line = written.lines().find(|line| line.starts_with(&beginning(kind)));
        line.map(|line| format!("{line}\n")).unwrap_or_default()
    };
    BusKind::ALL.map(row_of).concat()
}

/// A change of what a backend claims is a change of the page:
///
/// ```sh
/// UPDATE_DOCS=1 cargo test --all-features --test integration backends_page
/// ```
#[test]
fn the_claims_of_the_page_are_those_of_the_code() {
    let page = std::fs::read_to_string(path()).expect("docs/BACKENDS.md");
    let (above, written, below) = parts(&page);
    let expected = rows(written);
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        let [begin, end] = MARKS;
        std::fs::write(path(), [above, begin, HEAD, &expected, end, below].concat()).expect("the page can be written");
        return;
    }
    assert_eq!(
        written, expected,
        "docs/BACKENDS.md does not say what the backends claim; write it anew: UPDATE_DOCS=1 cargo test --all-features \
         --test integration backends_page"
    );
}
