//! The compose files and the Dockerfile name what exists, and the configs in them are valid.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use switchboard::config::{Config, Overrides};
use switchboard::edge::nginx::{Layout, render};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn compose_files() -> Vec<(PathBuf, Value)> {
    let entries = fs::read_dir(root().join("compose")).expect("compose/");
    let parsed = entries.map(|entry| {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let value = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, value)
    });
    let files: Vec<_> = parsed.collect();
    assert!(files.len() >= 2, "only {files:?}");
    files
}

fn services(file: &Value) -> impl Iterator<Item = (&String, &Value)> {
    file["services"].as_object().expect("services").iter()
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        Value::Object(fields) => fields.keys().map(String::as_str).collect(),
        Value::String(text) => vec![text],
        _ => Vec::new(),
    }
}

/// The config that a service's environment makes.
fn config(name: &str, service: &Value) -> Config {
    let environment: BTreeMap<OsString, OsString> = service["environment"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.into(), value.as_str().unwrap_or_else(|| panic!("{name}: quote {key}")).into()))
        .collect();
    Config::load_from(None, environment, &Overrides::default()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn compose_files_name_only_what_exists() {
    for (path, file) in compose_files() {
        let folder = path.parent().unwrap();
        let volumes = texts(&file["volumes"]);
        for (name, service) in services(&file) {
            let shown = format!("{}: {name}", path.display());
            assert!(service["image"].is_string() || service["build"].is_object(), "{shown} has no image");
            if let Some(context) = service["build"]["context"].as_str() {
                let dockerfile = service["build"]["dockerfile"].as_str().unwrap_or("Dockerfile");
                assert!(folder.join(context).join(dockerfile).is_file(), "{shown}: {context}/{dockerfile}");
            }
            for mount in texts(&service["volumes"]) {
                let source = mount.split(':').next().unwrap();
                let exists = if source.starts_with(['.', '/']) {
                    folder.join(source).exists()
                } else {
                    volumes.contains(&source)
                };
                assert!(exists, "{shown}: {mount}");
            }
            for other in texts(&service["depends_on"]) {
                assert!(file["services"][other].is_object(), "{shown} depends on {other}");
                let condition = service["depends_on"][other]["condition"].as_str();
                let checked = file["services"][other]["healthcheck"].is_object();
                assert!(condition != Some("service_healthy") || checked, "{shown}: {other} has no health check");
            }
            let runs_once = service["restart"] == "no";
            assert!(service["healthcheck"].is_object() || runs_once, "{shown} has no health check");
        }
    }
}

#[test]
fn the_cluster_has_two_nodes_on_one_log_behind_the_rendered_balancer() {
    let (path, file) =
        compose_files().into_iter().find(|(path, _)| path.ends_with("cluster.yml")).expect("cluster.yml");
    assert!(services(&file).all(|(name, service)| {
        config(&format!("{}: {name}", path.display()), service);
        true
    }));
    let (a, b) = (config("node-a", &file["services"]["node-a"]), config("node-b", &file["services"]["node-b"]));
    assert_ne!(a.node.id, b.node.id);
    assert_eq!(a.store, b.store);
    assert_eq!(a.bus, b.bus);
    let log = a.store.url.strip_prefix("sqlite://").expect("a SQLite log");
    for node in ["node-a", "node-b"] {
        let mounts = texts(&file["services"][node]["volumes"]);
        let folder = mounts.iter().filter_map(|mount| mount.split(':').nth(1)).find(|folder| log.starts_with(folder));
        assert!(folder.is_some(), "{node}: {log} is in no volume of {mounts:?}");
    }
    let edge = config("edge-config", &file["services"]["edge-config"]).edge;
    let conf = render(&edge, &Layout::default());
    for node in [&a, &b] {
        let server = format!("server {}:{} ", node.node.advertise, node.listen.tcp.port());
        assert!(conf.contains(&server), "no `{server}` in\n{conf}");
    }
}

#[test]
fn the_dockerfile_copies_only_what_exists_and_is_not_ignored() {
    let dockerfile = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let ignored = fs::read_to_string(root().join(".dockerignore")).unwrap();
    let mut copied = 0;
    for line in dockerfile.lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from=")) {
        let words: Vec<&str> = line.split_whitespace().skip(1).filter(|word| !word.starts_with("--")).collect();
        for source in &words[..words.len() - 1] {
            assert!(root().join(source).exists(), "{source}");
            assert!(ignored.lines().any(|allowed| allowed == format!("!{source}")), "{source} is ignored");
            copied += 1;
        }
    }
    assert!(copied > 3, "only {copied} sources were found");
}
