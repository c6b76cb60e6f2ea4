//! The example client, which was written by the page of the wire alone, keeps its promises on a real cluster.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::harness::cluster::{self, Bus, Cluster, Settings};
use crate::harness::{DEADLINE, skip};

/// One running `client.py`, killed when it is dropped.
struct Client {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// What it has printed so far.
    heard: Vec<String>,
}

impl Client {
    /// Starts the client and waits until it has logged in. Returns it and its user's id.
    async fn start(python: &Path, name: &str, addresses: &[String]) -> (Self, u64) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python/client.py");
        let mut process = Command::new(python)
            .arg(script)
            .arg(name)
            .args(addresses)
            .env("SWITCHBOARD_PASSWORD", "correct horse")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUTF8", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("python3 starts");
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut client = Self { _process: process, input, output: BufReader::new(output).lines(), heard: Vec::new() };
        let welcome = client.hears(&format!("logged in as {name}, user ")).await;
        let user = welcome.split([' ', ',']).find_map(|word| word.parse().ok()).expect("a user's id");
        (client, user)
    }

    async fn types(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.expect("the client reads");
    }

    /// Waits for a line that contains a text.
    async fn hears(&mut self, text: &str) -> String {
        let hearing = async {
            loop {
                let line = self.output.next_line().await.unwrap().expect("the client goes on");
                self.heard.push(line.clone());
                if line.contains(text) {
                    return line;
                }
            }
        };
        timeout(DEADLINE, hearing).await.unwrap_or_else(|_| panic!("no `{text}` in {:?}", self.heard))
    }

    /// Returns the messages it has shown, without conversation and seq.
    fn messages(&self) -> Vec<String> {
        let shown = self.heard.iter().filter(|line| line.starts_with('#'));
        shown.map(|line| line.splitn(3, ' ').nth(2).unwrap().to_owned()).collect()
    }
}

/// Finds Python 3: named in the environment, or on PATH. `None`: there is none, and the case is skipped.
fn python() -> Option<PathBuf> {
    let program = std::env::var_os("SWITCHBOARD_TEST_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let mut asked = std::process::Command::new(&program);
    asked.args(["-c", "import sys; assert sys.version_info >= (3, 7)"]).stderr(Stdio::null());
    if asked.status().is_ok_and(|status| status.success()) {
        return Some(program);
    }
    skip("python3", "apt-get install python3");
    None
}

/// Passes connections on to a node. The first time that the node answers a message, the answer is swallowed and the
/// connection cut.
async fn cut_at_the_first_answer(node: std::net::SocketAddr) -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().unwrap().to_string();
    let has_cut = Arc::new(AtomicBool::new(false));
    let cut = Arc::clone(&has_cut);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass_on(client, node, Arc::clone(&cut)));
        }
    });
    (address, has_cut)
}

async fn pass_on(client: TcpStream, node: std::net::SocketAddr, has_cut: Arc<AtomicBool>) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (from_node, mut to_node) = TcpStream::connect(node).await?.into_split();
    let mut lines = BufReader::new(from_node).lines();
    let mut buffer = vec![0; 4096];
    loop {
        tokio::select! {
            read = from_client.read(&mut buffer) => match read? {
                0 => return Ok(()),
                count => to_node.write_all(&buffer[..count]).await?,
            },
            line = lines.next_line() => match line? {
                Some(line) if line.starts_with("{\"type\":\"sent\"") && !has_cut.swap(true, Ordering::SeqCst) => {
                    return Ok(());
                }
                Some(line) => to_client.write_all(format!("{line}\n").as_bytes()).await?,
                None => return Ok(()),
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_python_clients_chat_across_nodes_and_resend_and_resume() {
    let Some(python) = python() else { return };
    cluster::run(Bus::Memory, Settings::default(), async |cluster| chat(cluster, &python).await).await;
}

async fn chat(cluster: &mut Cluster, python: &Path) {
    let (address, has_cut) = cut_at_the_first_answer(cluster.tcp(0)).await;
    let (mut alice, alice_id) = Client::start(python, "alice", &[address]).await;
    let both = [cluster.tcp(1).to_string(), cluster.tcp(0).to_string()];
    let (mut bob, bob_id) = Client::start(python, "bob", &both).await;
    assert_ne!(alice_id, bob_id);

    // The answer never comes; the client comes back and sends again with the same key.
    alice.types(&format!("{bob_id} hello, Bob \u{1f44b}")).await;
    assert_eq!(alice.hears("sent ").await.rsplit(' ').next(), Some("1"), "the seq of the first time");
    assert!(has_cut.load(Ordering::SeqCst));
    assert!(alice.heard.iter().any(|line| line.starts_with("connection lost")), "{:?}", alice.heard);
    let first = bob.hears("alice: hello").await;
    let conversation = first.split(' ').next().unwrap().to_owned();

    bob.types(&format!("{conversation} hello, Alice")).await;
    alice.hears("bob: hello, Alice").await;

    // Bob's node stops; he goes on at the other one, with what was said meanwhile.
    let stopping = tokio::spawn(cluster.stop_node(1));
    for number in 1..=20 {
        alice.types(&format!("{conversation} while away {number}")).await;
    }
    bob.hears("logged in as bob").await;
    assert!(timeout(DEADLINE, stopping).await.expect("stopped in time").unwrap());
    bob.types(&format!("{conversation} back")).await;
    alice.hears("bob: back").await;
    alice.types(&format!("{conversation} the end")).await;
    bob.hears("alice: the end").await;

    let mut expected = vec!["alice: hello, Bob \u{1f44b}".to_owned()];
    expected.extend((1..=20).map(|number| format!("alice: while away {number}")));
    expected.push("alice: the end".to_owned());
    assert_eq!(bob.messages(), expected, "each exactly once and in order");
    assert_eq!(alice.messages(), ["bob: hello, Alice", "bob: back"]);
}
