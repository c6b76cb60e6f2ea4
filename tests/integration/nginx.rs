//! The balancer: what `switchboard nginx render` prints, run by the real Nginx.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use switchboard::edge::nginx::{Layout, render};
use switchboard::edge::{Balance, EdgeConfig, EdgeNode, NodeAddress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::harness::nginx::{Nginx, check};
use crate::harness::{DEADLINE, free_port};

fn edge(listen: SocketAddr, nodes: &[(SocketAddr, u32)]) -> EdgeConfig {
    let node = |(address, weight): &(SocketAddr, u32)| EdgeNode {
        address: NodeAddress::new(&address.to_string()).unwrap(),
        weight: *weight,
    };
    EdgeConfig { listen, nodes: nodes.iter().map(node).collect(), worker_connections: 256, ..EdgeConfig::default() }
}

fn layout(prefix: &str) -> Layout {
    Layout { prefix: Some(prefix.to_owned()), load_module: None }
}

/// Stands in for a node: says its name to whoever connects, then echoes.
struct Echo {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Echo {
    async fn start(name: u8) -> Self {
        // A port that nobody else gets when this one is stopped.
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let listener = TcpListener::bind(address).await.unwrap();
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    client.write_all(&[name]).await?;
                    let (mut reader, mut writer) = client.split();
                    tokio::io::copy(&mut reader, &mut writer).await
                });
            }
        });
        Self { address, accepting }
    }

    /// Refuses new connections from now on; those that are open live.
    async fn stop(self) {
        self.accepting.abort();
        assert!(self.accepting.await.expect_err("it was accepting").is_cancelled());
    }
}

/// Connects through the balancer and returns who answered.
async fn connect(address: SocketAddr) -> (u8, TcpStream) {
    let connecting = async {
        let mut client = TcpStream::connect(address).await.unwrap();
        let name = client.read_u8().await.expect("a node answers through nginx");
        (name, client)
    };
    timeout(DEADLINE, connecting).await.expect("an answer in time")
}

async fn answers(address: SocketAddr, connections: usize) -> Vec<u8> {
    let mut names = Vec::new();
    for _ in 0..connections {
        names.push(connect(address).await.0);
    }
    names.sort_unstable();
    names
}

#[test]
fn nginx_takes_every_config_that_is_rendered() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("a \"quoted\"; folder");
    std::fs::create_dir(&odd).unwrap();
    for prefix in [folder.path(), &odd] {
        for balance in [Balance::RoundRobin, Balance::LeastConn, Balance::Hash] {
            for listen in ["127.0.0.1:20999", "[::1]:20999"] {
                let nodes = [("127.0.0.1:6000".parse().unwrap(), 3), ("[::1]:6002".parse().unwrap(), 1)];
                let edge = EdgeConfig {
                    balance,
                    proxy_timeout: Duration::from_millis(90_500),
                    ..edge(listen.parse().unwrap(), &nodes)
                };
                let conf = render(&edge, &layout(prefix.to_str().unwrap()));
                let Some(output) = check(&conf, folder.path()) else { return };
                assert!(output.status.success(), "{}\n{conf}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }
}

#[test]
fn nginx_has_room_for_as_many_nodes_as_the_config_allows() {
    let folder = tempfile::tempdir().unwrap();
    let nodes: Vec<(SocketAddr, u32)> = (1..=1000)
        .map(|i| (format!("[2001:db8:1111:2222:3333:4444:5555:{i:x}]:60000").parse().unwrap(), 100))
        .collect();
    let edge = EdgeConfig { balance: Balance::Hash, ..edge("127.0.0.1:20999".parse().unwrap(), &nodes) };
    assert_eq!(edge.validate(), []);
    let Some(output) = check(&render(&edge, &layout(folder.path().to_str().unwrap())), folder.path()) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn nginx_loads_the_module_it_is_told_to() {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if !std::path::Path::new(module).is_file() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let layout =
        Layout { prefix: Some(folder.path().to_str().unwrap().to_owned()), load_module: Some(module.to_owned()) };
    let conf = render(&EdgeConfig::default(), &layout);
    let Some(output) = check(&conf, folder.path()) else { return };
    assert!(output.status.success(), "{}\n{conf}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn program_writes_the_config_to_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.conf");
    let status = Command::new(env!("CARGO_BIN_EXE_switchboard"))
        .env_clear()
        .current_dir(folder.path())
        .args(["nginx", "render", "--prefix", "run", "--output"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    // Nginx would look for a relative folder under its own prefix.
    let prefix = std::fs::canonicalize(folder.path()).unwrap().join("run");
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        render(&EdgeConfig::default(), &layout(prefix.to_str().unwrap()))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_go_to_the_nodes_in_turn_and_by_weight() {
    let (a, b) = (Echo::start(b'a').await, Echo::start(b'b').await);
    let conf = |weights: [u32; 2]| {
        let nodes = [(a.address, weights[0]), (b.address, weights[1])];
        move |prefix: &str, listen: SocketAddr| render(&edge(listen, &nodes), &layout(prefix))
    };
    let Some(nginx) = Nginx::start(conf([1, 1])).await else { return };
    assert_eq!(answers(nginx.address(), 8).await, *b"aaaabbbb");
    let Some(nginx) = Nginx::start(conf([3, 1])).await else { return };
    assert_eq!(answers(nginx.address(), 8).await, *b"aaaaaabb");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_dead_node_land_on_the_other() {
    let (a, b) = (Echo::start(b'a').await, Echo::start(b'b').await);
    let nodes = [(a.address, 1), (b.address, 1)];
    let started = Nginx::start(|prefix, listen| render(&edge(listen, &nodes), &layout(prefix))).await;
    let Some(nginx) = started else { return };
    let mut on_a = loop {
        let (name, client) = connect(nginx.address()).await;
        if name == b'a' {
            break client;
        }
    };
    assert_eq!(answers(nginx.address(), 2).await, *b"ab");

    b.stop().await;
    assert_eq!(answers(nginx.address(), 6).await, *b"aaaaaa");

    // Who was connected to the node that lives notices nothing.
    on_a.write_all(b"still here").await.unwrap();
    let mut echoed = [0; 10];
    timeout(DEADLINE, on_a.read_exact(&mut echoed)).await.expect("an echo in time").unwrap();
    assert_eq!(&echoed, b"still here");
}
