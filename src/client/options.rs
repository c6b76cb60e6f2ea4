use std::time::Duration;

use crate::protocol::Password;

/// How a [`ChatClient`](super::ChatClient) connects and who it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses (`HOST:PORT`) of nodes or balancers, tried in turn, the first one first.
    pub servers: Vec<String>,
    /// The user's name.
    pub name: String,
    /// The user's password.
    pub password: Password,
    /// What the device calls itself.
    pub device: Option<String>,
    /// Registers the name before the first login; that it is taken already is no error then.
    pub register: bool,
    /// How often `received` is sent at most.
    pub received_every: Duration,
    /// How many events wait in [`Events`](super::Events) before the client stops reading its socket.
    pub events: usize,
}

impl Options {
    /// Makes options with defaults for everything but the server, the name and the password.
    pub fn new<S: Into<String>>(
        servers: impl IntoIterator<Item = S>,
        name: impl Into<String>,
        password: Password,
    ) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            name: name.into(),
            password,
            device: None,
            register: false,
            received_every: Duration::from_millis(500),
            events: 1024,
        }
    }
}
