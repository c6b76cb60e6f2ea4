use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use switchboard::model::store::contract::FreshLog;
use switchboard::model::store::{Store, StoreError, open};
use tokio::sync::OnceCell;

use super::kept::{Kept, as_user, find_program, run};
use super::{DEADLINE, eventually, free_port, skip};

/// The database of our own servers that tests share: to make one takes most of a second.
pub(crate) const DATABASE: &str = "tests";

/// A real PostgreSQL of this test run. It ends when it is dropped, and with the process at the latest.
pub(crate) struct PostgresServer {
    command: Vec<String>,
    folder: PathBuf,
    port: u16,
    kept: Mutex<Option<Kept>>,
    /// Removes the folder, but not before the server has ended.
    _folder: Option<tempfile::TempDir>,
}

impl PostgresServer {
    /// Makes a server of its own for a test that breaks it, or says that there is none and returns `None`.
    pub(crate) async fn start_new() -> Option<Self> {
        let server = Self::make(false).await;
        if server.is_none() {
            say_there_is_none();
        }
        server
    }

    async fn make(for_all: bool) -> Option<Self> {
        let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let folders: Vec<PathBuf> = installed.map(|version| version.path().join("bin")).collect();
        let (Some(initdb), Some(postgres)) =
            (find_program("initdb", folders.clone()), find_program("postgres", folders.clone()))
        else {
            return None;
        };
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let (folder, _folder) =
            if for_all { (temporary.keep(), None) } else { (temporary.path().to_owned(), Some(temporary)) };
        let user = as_user("postgres", &folder);
        let text = |path: &PathBuf| path.to_str().expect("a folder's name is text").to_owned();
        let (port, data) = (free_port(), text(&folder.join("data")));
        let make = [text(&initdb), format!("--pgdata={data}")];
        let how = ["--username=switchboard", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"];
        run([user.clone(), make.into(), how.map(str::to_owned).into()].concat()).await;
        // The data is gone with the run: what a disk does to it is no matter.
        let how = format!(
            "-D {data} -h 127.0.0.1 -p {port} -k {} -c fsync=off -c max_connections=400 -c log_line_prefix=%d:",
            text(&folder)
        );
        let how: Vec<String> = how.split_whitespace().map(str::to_owned).collect();
        let command = [user, vec![text(&postgres)], how].concat();
        let server = Self { command, folder, port, kept: Mutex::default(), _folder };
        server.launch(for_all).await;
        Some(server)
    }

    /// Starts the server again after [`kill`](Self::kill), and waits until it answers.
    pub(crate) async fn start(&self) {
        self.launch(false).await;
    }

    async fn launch(&self, for_all: bool) {
        let remove = for_all.then_some(&*self.folder);
        let kept = Kept::start(&self.command, "QUIT", &self.log(), remove);
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        let maintenance = self.url_of("postgres");
        eventually("PostgreSQL answers", DEADLINE, || async { connect(&maintenance).await.is_ok() }).await;
        if connect(&self.url()).await.is_ok() {
            return;
        }
        let mut connection = connect(&maintenance).await.expect("it has answered");
        // An order of its own, on which the log must not depend; older servers have none to choose.
        let ordered = format!("CREATE DATABASE {DATABASE} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
        if sqlx::raw_sql(AssertSqlSafe(ordered)).execute(&mut connection).await.is_err() {
            let plain = AssertSqlSafe(format!("CREATE DATABASE {DATABASE}"));
            sqlx::raw_sql(plain).execute(&mut connection).await.expect("a new database");
        }
    }

    /// Ends the server at once, without writing down what it has in memory.
    pub(crate) fn kill(&self) {
        drop(self.kept.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Returns what the server writes its log to, with the name of the database in front of each line.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Returns where the database for tests is.
    pub(crate) fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://switchboard@127.0.0.1:{}/{database}", self.port)
    }
}

/// Returns the server of this run: one that was lent, or our own. `None`: there is none, which has been said.
async fn shared() -> Option<String> {
    static SHARED: OnceCell<Option<PostgresServer>> = OnceCell::const_new();
    if let Ok(lent) = std::env::var("SWITCHBOARD_TEST_POSTGRES_URL")
        && !lent.is_empty()
    {
        return Some(lent);
    }
    let server = SHARED.get_or_init(|| PostgresServer::make(true)).await;
    if server.is_none() {
        say_there_is_none();
    }
    server.as_ref().map(PostgresServer::url)
}

fn say_there_is_none() {
    skip("PostgreSQL", "apt-get install postgresql, or set SWITCHBOARD_TEST_POSTGRES_URL");
}

/// A schema of one test's own.
pub(crate) struct PostgresLog {
    server: PgConnectOptions,
    name: String,
    url: String,
}

impl PostgresLog {
    /// Makes an empty schema. `None`: there is no server, which has been said.
    pub(crate) async fn new() -> Option<Self> {
        Some(Self::on(&shared().await?).await)
    }

    /// Makes an empty schema in a database.
    pub(crate) async fn on(url: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("switchboard_{}_{number}", std::process::id());
        let mut connection = connect(url).await.expect("the server lets us in");
        let make = AssertSqlSafe(format!("CREATE SCHEMA {name}"));
        sqlx::raw_sql(make).execute(&mut connection).await.expect("a new schema");
        let server: PgConnectOptions = url.parse().expect("a good URL");
        let join = if url.contains('?') { '&' } else { '?' };
        Self { server, url: format!("{url}{join}options[search_path]={name}"), name }
    }

    /// Returns where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the URL of a database that does not exist.
    pub(crate) fn nowhere(&self) -> String {
        self.server.clone().database("nowhere").to_url_lossy().to_string()
    }

    /// Connects as an operator does.
    pub(crate) async fn connect(&self) -> PgConnection {
        connect(&self.url).await.expect("the server lets us in")
    }
}

async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    PgConnection::connect(url).await
}

#[async_trait]
impl FreshLog for PostgresLog {
    async fn open(&self) -> Result<std::sync::Arc<dyn Store>, StoreError> {
        open(&self.url).await
    }
}

impl Drop for PostgresLog {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A test may end inside of a runtime, which must not be blocked by another one on the same thread.
        let gone = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut connection = server.connect().await?;
                let sql = AssertSqlSafe(format!("DROP SCHEMA IF EXISTS {name} CASCADE"));
                sqlx::raw_sql(sql).execute(&mut connection).await
            })
        });
        if let Ok(Err(error)) = gone.join() {
            eprintln!("the schema of a test stays: {error}");
        }
    }
}
