//! The compose files and the Dockerfile name what exists, and the configs in them are valid.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use switchboard::bus::{BusConfig, BusKind};
use switchboard::config::{Config, Overrides};
use switchboard::edge::nginx::{Layout, render};

use crate::harness::docker::images;

/// The images that tests run; the rest are our own and the balancer.
const TESTED: [&str; 8] = [
    images::REDIS,
    images::RABBITMQ,
    images::KAFKA,
    images::ACTIVEMQ,
    images::MOSQUITTO,
    images::NATS,
    images::POSTGRES,
    images::MARIADB,
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn compose_files() -> Vec<(PathBuf, Value)> {
    let entries = fs::read_dir(root().join("compose")).expect("compose/");
    let paths = entries.map(|entry| entry.unwrap().path());
    let parsed = paths.filter(|path| path.extension().is_some_and(|kind| kind == "yml")).map(|path| {
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

/// Puts what is set, or the default, in the place of each `${NAME:-default}` of a text.
fn filled(text: &str, set: &BTreeMap<&str, &str>) -> String {
    let Some((before, rest)) = text.split_once("${") else { return text.to_owned() };
    let (variable, after) = rest.split_once('}').expect("a variable ends");
    let (name, default) = variable.split_once(":-").expect("a variable has a default");
    format!("{before}{}{}", set.get(name).unwrap_or(&default), filled(after, set))
}

/// The config that a service's environment makes, when some variables are set outside.
fn config_with(set: &BTreeMap<&str, &str>, name: &str, service: &Value) -> Config {
    let text = |key: &str, value: &Value| filled(value.as_str().unwrap_or_else(|| panic!("{name}: quote {key}")), set);
    let variables = service["environment"].as_object().into_iter().flatten();
    let ours = variables.filter(|(key, _)| key.starts_with("SWITCHBOARD_"));
    let environment: BTreeMap<OsString, OsString> =
        ours.map(|(key, value)| (key.into(), text(key, value).into())).collect();
    Config::load_from(None, environment, &Overrides::default()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn config(name: &str, service: &Value) -> Config {
    config_with(&BTreeMap::new(), name, service)
}

/// Returns the kinds of bus that have a broker.
fn brokers() -> impl Iterator<Item = BusKind> {
    BusKind::ALL.into_iter().filter(|kind| kind.feature().is_some())
}

/// Returns where a bus finds its broker, as host:port.
fn address(bus: &BusConfig) -> &str {
    let url = match bus.kind {
        BusKind::Memory => unreachable!("it has no broker"),
        BusKind::Redis => bus.redis.url.expose(),
        BusKind::Rabbitmq => bus.rabbitmq.url.expose(),
        BusKind::Kafka => &bus.kafka.brokers,
        BusKind::Activemq => bus.activemq.url.expose(),
        BusKind::Mqtt => bus.mqtt.url.expose(),
        BusKind::Nats => bus.nats.url.expose(),
    };
    let place = url.rsplit_once("//").map_or(url, |(_, place)| place);
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    place.split('/').next().unwrap_or(place)
}

/// Tells whether an image is one that tests run, of that version or a narrower one: `nats:2-alpine` is a `nats:2`.
fn is_tested(image: &str) -> bool {
    TESTED.into_iter().any(|tested| {
        let rest = image.strip_prefix(tested);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
    })
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
fn every_kind_of_broker_has_a_compose_file_at_the_default_address() {
    let default = BusConfig::default();
    for kind in brokers() {
        let text =
            fs::read_to_string(root().join(format!("compose/{kind}.yml"))).unwrap_or_else(|e| panic!("{kind}: {e}"));
        let file: Value = serde_saphyr::from_str(&text).unwrap();
        let all: Vec<_> = services(&file).collect();
        let [(name, service)] = all[..] else { panic!("{kind}: several services") };
        let bus = BusConfig { kind, ..default.clone() };
        let port = address(&bus).rsplit_once(':').expect("a port").1;
        let published = texts(&service["ports"]);
        assert!(published.contains(&format!("127.0.0.1:{port}:{port}").as_str()), "{name}: {published:?}");
        assert!(published.iter().all(|port| port.starts_with("127.0.0.1:")), "{name}: {published:?}");
        // What the file says on top must be true of a build that has the broker.
        if kind != default.kind {
            let feature = kind.feature().expect("a broker has one");
            let said = [format!("SWITCHBOARD_BUS__KIND={kind} "), format!("--features {feature}")];
            assert!(said.iter().all(|said| text.contains(said)), "{kind}: {said:?}");
        }
    }
}

#[test]
fn the_cluster_can_have_each_kind_of_broker() {
    let (_, file) = compose_files().into_iter().find(|(path, _)| path.ends_with("cluster.yml")).expect("cluster.yml");
    let default = BusConfig::default().kind;
    for kind in brokers() {
        let chosen = BTreeMap::from([("SWITCHBOARD_BUS__KIND", kind.name())]);
        let bus = ["node-a", "node-b"].map(|node| config_with(&chosen, node, &file["services"][node]).bus);
        assert_eq!(bus[0], bus[1]);
        assert_eq!(bus[0].kind, kind);
        let (host, _) = address(&bus[0]).rsplit_once(':').expect("a port");
        let broker = &file["services"][host];
        assert!(broker.is_object(), "{kind}: there is no service {host}");
        let profiles = if kind == default { vec![] } else { vec![kind.name()] };
        assert_eq!(texts(&broker["profiles"]), profiles, "{host}");
        let advertised = broker["environment"]["KAFKA_ADVERTISED_LISTENERS"].as_str();
        assert!(advertised.is_none_or(|listener| listener.ends_with(address(&bus[0]))), "{advertised:?}");
    }
    // Without a profile there is nothing to wait for that only a profile has.
    for (name, service) in services(&file).filter(|(_, service)| service["profiles"].is_null()) {
        let needed = texts(&service["depends_on"]);
        assert!(needed.iter().all(|other| file["services"][*other]["profiles"].is_null()), "{name}: {needed:?}");
    }
}

#[test]
fn compose_files_name_the_images_that_tests_run_and_operations_has_them() {
    let page = fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let mut named = 0;
    for (path, file) in compose_files() {
        let link = format!("../compose/{}", path.file_name().unwrap().to_str().unwrap());
        for (name, service) in services(&file).filter(|(_, service)| service["build"].is_null()) {
            let image = service["image"].as_str().expect("it has one");
            named += usize::from(is_tested(image));
            let row = page.lines().any(|line| line.contains(&link) && line.contains(&format!("`{image}`")));
            assert!(row || link.ends_with("cluster.yml"), "OPERATIONS.md has no row with {link} and {image}");
            assert!(is_tested(image) || image.starts_with("nginx:"), "{}: {name}: {image}", path.display());
        }
    }
    assert!(named > TESTED.len(), "only {named} were found");
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
