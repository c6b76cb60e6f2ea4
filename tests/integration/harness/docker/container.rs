use std::sync::Arc;
use std::time::Duration;

use testcontainers::bollard::errors::Error as DockerError;
use testcontainers::core::IntoContainerPort;
use testcontainers::core::client::ClientError;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt, TestcontainersError};

use super::daemon::{Daemon, LABEL, daemon, on_daemon, runtime};
use super::recipe::{Place, Recipe, Request};
use super::skip;
use crate::harness::{eventually, free_port};

/// How long a server may take to start; generous for a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(180);

/// How long a server may take to end in order, after which the daemon ends it.
const STOP_SECONDS: i32 = 60;

/// A server in a container of this run. It is removed when it is dropped, and at the end of the run at the latest.
pub(crate) struct Container {
    recipe: &'static Recipe,
    daemon: &'static Daemon,
    /// `None` only while it is dropped.
    container: Option<Arc<ContainerAsync<GenericImage>>>,
    place: Place,
}

impl Container {
    /// Starts a server of its own for a test that breaks it. `None`: there is no daemon or no image, which has been said.
    pub(crate) async fn start_new(recipe: &'static Recipe) -> Option<Self> {
        Self::make(recipe).await.map_err(|why| skip(&why)).ok()
    }

    /// Returns the server of this run, which nobody may break. `None`: there is none, which has been said.
    pub(crate) async fn shared(recipe: &'static Recipe) -> Option<Arc<Self>> {
        let made = recipe.shared.get_or_init(async || Self::make(recipe).await.map(Arc::new)).await;
        made.clone().map_err(|why| skip(&why)).ok()
    }

    async fn make(recipe: &'static Recipe) -> Result<Self, String> {
        let daemon = daemon().await?;
        let started = match run(recipe, daemon, Place::free(daemon)).await {
            // The port was taken between the choice and the start.
            Err(error) if is_race(&error) => run(recipe, daemon, Place::free(daemon)).await,
            first => first,
        };
        let (container, place) = match started {
            Ok(started) => started,
            Err(TestcontainersError::Client(ClientError::PullImage { err, .. })) => {
                return Err(format!("the image {} cannot be had: {err}", recipe.image));
            }
            Err(error) => panic!("{}: {error}", recipe.image),
        };
        let server = Self { recipe, daemon, container: Some(Arc::new(container)), place };
        server.answers().await;
        Ok(server)
    }

    /// Returns its address as a config takes it.
    pub(crate) fn url(&self) -> String {
        (self.recipe.url)(&self.place)
    }

    /// Ends the server at once, as a power cut does, and waits until it is gone.
    pub(crate) async fn kill(&self) {
        let (client, id) = (self.daemon.client.clone(), self.container().id().to_owned());
        on_daemon(async move { client.kill_container(&id, None).await }).await.expect("the container is killed");
    }

    /// Starts the server, which must not run, and waits until it answers.
    pub(crate) async fn start(&self) {
        let container = self.container();
        on_daemon(async move { container.start().await }).await.expect("the container starts");
        self.answers().await;
    }

    /// Ends the server in order and starts it again.
    pub(crate) async fn restart(&self) {
        let container = self.container();
        let stop = async move { container.stop_with_timeout(Some(STOP_SECONDS)).await };
        on_daemon(stop).await.expect("the container stops");
        self.start().await;
    }

    /// Stops the server: its connections stay open, and nothing is answered.
    pub(crate) async fn pause(&self) {
        let container = self.container();
        on_daemon(async move { container.pause().await }).await.expect("the container pauses");
    }

    /// Lets a stopped server go on.
    pub(crate) async fn resume(&self) {
        let container = self.container();
        on_daemon(async move { container.unpause().await }).await.expect("the container goes on");
    }

    async fn answers(&self) {
        eventually(&format!("{} answers", self.recipe.image), START_DEADLINE, || async {
            let container = self.container();
            let said = on_daemon(async move {
                let runs = container.is_running().await.expect("the daemon knows the container");
                if runs { None } else { Some([container.stdout_to_vec().await, container.stderr_to_vec().await]) }
            })
            .await;
            if let Some(said) = said {
                let said = said.map(|bytes| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned());
                panic!("{} ended at its start:\n{}", self.recipe.image, said.concat());
            }
            (self.recipe.answers)(self.url()).await
        })
        .await;
    }

    fn container(&self) -> Arc<ContainerAsync<GenericImage>> {
        Arc::clone(self.container.as_ref().expect("it is taken by the drop only"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let container = self.container.take();
        let (gone, wait) = std::sync::mpsc::sync_channel(1);
        // It removes itself by means of the runtime that it is dropped in.
        runtime().spawn(async move {
            drop(container);
            gone.send(())
        });
        wait.recv().expect("the daemon's runtime lives as long as the process");
    }
}

type Started = (ContainerAsync<GenericImage>, Place);

impl Place {
    fn free(daemon: &Daemon) -> Self {
        Self { host: daemon.host.clone(), port: free_port() }
    }
}

/// Runs a container at a place, where it is again when it is started again.
async fn run(recipe: &'static Recipe, daemon: &'static Daemon, place: Place) -> Result<Started, TestcontainersError> {
    let (name, tag) = recipe.image.rsplit_once(':').expect("an image with a tag");
    let request: Request = GenericImage::new(name, tag)
        .with_mapped_port(place.port, recipe.port.tcp())
        .with_label(LABEL, &daemon.run)
        .with_startup_timeout(START_DEADLINE);
    let request = if daemon.is_here() { on_loopback(request) } else { request };
    let request = (recipe.run)(request, &place);
    on_daemon(request.start()).await.map(|container| (container, place))
}

/// Keeps the ports of a container from other machines.
fn on_loopback(request: Request) -> Request {
    request.with_host_config_modifier(|config| {
        let bindings = config.port_bindings.iter_mut().flat_map(|bindings| bindings.values_mut());
        for binding in bindings.flatten().flatten() {
            binding.host_ip = Some("127.0.0.1".to_owned());
        }
    })
}

fn is_race(error: &TestcontainersError) -> bool {
    let TestcontainersError::Client(error) = error else { return false };
    let (ClientError::CreateContainer(error) | ClientError::StartContainer(error) | ClientError::Init(error)) = error
    else {
        return false;
    };
    matches!(error, DockerError::DockerResponseServerError { status_code, message }
        if *status_code == 409 || ["already allocated", "address already in use"].iter().any(|said| message.contains(said)))
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_container_is_gone_when_its_test_has_panicked() {
    let (say, said) = tokio::sync::oneshot::channel();
    let test = tokio::spawn(async {
        let Some(server) = Container::start_new(&super::REDIS.recipe).await else { return };
        say.send(server.container().id().to_owned()).expect("somebody asks");
        panic!("as a test does that fails");
    });
    let Ok(id) = said.await else { return };
    assert!(test.await.expect_err("it panics").is_panic());
    let daemon = daemon().await.expect("it was there");
    let found = on_daemon(async move { daemon.client.inspect_container(&id, None).await }).await;
    assert!(matches!(found, Err(DockerError::DockerResponseServerError { status_code: 404, .. })), "{found:?}");
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn a_port_that_is_taken_meanwhile_is_a_race() {
    let recipe = &super::REDIS.recipe;
    let Some(server) = Container::start_new(recipe).await else { return };
    let Err(error) = run(recipe, server.daemon, server.place.clone()).await else { panic!("two at one place") };
    assert!(is_race(&error), "{error:?}");
}
