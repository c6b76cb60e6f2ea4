//! The bus on core NATS: one connection, on a thread of its own.

mod answers;
pub(super) mod inspect;
mod link;
mod publishing;
pub(super) mod raw;
mod servers;
mod thread;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions, ServerInfo};
use tokio::time::timeout;

use super::config::{BrokerUrl, NatsConfig};
use super::supervisor::{Backend, Incoming};
use super::{BusError, BusErrorKind, Claim, Guarantees};
use link::Wire;
use servers::Servers;
use thread::LinkThread;

pub use link::NatsLink;

/// The largest payload: what a server takes by default. The bus sends no headers, which would count.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// How long connecting may take with all servers; the supervisor waits a little longer.
const CONNECT_WITHIN: Duration = Duration::from_millis(2500);

/// How many messages of one subject the client library may keep until they are taken. It drops what is more. The task
/// that reads the socket lets others run after 128 reads of 64 KiB at the latest, then all is taken: with messages of no
/// fewer than 32 bytes, framing included, there is never more.
const CAPACITY: usize = 128 * 64 * 1024 / 32;

/// A [`Backend`] on a NATS server, version 2.2 or newer, or on the first of several that answers.
pub struct NatsBackend {
    servers: Servers,
    url: BrokerUrl,
    capacity: usize,
}

impl NatsBackend {
    /// Checks the URL; nothing is connected yet.
    pub fn new(config: &NatsConfig) -> Result<Self, BusError> {
        Ok(Self { servers: Servers::parse(&config.url)?, url: config.url.clone(), capacity: CAPACITY })
    }

    /// Sets how many messages of one subject may wait in the client library. It drops what is more, which breaks the
    /// link.
    #[must_use]
    pub fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }

    /// Returns the options for one connection, which never comes back by itself: what the library would send and
    /// deliver then is none of ours.
    fn options(&self) -> ConnectOptions {
        let begun = AtomicBool::new(false);
        self.servers
            .options()
            .name("switchboard")
            .subscription_capacity(self.capacity)
            .ignore_discovered_servers()
            .request_timeout(None)
            // The library has no switch against reconnecting. It waits before each attempt, so that all but the first
            // wait for the link's end.
            .reconnect_delay_callback(move |_| match begun.swap(true, Ordering::Relaxed) {
                false => Duration::ZERO,
                true => Duration::MAX,
            })
    }

    /// Opens a connection to the first server that answers, in the order of the config, so that all nodes meet on one.
    async fn open(&self) -> Result<(LinkThread, Wire), BusError> {
        let share = CONNECT_WITHIN / u32::try_from(self.servers.len()).unwrap_or(u32::MAX);
        let mut failure: Option<BusError> = None;
        for server in self.servers.iter() {
            // Each attempt has its own thread, so that nothing of one that failed is left.
            let thread = LinkThread::start()?;
            let opening = timeout(share, thread.run(Wire::open(server.clone(), self.options())));
            match opening.await.unwrap_or_else(|_| Err(slow())).and_then(|opened| opened) {
                Ok(wire) => return Ok((thread, wire)),
                Err(error) => {
                    let refused = failure.take().filter(|failure| failure.kind() == BusErrorKind::Rejected);
                    failure = refused.or(Some(error));
                }
            }
        }
        Err(failure.unwrap_or_else(ended))
    }
}

impl Backend for NatsBackend {
    type Link = NatsLink;

    fn guarantees(&self) -> Guarantees {
        Guarantees {
            ordered: Claim::Yes,
            at_least_once: Claim::No,
            survives_broker_restart: Claim::No,
            confirmed: Claim::Yes,
            counts_receivers: Claim::No,
            tells_no_receivers: Claim::Yes,
            // The server would carry them; the client library takes several kilobytes for each.
            per_user_subjects: Claim::No,
            max_payload: MAX_PAYLOAD,
        }
    }

    async fn connect(&self, incoming: Incoming) -> Result<NatsLink, BusError> {
        let (thread, wire) = self.open().await?;
        suits(&wire.server_info())?;
        Ok(NatsLink::new(thread, wire, incoming))
    }
}

/// Tells why a server cannot carry the bus.
fn suits(server: &ServerInfo) -> Result<(), BusError> {
    let rejected = |text: String| Err(BusError::new(BusErrorKind::Rejected, text));
    if !server.headers {
        return rejected(format!(
            "NATS {} does not say when nobody listens: use 2.2 or newer, without no_header_support",
            server.version
        ));
    }
    if server.max_payload < MAX_PAYLOAD {
        return rejected(format!(
            "max_payload of NATS is {}, and the bus needs {MAX_PAYLOAD}: set max_payload to 1MB",
            server.max_payload
        ));
    }
    Ok(())
}

fn ended() -> BusError {
    BusError::new(BusErrorKind::Disconnected, "the connection to NATS ended")
}

fn slow() -> BusError {
    BusError::new(BusErrorKind::Timeout, "NATS did not answer in time")
}

fn connect_error(error: ConnectError) -> BusError {
    let (kind, context) = match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            (BusErrorKind::Rejected, "NATS refused the user and password in bus.nats.url")
        }
        ConnectErrorKind::Tls => (BusErrorKind::Rejected, "this version does not speak TLS to NATS, which asks for it"),
        ConnectErrorKind::TimedOut => (BusErrorKind::Timeout, "NATS did not answer in time"),
        _ => (BusErrorKind::Disconnected, "there is no connection to NATS"),
    };
    BusError::new(kind, context).caused_by(error)
}

impl fmt::Debug for NatsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBackend").field("url", &self.url).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
