//! Who may import whom.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// Each broker's client, with the backend whose files alone may name it.
const CLIENTS: [(&str, &str); 6] = [
    ("redis", "bus::redis"),
    ("lapin", "bus::rabbitmq"),
    ("rdkafka", "bus::kafka"),
    ("rumqttc", "bus::mqtt"),
    ("rumqttc_v4_next", "bus::mqtt"),
    ("async_nats", "bus::nats"),
];
const NAMELESS: [&str; 7] = ["utils", "util", "common", "helpers", "helper", "misc", "manager"];
const LONGEST: usize = 600;

/// A file of the crate: its path from the root (`src/bus/mod.rs`) and its text.
pub(super) type File = (String, String);

/// Returns every breach of the rules in the files of `src`. `map` is the architecture's page, which excuses files by
/// naming them.
pub(super) fn breaches(files: &[File], map: &str) -> Vec<String> {
    let read: Vec<(&File, String, Source)> = files
        .iter()
        .filter(|(path, _)| !is_test(path))
        .map(|file| {
            let module = module_of(&file.0);
            let source = Source::read(&module, &file.1);
            (file, module, source)
        })
        .collect();
    let leaves = leaves(&read);
    let mut breaches = Vec::new();
    for ((path, text), module, source) in &read {
        let mut breach = |what: String| breaches.push(format!("{path}: {what}"));
        for named in &source.paths {
            if let Some(why) = forbidden(module, named, &leaves) {
                breach(format!("names {named}: {why}"));
            }
        }
        for name in source.modules.iter().map(String::as_str).chain(module.rsplit("::").next()) {
            if NAMELESS.contains(&name) {
                breach(format!("`{name}` says nothing; name the module after what it is about"));
            }
        }
        let lines = text.lines().count();
        if lines > LONGEST && !map.contains(path.as_str()) {
            breach(format!("{lines} lines; split it, or say in docs/ARCHITECTURE.md why {LONGEST} are not enough"));
        }
    }
    breaches
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// `src/bus/mod.rs` is `bus`, `src/bus/redis.rs` is `bus::redis`, `src/lib.rs` is the root; the program's file is a
/// module of its own.
fn module_of(path: &str) -> String {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    if inner == "lib" { String::new() } else { inner.replace('/', "::") }
}

/// The top-level modules that import nothing of ours: everybody may use them.
fn leaves(read: &[(&File, String, Source)]) -> BTreeSet<String> {
    let mut reaches_out: BTreeMap<&str, bool> = BTreeMap::new();
    for (_, module, source) in read {
        let top = module.split("::").next().unwrap_or_default();
        let out =
            source.paths.iter().any(|path| path.starts_with("crate::") && !within(path, &format!("crate::{top}")));
        *reaches_out.entry(top).or_default() |= out;
    }
    // A layer stays a layer, though it imports nothing.
    let layers = ["", "main", "model", "bus", "protocol"];
    reaches_out.into_iter().filter(|(top, out)| !out && !layers.contains(top)).map(|(top, _)| top.to_owned()).collect()
}

fn within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Says why `module` may not name `path`, if it may not.
fn forbidden(module: &str, path: &str, leaves: &BTreeSet<String>) -> Option<String> {
    let path = path.strip_prefix("switchboard::").map_or_else(|| path.to_owned(), |rest| format!("crate::{rest}"));
    let path = path.as_str();
    let first = path.split("::").next().unwrap_or_default();
    if first != "crate" {
        return forbidden_crate(module, path, first);
    }
    let target = path.split("::").nth(1).unwrap_or_default();
    let top = module.split("::").next().unwrap_or_default();
    if target == "cli" && !["main", "cli"].contains(&top) {
        return Some("nothing imports the command line".to_owned());
    }
    if within(module, "server::front::session") {
        let barred = ["crate::bus", "crate::model::store"].into_iter().find(|barred| within(path, barred));
        if barred.is_some() {
            return Some("the session knows neither bus nor log".to_owned());
        }
    }
    let allowed: &[&str] = match top {
        "model" | "bus" => &[],
        "protocol" => &["model"],
        "client" => &["protocol", "model"],
        _ => return None,
    };
    // An exported macro stands at the root of the crate, whatever module it belongs to.
    let own_macro = matches!((top, target), ("model", "store_contract") | ("bus", "bus_contract"));
    if own_macro || target == top || allowed.contains(&target) || leaves.contains(target) {
        return None;
    }
    Some(match allowed {
        [] => format!("`{top}` imports nothing of ours"),
        names => format!("`{top}` imports only {}", names.join(" and ")),
    })
}

fn forbidden_crate(module: &str, path: &str, name: &str) -> Option<String> {
    if let Some((_, home)) = CLIENTS.iter().find(|(client, _)| *client == name) {
        return (!within(module, home)).then(|| format!("this client belongs into {home} alone"));
    }
    if name == "sqlx" && !within(module, "model::store") {
        return Some("SQL belongs into model::store alone".to_owned());
    }
    let sockets = ["tokio::net", "std::net::TcpStream", "std::net::TcpListener", "std::net::UdpSocket"];
    if within(module, "server::front::session") && sockets.iter().any(|socket| within(path, socket)) {
        return Some("the session has no sockets".to_owned());
    }
    None
}
