//! The config files that come with the program, and what it says about broken ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use switchboard::config::{Config, ConfigError, Overrides};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn load(path: &Path) -> Result<Config, ConfigError> {
    Config::load_from(Some(path), [], &Overrides::default())
}

/// The whole chain, as the program prints it.
fn printed(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\n{error}"));
        cause = error.source();
    }
    text
}

fn keys(table: &toml::Table, path: &str, into: &mut BTreeSet<String>) {
    for (name, value) in table {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            toml::Value::Table(table) => keys(table, &path, into),
            _ => assert!(into.insert(path)),
        }
    }
}

fn keys_of(text: &str) -> BTreeSet<String> {
    let mut into = BTreeSet::new();
    keys(&text.parse().expect("TOML"), "", &mut into);
    into
}

#[test]
fn default_toml_holds_every_key_at_its_default() {
    assert_eq!(load(&root("config/default.toml")).unwrap(), Config::default());
    let written = keys_of(&fs::read_to_string(root("config/default.toml")).unwrap());
    let known = keys_of(&toml::to_string(&Config::default()).unwrap());
    let missing: Vec<_> = known.difference(&written).collect();
    assert!(missing.is_empty(), "config/default.toml lacks {missing:?}");
}

#[test]
fn every_key_of_default_toml_stands_below_a_comment_or_names_its_broker() {
    let text = fs::read_to_string(root("config/default.toml")).unwrap();
    let mut explained = false;
    let mut bare = Vec::new();
    let mut section = String::new();
    for line in text.lines() {
        if line.starts_with('#') {
            explained = true;
        } else if line.starts_with('[') {
            section = line.to_owned();
            explained = section.starts_with("[bus.");
        } else if line.is_empty() {
            explained = false;
        } else if line.starts_with(|c: char| c.is_ascii_lowercase()) && !explained {
            bare.push(format!("{section} {line}"));
        }
    }
    assert!(bare.is_empty(), "without a comment: {bare:?}");
}

#[test]
fn every_shipped_config_is_valid_and_two_nodes_share_one_log() {
    for entry in fs::read_dir(root("config")).unwrap() {
        let path = entry.unwrap().path();
        load(&path).unwrap_or_else(|e| panic!("{}: {}", path.display(), printed(&e)));
    }
    let (a, b) = (load(&root("config/node-a.toml")).unwrap(), load(&root("config/node-b.toml")).unwrap());
    assert_eq!(a.store, b.store);
    assert_ne!(a.node.id, b.node.id);
    assert_ne!(a.listen.tcp, b.listen.tcp);
    assert_ne!(a.listen.http, b.listen.http);
    let behind_the_edge: Vec<String> = Config::default().edge.nodes.iter().map(|n| n.address.to_string()).collect();
    assert_eq!(behind_the_edge, [a.listen.tcp.to_string(), b.listen.tcp.to_string()]);
}

#[test]
fn each_broken_config_gets_the_message_it_names() {
    let mut checked = 0;
    for entry in fs::read_dir(root("tests/fixtures/config")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let expected: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# error: ")).collect();
        assert!(!expected.is_empty(), "{} names no message", path.display());
        let error = match load(&path) {
            Ok(_) => panic!("{} was taken", path.display()),
            Err(e) => printed(&e),
        };
        for expected in expected {
            assert!(error.contains(expected), "{}\n  wants {expected}\n  got   {error}", path.display());
        }
        assert!(error.contains(&path.display().to_string()), "{} is not named in: {error}", path.display());
        checked += 1;
    }
    assert!(checked >= 30, "only {checked} fixtures were found");
}

fn switchboard(args: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_switchboard"))
        .args(args)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the program runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn program_reads_the_environment_over_the_file() {
    let args = ["nginx", "render", "--config", "config/default.toml"];
    let output = switchboard(&args, &[("SWITCHBOARD_EDGE__LISTEN", "127.0.0.1:8123")]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("listen 127.0.0.1:8123"));
}

#[test]
fn program_ends_with_78_on_a_broken_config_and_says_why_once() {
    let output = switchboard(&["nginx", "render", "--config", "tests/fixtures/config/several_at_once.toml"], &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(output.stdout.is_empty());
    let text = stderr(&output);
    assert_eq!(text.matches("listen.udp: unknown key").count(), 1, "{text}");

    let output = switchboard(&["nginx", "render"], &[("SWITCHBOARD_BUS__KIND", "pigeon")]);
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).contains("SWITCHBOARD_BUS__KIND: bus.kind: `pigeon` is not allowed"),
        "{}",
        stderr(&output)
    );

    let output = switchboard(&["nginx", "render"], &[("SWITCHBOARD_LOG", "switchboard=loud")]);
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr(&output).contains("SWITCHBOARD_LOG"), "{}", stderr(&output));
}

#[test]
fn program_ends_with_64_on_arguments_it_does_not_know() {
    for args in [&["--no-such-flag"][..], &["no-such-command"], &["nginx"], &["--log-format", "xml", "nginx", "render"]]
    {
        let output = switchboard(args, &[]);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {}", stderr(&output));
    }
    assert_eq!(switchboard(&["--version"], &[]).status.code(), Some(0));
}
