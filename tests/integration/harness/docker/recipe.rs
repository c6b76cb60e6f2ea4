use std::sync::Arc;

use futures_util::future::BoxFuture;
use testcontainers::{ContainerRequest, GenericImage};
use tokio::sync::OnceCell;

use super::Container;

/// What a container is run with.
pub(crate) type Request = ContainerRequest<GenericImage>;

/// How a server is run in a container.
pub(crate) struct Recipe {
    /// Its image, with the tag.
    pub(super) image: &'static str,
    /// The port inside of the container.
    pub(super) port: u16,
    /// Adds the environment and the arguments of a server that clients find at a place.
    pub(super) run: fn(Request, &Place) -> Request,
    /// Makes its URL.
    pub(super) url: fn(&Place) -> String,
    /// Tells whether the server of a URL answers. The daemon accepts for a server that is not ready, so a connection
    /// alone proves nothing.
    pub(super) answers: fn(String) -> BoxFuture<'static, bool>,
    /// The one of this run, which nobody may break, or why there is none.
    pub(super) shared: OnceCell<Result<Arc<Container>, String>>,
}

/// Where clients find a server.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
