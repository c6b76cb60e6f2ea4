use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use testcontainers::bollard::Docker;
use testcontainers::bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use testcontainers::core::client::docker_client_instance;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

use super::reaper;

/// Says on each container whose it is: the machine and the process.
pub(super) const LABEL: &str = "switchboard.tests";

/// How long a daemon may take to say that it is there.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// The Docker daemon of this run.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) client: Docker,
    /// Where its containers' ports are.
    pub(super) host: String,
    /// The value of [`LABEL`] for this run.
    pub(super) run: String,
    /// Ends with this process, whereupon the containers are removed.
    _reaper: reaper::Reaper,
}

/// Returns the daemon, which is asked once per run, or why there is none.
pub(super) async fn daemon() -> Result<&'static Daemon, String> {
    static DAEMON: OnceCell<Result<Daemon, String>> = OnceCell::const_new();
    let found = DAEMON.get_or_init(|| on_daemon(find())).await;
    found.as_ref().map_err(|why| format!("no Docker daemon answers: {why}"))
}

/// Runs something that talks to the daemon. A connection to it ends with the runtime that made it, so none is made by the
/// runtime of a test.
pub(super) async fn on_daemon<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    runtime().spawn(future).await.expect("no panic")
}

/// Returns the runtime that talks to the daemon for as long as this process lives.
pub(super) fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"));
    &RUNTIME
}

async fn find() -> Result<Daemon, String> {
    let client = docker_client_instance().await.map_err(|error| error.to_string())?;
    match tokio::time::timeout(ANSWER_DEADLINE, client.ping()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("not within {ANSWER_DEADLINE:?}")),
    }
    remove_leftovers(&client).await;
    let run = format!("{}/{}", machine(), std::process::id());
    let host = host(std::env::var("DOCKER_HOST").ok().as_deref());
    Ok(Daemon { client, host, _reaper: reaper::Reaper::start(&run), run })
}

impl Daemon {
    /// Tells whether it is on this machine, so that its containers need no other address than the loopback's.
    pub(super) fn is_here(&self) -> bool {
        self.host == "127.0.0.1"
    }
}

/// Removes the containers of a run.
pub(super) async fn remove_all(client: &Docker, run: &str) {
    for (id, _) in containers(client, &format!("{LABEL}={run}")).await {
        remove(client, &id).await;
    }
}

/// Removes a container and its volumes, if it is still there.
async fn remove(client: &Docker, id: &str) {
    let how = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    if let Err(error) = client.remove_container(id, Some(how)).await {
        eprintln!("the container {id} of a test stays: {error}");
    }
}

/// Removes what runs have left that were ended together with their reaper.
async fn remove_leftovers(client: &Docker) {
    for (id, run) in containers(client, LABEL).await {
        let process = run.strip_prefix(&machine()).and_then(|rest| rest.strip_prefix('/'));
        let process = process.and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
        if process.is_some_and(|process| test_kill_process(process).is_err()) {
            remove(client, &id).await;
        }
    }
}

/// Returns the id and the run of each container with a label.
async fn containers(client: &Docker, label: &str) -> Vec<(String, String)> {
    let filters = HashMap::from([("label", vec![label])]);
    let all = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found = client.list_containers(Some(all)).await.expect("a daemon that has answered lists its containers");
    let found = found.into_iter().filter_map(|container| {
        let run = container.labels?.remove(LABEL)?;
        Some((container.id?, run))
    });
    found.collect()
}

/// Returns the name of this machine: several may use one daemon.
fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the host of the ports of a daemon at an address.
fn host(daemon: Option<&str>) -> String {
    let remote = daemon.and_then(|daemon| daemon.split_once("://")).filter(|(scheme, _)| *scheme != "unix");
    let host = remote.map(|(_, address)| address.rsplit_once(':').map_or(address, |(host, _)| host));
    host.filter(|host| *host != "localhost").unwrap_or("127.0.0.1").to_owned()
}

#[test]
fn the_ports_of_a_daemon_are_where_it_is() {
    assert_eq!(host(None), "127.0.0.1");
    assert_eq!(host(Some("unix:///run/user/1000/docker.sock")), "127.0.0.1");
    assert_eq!(host(Some("tcp://localhost:2375")), "127.0.0.1");
    assert_eq!(host(Some("tcp://docker:2376")), "docker");
}
