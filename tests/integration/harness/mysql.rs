use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySqlConnection};
use switchboard::model::store::contract::FreshLog;
use switchboard::model::store::{Store, StoreError, open};
use tokio::sync::OnceCell;

use super::kept::{Kept, as_user, find_program, run};
use super::{DEADLINE, eventually, free_port, skip};

/// A real MariaDB or MySQL of this test run. It ends when it is dropped, and with the process at the latest.
pub(crate) struct MysqlServer {
    command: Vec<String>,
    folder: PathBuf,
    port: u16,
    kept: Mutex<Option<Kept>>,
    /// Removes the folder, but not before the server has ended.
    _folder: Option<tempfile::TempDir>,
}

impl MysqlServer {
    /// Makes a server of its own for a test that breaks it or reads its log, or says that there is none and returns
    /// `None`.
    pub(crate) async fn start_new() -> Option<Self> {
        let server = Self::make(false).await;
        if server.is_none() {
            say_there_is_none();
        }
        server
    }

    async fn make(for_all: bool) -> Option<Self> {
        let folders = || ["/usr/sbin", "/usr/libexec", "/usr/local/sbin"].map(PathBuf::from);
        let find = |name| find_program(name, folders());
        let (Some(server), install) = (find("mariadbd").or_else(|| find("mysqld")), find("mariadb-install-db")) else {
            return None;
        };
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let (folder, _folder) =
            if for_all { (temporary.keep(), None) } else { (temporary.path().to_owned(), Some(temporary)) };
        let user = as_user("mysql", &folder);
        let text = |path: &Path| path.to_str().expect("a folder's name is text").to_owned();
        let (port, here) = (free_port(), text(&folder));
        let data = format!("--datadir={here}/data");
        let make = match install {
            Some(install) => [&text(&install), "--no-defaults", &data, "--auth-root-authentication-method=normal"]
                .map(str::to_owned)
                .to_vec(),
            None => [&text(&server), "--no-defaults", &data, "--initialize-insecure"].map(str::to_owned).to_vec(),
        };
        run([user.clone(), make].concat()).await;
        // What is acknowledged outlives the server; whether it outlives the machine is no matter here.
        let how = format!(
            "--no-defaults {data} --port={port} --bind-address=127.0.0.1 --socket={here}/socket --pid-file={here}/pid
             --innodb-flush-log-at-trx-commit=2 --skip-log-bin --max-connections=400 --performance-schema=OFF"
        );
        let how: Vec<String> = how.split_whitespace().map(str::to_owned).collect();
        let command = [user, vec![text(&server)], how].concat();
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
        let kept = Kept::start(&self.command, "KILL", &self.folder.join("server.log"), remove);
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        let url = self.url();
        eventually("MariaDB or MySQL answers", DEADLINE, || async { connect(&url).await.is_ok() }).await;
    }

    /// Ends the server at once.
    pub(crate) fn kill(&self) {
        drop(self.kept.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Returns where the server is, with a database that always exists.
    pub(crate) fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/mysql", self.port)
    }
}

/// Returns the server of this run: one that was lent, or our own. `None`: there is none, which has been said.
async fn shared() -> Option<String> {
    static SHARED: OnceCell<Option<MysqlServer>> = OnceCell::const_new();
    if let Ok(lent) = std::env::var("SWITCHBOARD_TEST_MYSQL_URL")
        && !lent.is_empty()
    {
        return Some(lent);
    }
    let server = SHARED.get_or_init(|| MysqlServer::make(true)).await;
    if server.is_none() {
        say_there_is_none();
    }
    server.as_ref().map(MysqlServer::url)
}

fn say_there_is_none() {
    skip("MariaDB or MySQL", "apt-get install mariadb-server, or set SWITCHBOARD_TEST_MYSQL_URL");
}

/// A database of one test's own.
pub(crate) struct MysqlLog {
    server: MySqlConnectOptions,
    name: String,
    url: String,
}

impl MysqlLog {
    /// Makes an empty database. `None`: there is no server, which has been said.
    pub(crate) async fn new() -> Option<Self> {
        Some(Self::on(&shared().await?).await)
    }

    /// Makes an empty database on a server.
    pub(crate) async fn on(server: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("switchboard_{}_{number}", std::process::id());
        let mut connection = connect(server).await.expect("the server lets us in");
        // A collation that takes many texts for the same, which the log must not depend on.
        let make = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci");
        sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut connection).await.expect("a new database");
        let server: MySqlConnectOptions = server.parse().expect("a good URL");
        let url = server.clone().database(&name).to_url_lossy().to_string();
        Self { server, name, url }
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
    pub(crate) async fn connect(&self) -> MySqlConnection {
        connect(&self.url).await.expect("the server lets us in")
    }
}

async fn connect(url: &str) -> Result<MySqlConnection, sqlx::Error> {
    MySqlConnection::connect(url).await
}

#[async_trait]
impl FreshLog for MysqlLog {
    async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        open(&self.url).await
    }
}

impl Drop for MysqlLog {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A test may end inside of a runtime, which must not be blocked by another one on the same thread.
        let gone = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut connection = server.connect().await?;
                let sql = AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"));
                sqlx::raw_sql(sql).execute(&mut connection).await
            })
        });
        if let Ok(Err(error)) = gone.join() {
            eprintln!("the database of a test stays: {error}");
        }
    }
}
