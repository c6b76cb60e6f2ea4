//! A real broker as tests see it, wherever it runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use switchboard::bus::contract::{ContractBroker, Needs};
use switchboard::bus::{BusConfig, BusKind, MessageBus, connect};
use switchboard::config::{Config, Overrides};

use super::server::{Program, Server};

/// A real broker that a test may break, with nodes on it.
pub(crate) trait BrokerServer: ContractBroker {
    /// Returns the lines of a config that put a node on it.
    fn settings(&self) -> String;

    /// Returns the address that it listens on.
    fn address(&self) -> SocketAddr;
}

#[async_trait]
impl<P: Program> ContractBroker for Server<P> {
    async fn bus(&self) -> Arc<dyn MessageBus> {
        bus_at(P::KIND, P::KEY, &self.url()).await
    }

    async fn kill(&self) {
        Server::kill(self);
    }

    async fn start(&self) {
        Server::start(self).await;
    }

    async fn restart(&self) {
        Server::restart(self).await;
    }

    async fn pause(&self) {
        Server::pause(self);
    }

    async fn resume(&self) {
        Server::resume(self);
    }
}

impl<P: Program> BrokerServer for Server<P> {
    fn settings(&self) -> String {
        settings(P::KIND, P::KEY, &self.url())
    }

    fn address(&self) -> SocketAddr {
        Server::address(self)
    }
}

/// The broker of a case of the contract suite.
pub(crate) enum Place<P> {
    /// One that only this case uses.
    Own(Server<P>),
    /// The one of this run.
    Shared(Arc<Server<P>>),
    /// One that somebody has lent us, by its address.
    Lent(String),
}

impl<P: Program> Place<P> {
    /// Returns a broker that suits a case. `None`: there is none, which has been said.
    pub(crate) async fn that(needs: Needs) -> Option<Self> {
        match (needs, lent(P::KIND)) {
            (Needs::Own, _) => Server::start_new().await.map(Self::Own),
            (Needs::Shared, Some(address)) => Some(Self::Lent(address)),
            (Needs::Shared, None) => Server::shared().await.map(Self::Shared),
        }
    }

    /// Returns where it is, as the config takes it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Own(server) => server.url(),
            Self::Shared(server) => server.url(),
            Self::Lent(address) => address.clone(),
        }
    }

    /// Returns the server, if only this case uses it.
    pub(crate) fn own(&self) -> &Server<P> {
        match self {
            Self::Own(server) => server,
            Self::Shared(_) | Self::Lent(_) => panic!("a broker that others use is not to be broken"),
        }
    }
}

#[async_trait]
impl<P: Program> ContractBroker for Place<P> {
    async fn bus(&self) -> Arc<dyn MessageBus> {
        bus_at(P::KIND, P::KEY, &self.url()).await
    }

    async fn kill(&self) {
        self.own().kill();
    }

    async fn start(&self) {
        self.own().start().await;
    }

    async fn restart(&self) {
        self.own().restart().await;
    }

    async fn pause(&self) {
        self.own().pause();
    }

    async fn resume(&self) {
        self.own().resume();
    }
}

/// Returns where a broker of a kind is that somebody has lent to the tests, as `SWITCHBOARD_TEST_REDIS_URL` and the like
/// have it.
pub(crate) fn lent(kind: BusKind) -> Option<String> {
    let variable = format!("SWITCHBOARD_TEST_{}_URL", kind.name().to_uppercase());
    std::env::var(variable).ok().filter(|address| !address.is_empty())
}

/// Makes a bus on a broker. It need not be connected yet.
pub(crate) async fn bus_at(kind: BusKind, key: &str, address: &str) -> Arc<dyn MessageBus> {
    connect(&config_of(kind, key, address)).await.expect("a good address")
}

/// Returns the config that puts a bus on a broker; `key` takes its address.
pub(crate) fn config_of(kind: BusKind, key: &str, address: &str) -> BusConfig {
    let environment: BTreeMap<_, _> =
        variables(kind, key, address).map(|(name, value)| (name.into(), value.into())).into();
    Config::load_from(None, environment, &Overrides::default()).expect("a valid config").bus
}

/// Returns the environment that puts a program on a broker.
pub(crate) fn variables(kind: BusKind, key: &str, address: &str) -> [(String, String); 2] {
    let name = format!("SWITCHBOARD_{}", key.to_uppercase().replace('.', "__"));
    [("SWITCHBOARD_BUS__KIND".to_owned(), kind.name().to_owned()), (name, address.to_owned())]
}

fn settings(kind: BusKind, key: &str, address: &str) -> String {
    format!("bus.kind = \"{kind}\"\n{key} = \"{address}\"")
}
