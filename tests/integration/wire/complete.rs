//! Nothing of the wire is left out.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use switchboard::protocol::{CloseReason, ErrorCode};

use super::SCRIPTS;
use super::script::{self, Step, folder};

/// What no script can bring about, and why.
const ERRORS_WITHOUT_A_SCRIPT: [(ErrorCode, &str); 3] = [
    (ErrorCode::Busy, "no node says it: a full queue stops the reading of sockets instead"),
    (ErrorCode::Unavailable, "the log in memory is never away; the tests of the message path take it away"),
    (ErrorCode::Internal, "it is a fault of the server's"),
];
const CLOSES_WITHOUT_A_SCRIPT: [(CloseReason, &str); 3] = [
    (CloseReason::Fenced, "it takes another process under the node's id; the tests of fenced nodes start one"),
    (CloseReason::Slow, "a script reads what comes; the tests of slow readers do not"),
    (CloseReason::LogReset, "the log in memory never goes back; the tests of the message path turn it back"),
];

/// The values of a field in what the scripts send, or expect.
fn values(sent: bool, field: &str) -> BTreeSet<String> {
    let mark = format!("\"{field}\":");
    let steps = SCRIPTS.iter().flat_map(|name| script::read(name)).map(|(_, step)| step);
    let texts = steps.flat_map(|step| match step {
        Step::Say { text, .. } if sent => vec![text],
        Step::Hear { frames, .. } if !sent => frames,
        _ => Vec::new(),
    });
    let value = |text: String| Some(text.split_once(&mark)?.1.split([',', '}']).next()?.trim_matches('"').to_owned());
    texts.filter_map(value).collect()
}

/// The types of the frames with a mark in docs/PROTOCOL.md, which another test holds to be all of them.
fn documented(mark: &str) -> BTreeSet<String> {
    let page = fs::read_to_string(folder().join("../../../docs/PROTOCOL.md")).unwrap();
    let frames = page.lines().filter_map(|line| line.strip_prefix(mark)).filter(|line| line.starts_with('{'));
    let kind = |frame| serde_json::from_str::<Value>(frame).unwrap()["type"].as_str().unwrap().to_owned();
    frames.map(kind).collect()
}

#[test]
fn every_script_is_played() {
    let written: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(SCRIPTS.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), written);
}

#[test]
fn every_request_and_every_frame_of_the_server_is_in_a_script() {
    for (sent, mark) in [(true, "> "), (false, "< ")] {
        let (documented, played) = (documented(mark), values(sent, "type"));
        assert!(documented.len() > 20, "{documented:?}");
        let missing: Vec<&String> = documented.difference(&played).collect();
        assert!(missing.is_empty(), "in no script: {missing:?}");
    }
}

#[test]
fn every_error_and_every_end_is_in_a_script_or_has_a_reason_not_to_be() {
    let played = values(false, "code");
    for code in ErrorCode::ALL {
        let excused = ERRORS_WITHOUT_A_SCRIPT.iter().any(|(excused, _)| *excused == code);
        assert_ne!(played.contains(code.as_str()), excused, "{code}");
    }
    for reason in CloseReason::ALL {
        let excused = CLOSES_WITHOUT_A_SCRIPT.iter().any(|(excused, _)| *excused == reason);
        assert_ne!(played.contains(&json!(reason.code()).to_string()), excused, "{}", reason.as_str());
    }
}
