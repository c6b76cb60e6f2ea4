use std::io::{Error, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::finding::Finding;
use super::reachable::reachable;
use crate::config::Config;
use crate::edge::page::get;
use crate::protocol::{Request, RequestBody, ServerFrame};

/// How long a node may take to answer.
const WITHIN: Duration = Duration::from_secs(2);

/// Checks that both ports are free, or held by this config's node, which runs.
pub(super) async fn check(config: &Config) -> [Finding; 2] {
    [
        port("listen.tcp", config.listen.tcp, speaks_the_wire(config.listen.tcp).await),
        port("listen.http", config.listen.http, node_at(config.listen.http, config.node.id.as_str()).await),
    ]
}

/// Who holds a port.
#[derive(Debug)]
enum Holder {
    /// A node that answers.
    Node(String),
    /// A node, but not the one that this config starts.
    OtherNode(String),
    /// Nobody that answers as a node does.
    Unknown,
}

fn port(key: &'static str, address: SocketAddr, holder: Holder) -> Finding {
    match (TcpListener::bind(address), holder) {
        (Ok(_), _) => Finding::ok(key, format!("{address} is free")),
        (Err(error), Holder::Node(who)) if error.kind() == ErrorKind::AddrInUse => {
            Finding::ok(key, format!("{address} is held by a running node{who}"))
        }
        (Err(error), Holder::OtherNode(who)) if error.kind() == ErrorKind::AddrInUse => {
            let text = format!("{address} is held by a running node{who}; to run both, give this one another {key}");
            Finding::warn(key, text)
        }
        (Err(error), _) => Finding::fail(key, format!("{address}: {error}; {}", cure(key, &error))),
    }
}

fn cure(key: &str, error: &Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!("another program holds it: stop that one, or choose another {key}"),
        ErrorKind::AddrNotAvailable => format!("it is no address of this machine: choose another {key}"),
        ErrorKind::PermissionDenied => format!("choose a port of 1024 or more in {key}"),
        _ => format!("choose another {key}"),
    }
}

/// Asks with a `ping` whether a node answers.
async fn speaks_the_wire(listen: SocketAddr) -> Holder {
    let asking = async {
        let mut stream = TcpStream::connect(reachable(listen)).await?;
        stream.write_all(&Request { id: None, body: RequestBody::Ping {} }.to_line()).await?;
        let mut line = String::new();
        BufReader::new(&mut stream).read_line(&mut line).await?;
        Ok::<_, Error>(line)
    };
    match timeout(WITHIN, asking).await {
        Ok(Ok(line)) if matches!(ServerFrame::parse(line.as_bytes()), Ok(ServerFrame::Pong { .. })) => {
            Holder::Node(String::new())
        }
        _ => Holder::Unknown,
    }
}

/// Asks `/livez`, and `/readyz` for the node's name.
async fn node_at(listen: SocketAddr, own: &str) -> Holder {
    #[derive(Deserialize)]
    struct Ready {
        node: String,
        state: String,
    }
    let address = reachable(listen);
    match get(address, "/livez").await {
        Ok(answer) if answer.status == 200 => {}
        _ => return Holder::Unknown,
    }
    let ready = get(address, "/readyz").await.ok().and_then(|answer| serde_json::from_str(&answer.body).ok());
    match ready {
        Some(Ready { node, state }) if node == own => Holder::Node(format!(" ({node}, {state})")),
        Some(Ready { node, state }) => Holder::OtherNode(format!(" ({node}, {state})")),
        None => Holder::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn a_port_is_free_or_a_nodes_or_somebody_elses() {
        let (listener, address) = taken();
        let line = |holder| port("listen.tcp", address, holder).to_string();
        assert!(line(Holder::Node(" (node-a, ready)".to_owned())).starts_with("ok "));
        assert!(line(Holder::OtherNode(" (node-b, ready)".to_owned())).starts_with("WARN"));
        let other = line(Holder::Unknown);
        assert!(other.starts_with("FAIL") && other.contains("choose another listen.tcp"), "{other}");
        drop(listener);
        assert!(line(Holder::Unknown).contains("is free"));
    }

    #[test]
    fn an_address_of_another_machine_is_named_as_such() {
        let finding = port("listen.http", SocketAddr::from(([192, 0, 2, 1], 7000)), Holder::Unknown);
        assert!(finding.to_string().contains("no address of this machine"), "{finding}");
    }
}
