//! docs/PROTOCOL.md says what the server does: its frames parse, its tables are those of the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use switchboard::protocol::{CloseReason, ErrorCode, Request, RequestBody, ServerFrame};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PROTOCOL.md");
    fs::read_to_string(path).expect("docs/PROTOCOL.md")
}

/// The lines of the page's code blocks that begin with a mark, without it.
fn examples(page: &str, mark: &str) -> Vec<String> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if let (true, Some(frame)) = (in_block, line.strip_prefix(mark)) {
            found.push(frame.to_owned());
        }
    }
    found
}

/// The cells of a table's rows, found by the table's first heading.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let begin = format!("| {heading} |");
    let mut rows = page.lines().skip_while(|line| !line.starts_with(&begin));
    assert!(rows.next().is_some() && rows.next().is_some(), "there is no table `{heading}`");
    rows.take_while(|line| line.starts_with('|')).map(cells).collect()
}

fn type_of(frame: &str) -> String {
    let value: Value = serde_json::from_str(frame).unwrap();
    value["type"].as_str().unwrap().to_owned()
}

/// A new request does not compile here until it is named, and then it needs an example.
fn request_type(body: &RequestBody) -> &'static str {
    match body {
        RequestBody::Register { .. } => "register",
        RequestBody::Login(_) => "login",
        RequestBody::Send { .. } => "send",
        RequestBody::Received { .. } => "received",
        RequestBody::History { .. } => "history",
        RequestBody::Conversations { .. } => "conversations",
        RequestBody::GroupCreate { .. } => "group_create",
        RequestBody::GroupJoin { .. } => "group_join",
        RequestBody::GroupLeave { .. } => "group_leave",
        RequestBody::Read { .. } => "read",
        RequestBody::GroupRemove { .. } => "group_remove",
        RequestBody::GroupFind { .. } => "group_find",
        RequestBody::GroupMembers { .. } => "group_members",
        RequestBody::FindUser { .. } => "find_user",
        RequestBody::FriendAdd { .. } => "friend_add",
        RequestBody::FriendAccept { .. } => "friend_accept",
        RequestBody::FriendRemove { .. } => "friend_remove",
        RequestBody::Friends {} => "friends",
        RequestBody::Block { .. } => "block",
        RequestBody::Unblock { .. } => "unblock",
        RequestBody::Typing { .. } => "typing",
        RequestBody::Password { .. } => "password",
        RequestBody::Ping {} => "ping",
        RequestBody::Logout { .. } => "logout",
    }
}

/// As [`request_type`], for what the server says.
fn server_type(frame: &ServerFrame) -> &'static str {
    match frame {
        ServerFrame::Registered { .. } => "registered",
        ServerFrame::Welcome { .. } => "welcome",
        ServerFrame::CaughtUp { .. } => "caught_up",
        ServerFrame::Sent { .. } => "sent",
        ServerFrame::Message(_) => "message",
        ServerFrame::Cursor { .. } => "cursor",
        ServerFrame::History { .. } => "history",
        ServerFrame::Conversations { .. } => "conversations",
        ServerFrame::Group { .. } => "group",
        ServerFrame::Ok { .. } => "ok",
        ServerFrame::Pong { .. } => "pong",
        ServerFrame::Friends { .. } => "friends",
        ServerFrame::Groups { .. } => "groups",
        ServerFrame::Members { .. } => "members",
        ServerFrame::User { .. } => "user",
        ServerFrame::FriendRequest { .. } => "friend_request",
        ServerFrame::FriendAccepted { .. } => "friend_accepted",
        ServerFrame::FriendRemoved { .. } => "friend_removed",
        ServerFrame::Presence { .. } => "presence",
        ServerFrame::Typing { .. } => "typing",
        ServerFrame::Conversation(_) => "conversation",
        ServerFrame::Degraded { .. } => "degraded",
        ServerFrame::Restored {} => "restored",
        ServerFrame::Closing { .. } => "closing",
        ServerFrame::Error { .. } => "error",
    }
}

const REQUESTS: usize = 24;
const SERVER_FRAMES: usize = 25;

/// Written again, a frame must be the same: a field that the code does not know would be gone.
fn same(written: &[u8], example: &str) {
    let written: Value = serde_json::from_slice(written).unwrap();
    assert_eq!(written, serde_json::from_str::<Value>(example).unwrap(), "{example}");
}

#[test]
fn every_example_of_a_request_parses_and_every_request_has_one() {
    let mut seen = BTreeSet::new();
    for example in examples(&page(), "> ") {
        let request = Request::parse(example.as_bytes()).unwrap_or_else(|m| panic!("{example}: {}", m.message));
        assert_eq!(request_type(&request.body), type_of(&example));
        same(&request.to_line(), &example);
        seen.insert(request_type(&request.body));
    }
    assert_eq!(seen.len(), REQUESTS, "with an example: {seen:?}");
}

#[test]
fn every_example_of_a_server_frame_parses_and_every_one_has_one() {
    let mut seen = BTreeSet::new();
    for example in examples(&page(), "< ") {
        let frame = ServerFrame::parse(example.as_bytes()).unwrap_or_else(|e| panic!("{example}: {e}"));
        assert_eq!(server_type(&frame), type_of(&example));
        same(&frame.to_line(), &example);
        if let ServerFrame::Closing { close, .. } = &frame {
            let known = CloseReason::ALL.iter().find(|reason| reason.code() == close.code).expect(&example);
            assert_eq!((known.as_str(), known.reconnect()), (close.reason.as_str(), close.reconnect), "{example}");
        }
        seen.insert(server_type(&frame));
    }
    assert_eq!(seen.len(), SERVER_FRAMES, "with an example: {seen:?}");
}

#[test]
fn no_example_hides_behind_another_mark() {
    let page = page();
    let frames = page.lines().filter(|line| line.contains("{\"type\":")).count();
    assert_eq!(frames, examples(&page, "> ").len() + examples(&page, "< ").len());
}

#[test]
fn close_codes_of_the_page_are_those_of_the_code() {
    let written: Vec<[String; 3]> =
        table(&page(), "Code").into_iter().map(|row| [row[0].clone(), row[1].clone(), row[2].clone()]).collect();
    let known = CloseReason::ALL.map(|reason| {
        let reconnect = if reason.reconnect() { "yes" } else { "no" };
        [reason.code().to_string(), reason.as_str().to_owned(), reconnect.to_owned()]
    });
    assert_eq!(written, known);
}

#[test]
fn error_codes_of_the_page_are_those_of_the_code() {
    let written: Vec<String> = table(&page(), "Error code").into_iter().map(|row| row[0].clone()).collect();
    let parsed: Vec<ErrorCode> = written
        .iter()
        .map(|code| serde_json::from_value(Value::from(code.as_str())).unwrap_or_else(|e| panic!("{code}: {e}")))
        .collect();
    assert_eq!(parsed.iter().map(|code| code.as_str()).collect::<Vec<_>>(), written);
    assert_eq!(parsed, ErrorCode::ALL);
}
