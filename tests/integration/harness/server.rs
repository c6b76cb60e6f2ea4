//! A real broker as a native program.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::process::Signal;
use switchboard::bus::BusKind;
use tempfile::TempDir;
use tokio::sync::{OnceCell, Semaphore};

use super::kept::Kept;
use super::{DEADLINE, eventually, skip};

/// How many servers that start slowly may do so at a time: what else runs must not stand still for it.
const SLOW_STARTS: usize = 2;

/// How a broker's program is found and run.
pub(crate) trait Program: Debug + Sized + Send + Sync + 'static {
    /// What it is called.
    const NAME: &'static str;
    /// The command that gets it.
    const GET: &'static str;
    /// The kind of bus that it serves.
    const KIND: BusKind;
    /// The key of the config that takes its address.
    const KEY: &'static str;

    /// Whether a start keeps a processor busy for seconds, so that only a few may start at a time.
    const STARTS_SLOWLY: bool = false;

    /// Lays out in an empty folder what it needs, and chooses ports. `None`: it is not installed.
    fn lay_out(folder: &Path) -> impl Future<Output = Option<Self>> + Send;

    /// Returns the command that runs it in the foreground, with its arguments. It writes to the folder only.
    fn command(&self) -> Vec<String>;

    /// Returns where it listens for clients.
    fn address(&self) -> SocketAddr;

    /// Returns its address as the config takes it.
    fn url(&self) -> String;

    /// Tells whether it answers. A connection alone proves nothing: the kernel accepts for a server that is not ready.
    fn answers(&self) -> impl Future<Output = bool> + Send;
}

/// A broker of this test run. It ends when it is dropped, and with the process at the latest.
#[derive(Debug)]
pub(crate) struct Server<P> {
    program: P,
    folder: PathBuf,
    kept: Mutex<Option<Kept>>,
    /// Whether the folder is removed when the server ends for the last time, because nothing is dropped then.
    for_all: bool,
    /// Removes the folder, but not before the server has ended.
    _folder: Option<TempDir>,
}

impl<P: Program> Server<P> {
    /// Starts a server of its own for a test that breaks it, or says that there is none and returns `None`.
    pub(crate) async fn start_new() -> Option<Self> {
        let server = Self::make(false).await;
        if server.is_none() {
            skip(P::NAME, P::GET);
        }
        server
    }

    /// Returns the server of this run, which nobody may break; it ends with the process. `None`: there is none, which
    /// has been said.
    pub(crate) async fn shared() -> Option<Arc<Self>> {
        let cell = shared_cell::<P>();
        let server =
            cell.get_or_init(|| async { Self::make(true).await.map(|server| Arc::new(server) as Shared) }).await;
        if server.is_none() {
            skip(P::NAME, P::GET);
        }
        server.clone().map(|server| server.downcast().expect("a type has its own cell"))
    }

    async fn make(for_all: bool) -> Option<Self> {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let program = P::lay_out(temporary.path()).await?;
        let (folder, _folder) =
            if for_all { (temporary.keep(), None) } else { (temporary.path().to_owned(), Some(temporary)) };
        let server = Self { program, folder, kept: Mutex::default(), for_all, _folder };
        server.start().await;
        Some(server)
    }

    /// Returns how it is run.
    pub(crate) fn program(&self) -> &P {
        &self.program
    }

    /// Returns where it listens for clients.
    pub(crate) fn address(&self) -> SocketAddr {
        self.program.address()
    }

    /// Returns its address as the config takes it.
    pub(crate) fn url(&self) -> String {
        self.program.url()
    }

    /// Starts the server, which must not run, and waits until it answers.
    pub(crate) async fn start(&self) {
        static STARTING: Semaphore = Semaphore::const_new(SLOW_STARTS);
        let _starting = if P::STARTS_SLOWLY { Some(STARTING.acquire().await.expect("never closed")) } else { None };
        let remove = self.for_all.then_some(&*self.folder);
        let kept = Kept::start(&self.program.command(), "KILL", &self.log(), remove);
        let before = self.kept().replace(kept);
        assert!(before.is_none(), "the server was not ended");
        eventually(&format!("{} answers", P::NAME), DEADLINE, || {
            let ended = self.kept().as_ref().is_none_or(Kept::has_ended);
            assert!(!ended, "{} ended at its start:\n{}", P::NAME, self.said());
            self.program.answers()
        })
        .await;
    }

    /// Ends the server at once, as a power cut does, and waits until it is gone.
    pub(crate) fn kill(&self) {
        drop(self.kept().take());
    }

    /// Ends the server in order and starts it again.
    pub(crate) async fn restart(&self) {
        let kept = self.kept().take();
        if let Some(kept) = kept {
            tokio::task::spawn_blocking(move || kept.end("TERM")).await.expect("no panic");
        }
        self.start().await;
    }

    /// Stops the server: its connections stay open, and nothing is answered.
    pub(crate) fn pause(&self) {
        self.kept().as_ref().expect("the server runs").stop();
    }

    /// Lets a stopped server go on.
    pub(crate) fn resume(&self) {
        self.kept().as_ref().expect("the server runs").signal(Signal::CONT);
    }

    /// Returns what it has printed.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server of some type.
type Shared = Arc<dyn Any + Send + Sync>;

/// Returns the place of the one server of this run, which whoever comes first starts.
fn shared_cell<P: 'static>() -> Arc<OnceCell<Option<Shared>>> {
    type Cells = Mutex<HashMap<TypeId, Arc<OnceCell<Option<Shared>>>>>;
    static CELLS: LazyLock<Cells> = LazyLock::new(Mutex::default);
    let mut cells = CELLS.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(cells.entry(TypeId::of::<P>()).or_default())
}
