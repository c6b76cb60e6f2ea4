//! A bus on a broker that Switchboard does not know, and two nodes that talk through it.
//!
//! ```sh
//! cargo run --example custom_backend -- 127.0.0.1:61613
//! ```
//!
//! `stomp` is the backend; `docs/BACKENDS.md` has the list of what to think of. `tests/integration/bus/custom.rs` holds
//! it to the contract that all backends are held to.

pub(crate) mod stomp;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard::bus::{MessageBus, Supervised};
use switchboard::client::{ChatClient, Event, Events, Options, to_user};
use switchboard::model::store::{self, Store};
use switchboard::model::{NodeId, UserId};
use switchboard::protocol::Password;
use switchboard::server::{ListenConfig, Node, NodeConfig};
use tokio::time::timeout;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(std::io::stderr).init();
    let broker = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:61613".to_owned());
    talk_through(&broker).await
}

/// Sends a message from a user on one node to a user on another.
pub(crate) async fn talk_through(broker: &str) -> Result<(), Box<dyn Error>> {
    let log = store::open("memory:").await?;
    let (one, one_bus) = start("node-a", Arc::clone(&log), broker).await?;
    let (other, other_bus) = start("node-b", log, broker).await?;
    let (alice, _, _events) = login("alice", &one).await?;
    let (_bob, bob, mut events) = login("bob", &other).await?;

    let begun = Instant::now();
    let sent = alice.send(to_user(bob), "hello through STOMP").await?.await?;
    println!("alice's message is in the log as number {} of the conversation", sent.seq);
    let message = async {
        while let Some(event) = events.next().await {
            if let Event::Message(message) = event {
                return Some(message);
            }
        }
        None
    };
    let message = timeout(DEADLINE, message).await?.ok_or("bob's client has ended")?;
    println!("bob reads \"{}\" {:.1} ms later", message.body, begun.elapsed().as_secs_f64() * 1e3);

    for (node, bus) in [(one, one_bus), (other, other_bus)] {
        node.stop().await;
        bus.close().await?;
    }
    Ok(())
}

/// Starts a node whose bus is ours.
async fn start(id: &str, log: Arc<dyn Store>, broker: &str) -> Result<(Node, Arc<dyn MessageBus>), Box<dyn Error>> {
    // This is all that it takes: the supervisor makes a bus of a backend, and a node takes any bus.
    let bus: Arc<dyn MessageBus> = Arc::new(Supervised::start(stomp::StompBackend::new(broker)?));
    let mut state = bus.state();
    // A node would start without its broker, too; here we want to see the message take this way.
    timeout(DEADLINE, state.wait_for(|state| state.is_connected())).await.map_err(|_| "no STOMP broker answers")??;
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let node = Node::builder(log)
        .bus(Arc::clone(&bus))
        .node(NodeConfig { id: NodeId::new(id)?, ..NodeConfig::default() })
        .listen(ListenConfig { tcp: any_port, http: any_port })
        .start()
        .await?;
    println!("{id} listens on {} and is connected to the broker", node.tcp());
    Ok((node, bus))
}

/// Registers a user on a node and logs in.
async fn login(name: &str, node: &Node) -> Result<(ChatClient, UserId, Events), Box<dyn Error>> {
    let options = Options::new([node.tcp().to_string()], name, Password::new("correct horse"));
    let (client, mut events) = ChatClient::connect(Options { register: true, ..options }).await?;
    match timeout(DEADLINE, events.next()).await? {
        Some(Event::Welcome(welcome)) => {
            println!("{name} is user {} on {}", welcome.user.get(), welcome.node);
            Ok((client, welcome.user, events))
        }
        other => Err(format!("a welcome was expected, not {other:?}").into()),
    }
}
