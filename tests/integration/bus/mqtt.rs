use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use switchboard::bus::contract::{ContractBroker, DEADLINE, Needs};
use switchboard::bus::{BusConfig, BusErrorKind, BusEvent, BusState, Claim, MessageBus, connect, inspect};

use super::mqtt_traps::{connected, message, mqtt_traps, outgoing, read_to, subject, within};
use crate::harness::broker::{Place, bus_at, config_of};
use crate::harness::eventually;
use crate::harness::mosquitto::{Mosquitto, MosquittoServer};
use crate::harness::mqtt::Client;
use crate::harness::server::Program;

switchboard::bus_contract!(contract, Place::<Mosquitto>::that);
switchboard::bus_contract!(contract_at_qos_0, Unconfirmed::that);

mqtt_traps!(MosquittoServer);

/// A broker whose buses publish with QoS 0.
struct Unconfirmed(Place<Mosquitto>);

impl Unconfirmed {
    async fn that(needs: Needs) -> Option<Self> {
        Place::that(needs).await.map(Self)
    }
}

#[async_trait]
impl ContractBroker for Unconfirmed {
    async fn bus(&self) -> Arc<dyn MessageBus> {
        let mut config = config_at(&self.0.url());
        config.mqtt.qos = 0;
        let bus = connect(&config).await.unwrap();
        assert_eq!(bus.guarantees().confirmed, Claim::No);
        bus
    }

    async fn kill(&self) {
        self.0.kill().await;
    }

    async fn start(&self) {
        self.0.start().await;
    }

    async fn restart(&self) {
        self.0.restart().await;
    }

    async fn pause(&self) {
        self.0.pause().await;
    }

    async fn resume(&self) {
        self.0.resume().await;
    }
}

#[tokio::test]
async fn the_loss_of_either_connection_is_a_loss_and_heals() {
    let Some(server) = MosquittoServer::start_new().await else { return };
    let bus = connected(&server).await;
    let subject = subject("either");
    let mut subscription = within(bus.subscribe(&subject)).await.unwrap();
    for which in 0..2 {
        assert!(within(bus.publish(vec![outgoing(&subject, "x")])).await[0].is_ok());
        read_to(&mut subscription, BusEvent::Message("x".into())).await;
        // The last two ids are those of the link that lives; a broker cuts whoever had an id before.
        let ids = client_ids(&server);
        let _usurper = Client::connect(server.address(), &ids[ids.len() - 2 + which], 0).await;
        assert_eq!(within(subscription.next()).await, Some(BusEvent::Lost), "{which}");
        assert_eq!(within(subscription.next()).await, Some(BusEvent::Resumed), "{which}");
    }
    let mut ids = client_ids(&server);
    ids.sort();
    ids.dedup();
    // Three links of two connections each: none has come back under an old id.
    assert_eq!(ids.len(), 6, "{ids:?}");
}

/// Returns the ids under which we have connected, in this order.
fn client_ids(server: &MosquittoServer) -> Vec<String> {
    let said = server.said();
    let ids = said.lines().filter(|line| line.contains("New client connected"));
    ids.filter_map(|line| line.split(' ').find(|word| word.starts_with("switchboard")).map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let Some(server) = MosquittoServer::start_new().await else { return };
    let passwords = server.program().write("passwords", "");
    let made = Command::new("mosquitto_passwd").arg("-b").arg(&passwords).args(["someone", "p@ss:word"]).status();
    assert!(made.expect("mosquitto_passwd comes with mosquitto").success());
    let file = format!("password_file {}", passwords.display());
    server.program().configure(&["allow_anonymous false", &file]);
    server.restart().await;
    let right = format!("mqtt://someone:p%40ss:word@{}", server.address());
    let bus = bus_at(Mosquitto::KIND, Mosquitto::KEY, &right).await;
    within(bus.state().wait_for(BusState::is_connected)).await.unwrap();
    for credentials in ["someone:secret@", "nobody:secret@", "someone@", ""] {
        let url = format!("mqtt://{credentials}{}", server.address());
        let error = within(inspect(&config_at(&url))).await.unwrap_err();
        assert_eq!(error.kind(), BusErrorKind::Rejected, "{error:?}");
        assert!(error.to_string().contains("bus.mqtt.url"), "{error:?}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_subject_that_the_broker_refuses_does_its_neighbours_no_harm() {
    // Mosquitto's list of rights in a file refuses no subscription; its plugin does.
    const RIGHTS: &str = r#"{
        "defaultACLAccess": {"publishClientSend": true, "publishClientReceive": true, "unsubscribe": true},
        "anonymousGroup": "all",
        "groups": [{"groupname": "all", "roles": [{"rolename": "limited"}]}],
        "roles": [{"rolename": "limited", "acls": [
            {"acltype": "subscribePattern", "topic": "traps/allowed/#", "allow": true},
            {"acltype": "subscribePattern", "topic": "traps/#", "allow": false}
        ]}]
    }"#;
    let Some(server) = MosquittoServer::start_new().await else { return };
    let Some(plugin) = plugin() else {
        return crate::harness::skip("mosquitto_dynamic_security.so", "it comes with mosquitto 2");
    };
    let rights = server.program().write("rights.json", RIGHTS);
    let (plugin, file) = (format!("plugin {plugin}"), format!("plugin_opt_config_file {}", rights.display()));
    server.program().configure(&["allow_anonymous true", &plugin, &file]);
    server.restart().await;
    let bus = connected(&server).await;
    let subjects = ["allowed.a", "secret", "allowed.b"].map(subject);
    let subscribing = subjects.each_ref().map(|subject| bus.subscribe(subject));
    let mut subscriptions = within(futures_util::future::join_all(subscribing)).await;
    let refused = subscriptions[1].as_ref().unwrap_err();
    assert_eq!(refused.kind(), BusErrorKind::Rejected);
    assert!(refused.to_string().contains("traps/secret"), "{refused:?}");
    for index in [0, 2] {
        let subscription = subscriptions[index].as_mut().unwrap();
        assert!(within(bus.publish(vec![outgoing(&subjects[index], "x")])).await[0].is_ok());
        assert_eq!(message(subscription).await, "x");
    }
    assert!(matches!(*bus.state().borrow(), BusState::Connected { epoch: 1 }));
}

/// Finds the plugin of Mosquitto that knows roles.
fn plugin() -> Option<String> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/local/lib"];
    let files = folders.map(|folder| format!("{folder}/mosquitto_dynamic_security.so"));
    files.into_iter().find(|file| std::path::Path::new(file).is_file())
}

#[tokio::test]
async fn what_mosquitto_drops_is_a_hazard() {
    let Some(server) = MosquittoServer::start_new().await else { return };
    server.program().configure(&["allow_anonymous true", "max_queued_messages 10", "sys_interval 1"]);
    server.restart().await;
    let sound = within(inspect(&config_at(&server.url()))).await.unwrap();
    assert!(sound.version.as_ref().is_some_and(|version| version.starts_with("Mosquitto 2")), "{sound:?}");
    assert_eq!(sound.hazards, Vec::<String>::new());
    let bus = connected(&server).await;
    let subject = subject("dropped");
    let mut quick = within(bus.subscribe(&subject)).await.unwrap();
    let mut deaf = Client::connect(server.address(), "deaf", 0).await;
    deaf.subscribe("traps/dropped").await;
    for _ in 0..100 {
        assert!(within(bus.publish(vec![outgoing(&subject, vec![b'x'; 1024 * 1024])])).await[0].is_ok());
        assert_eq!(message(&mut quick).await.len(), 1024 * 1024);
    }
    eventually("the hazard is told", DEADLINE, || async {
        let told = inspect(&config_at(&server.url())).await.unwrap();
        told.hazards.iter().any(|hazard| hazard.contains("max_queued_messages"))
    })
    .await;
}

fn config_at(url: &str) -> BusConfig {
    config_of(Mosquitto::KIND, Mosquitto::KEY, url)
}
