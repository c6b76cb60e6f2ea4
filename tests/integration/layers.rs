//! The source tree keeps the layers that docs/ARCHITECTURE.md draws.

mod rules;
mod source;

use std::fs;
use std::path::Path;

use rules::{File, breaches};

fn tree(folder: &Path, root: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tree(&path, root, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn source_tree_keeps_its_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    tree(&root.join("src"), root, &mut files);
    files.sort();
    assert!(files.len() > 20, "only {} files were found", files.len());
    let map = fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap();
    let found = breaches(&files, &map);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The breaches in a small tree: each file under its path.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<File> = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    breaches(&files, "src/long/excused.rs has more lines because")
}

#[test]
fn each_breach_is_found() {
    let bad = [
        ("src/model/name.rs", "use crate::server::Node;", "names crate::server::Node: `model` imports nothing of ours"),
        ("src/model/name.rs", "fn f() { crate::config::Config::load() }", "names crate::config::Config::load"),
        ("src/model/mod.rs", "mod a { mod b { use super::super::super::bus::Subject; } }", "names crate::bus::Subject"),
        (
            "src/protocol/codec.rs",
            "use super::super::server::{front::{Outbox, session}, X};",
            "`protocol` imports only model",
        ),
        ("src/bus/memory.rs", "use crate::model::NodeId;", "`bus` imports nothing of ours"),
        ("src/bus/memory.rs", "use crate::{bus::Subject, protocol::Codec as C};", "names crate::protocol::Codec:"),
        ("src/client/mod.rs", "use crate::server::LimitsConfig;", "`client` imports only protocol and model"),
        ("src/server/front/session.rs", "use tokio::{net::TcpStream, sync::mpsc};", "the session has no sockets"),
        ("src/server/front/session/member.rs", "let s: std::net::TcpStream;", "the session has no sockets"),
        ("src/server/front/session.rs", "use crate::bus::MessageBus;", "the session knows neither bus nor log"),
        (
            "src/server/front/session.rs",
            "use crate::model::{UserId, store::Store};",
            "names crate::model::store::Store",
        ),
        ("src/bus/kafka.rs", "use redis::Client;", "this client belongs into bus::redis alone"),
        (
            "src/bus/connect.rs",
            "fn f() { lapin::Connection::connect() }",
            "this client belongs into bus::rabbitmq alone",
        ),
        ("src/server/mod.rs", "fn f() -> ::async_nats::Client {}", "this client belongs into bus::nats alone"),
        ("src/server/mod.rs", "use sqlx::Row;", "SQL belongs into model::store alone"),
        ("src/server/mod.rs", "use crate::cli::Cli;", "nothing imports the command line"),
        ("src/config.rs", "use switchboard::cli::Cli;", "nothing imports the command line"),
        ("src/server/mod.rs", "mod utils;", "`utils` says nothing"),
        ("src/server/helpers.rs", "", "`helpers` says nothing"),
        ("src/server/long.rs", &"\n".repeat(601), "601 lines; split it"),
    ];
    for (path, text, breach) in bad {
        // Makes `server` and `config` no leaves, as they are none in the tree.
        let config = ("src/config/other.rs", "use crate::server::X;");
        let server = ("src/server/other.rs", "use crate::model::X;");
        let found = found(&[(path, text), config, server]);
        assert!(found.iter().any(|f| f.starts_with(path) && f.contains(breach)), "{path} {text:?}: {found:?}");
    }
}

#[test]
fn what_is_allowed_is_not_reported() {
    let good = [
        ("src/main.rs", "use switchboard::cli::Cli;"),
        ("src/duration.rs", "use std::time::Duration;"),
        ("src/bus/config.rs", "#[serde(with = \"crate::server\")] use crate::duration::parse;"),
        ("src/bus/redis.rs", "use redis::Client; use super::{Subject, error::BusError};"),
        ("src/bus/redis/push.rs", "use redis::Value;"),
        ("src/bus/mod.rs", "mod redis; use redis::RedisBus;"),
        ("src/bus/connect.rs", "use super::redis; fn f() { redis::connect(&config.redis.url) }"),
        ("src/model/store/sqlite.rs", "use sqlx::Row; use crate::model::UserId;"),
        ("src/protocol/codec.rs", "/// See [`crate::server`].\n// use crate::server::X;\nuse crate::model::Name;"),
        ("src/model/name.rs", "const TEXT: &str = \"crate::server::X\"; const RAW: &str = r#\"crate::bus::X \" \"#;"),
        ("src/model/id.rs", "const QUOTE: char = '\"'; const ESCAPED: char = '\\''; fn f<'a>(x: &'a str) {}"),
        ("src/model/key.rs", "#[cfg(test)] mod tests { use crate::server::X; fn f() { [0; 2]; } }"),
        ("src/server/front/session.rs", "use std::net::SocketAddr; use tokio::sync::mpsc; use crate::model::UserId;"),
        ("src/server/front/session/tests.rs", "use crate::model::store::Store; use crate::bus::X;"),
        ("src/server/mod.rs", "use crate::bus::MessageBus; use crate::model::store::Store;"),
        ("src/client/mod.rs", "use crate::protocol::Codec; use crate::model::Name;"),
        ("src/long/excused.rs", &"\n".repeat(601)),
    ];
    assert_eq!(found(&good), Vec::<String>::new());
}
