//! A build contains the clients of the brokers that it was asked for, and no others.

use std::process::Command;

/// The features that bring a client, with the client's name.
const CLIENTS: [(&str, &str); 5] = [
    ("redis", "redis"),
    ("rabbitmq", "lapin"),
    ("kafka", "rdkafka"),
    ("mqtt", "rumqttc-v4-next"),
    ("nats", "async-nats"),
];

/// Returns the clients in a build, of those that there are. What cargo has built it has fetched, so it needs no network.
fn clients(features: &[&str]) -> Vec<&'static str> {
    let said = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--edges", "normal", "--locked", "--offline", "--prefix", "none", "--format", "{p}"])
        .args(features)
        .output()
        .expect("cargo runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let tree = String::from_utf8(said.stdout).expect("names are text");
    let packages: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(packages.contains(&"tokio"), "{tree}");
    CLIENTS.into_iter().map(|(_, client)| client).filter(|client| packages.contains(client)).collect()
}

#[test]
fn a_build_without_features_has_no_client() {
    assert_eq!(clients(&["--no-default-features"]), [""; 0]);
}

#[cfg(feature = "redis")]
#[test]
fn the_default_build_has_the_client_of_redis_and_no_other() {
    assert_eq!(clients(&[]), ["redis"]);
}

#[test]
fn each_feature_brings_its_own_client() {
    // Of the others, this build need not have fetched anything.
    let compiled = [
        cfg!(feature = "redis"),
        cfg!(feature = "rabbitmq"),
        cfg!(feature = "kafka"),
        cfg!(feature = "mqtt"),
        cfg!(feature = "nats"),
    ];
    for ((feature, client), _) in CLIENTS.into_iter().zip(compiled).filter(|(_, compiled)| *compiled) {
        assert_eq!(clients(&["--no-default-features", "--features", feature]), [client], "{feature}");
    }
}

#[cfg(all(feature = "redis", feature = "rabbitmq", feature = "kafka", feature = "mqtt", feature = "nats"))]
#[test]
fn all_brokers_brings_every_client() {
    assert_eq!(clients(&["--features", "all-brokers"]), CLIENTS.map(|(_, client)| client));
}
