use std::error::Error;
use std::fmt;

/// What a bus error means for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BusErrorKind {
    /// The bus section of the config cannot work: a broken URL, a backend that is not compiled in.
    Config,
    /// There is no connection now; the bus is reconnecting.
    Disconnected,
    /// The broker did not answer in time.
    Timeout,
    /// The broker answered with a refusal.
    Rejected,
    /// The payload is larger than the broker takes.
    TooLarge,
    /// The bus was closed.
    Closed,
}

/// An error of the bus.
pub struct BusError {
    kind: BusErrorKind,
    context: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl BusError {
    /// Makes an error of a kind; `context` says what was being done, or what to do.
    pub fn new(kind: BusErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// Adds the error that caused this one.
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns what the error means.
    pub fn kind(&self) -> BusErrorKind {
        self.kind
    }

    /// Tells whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, BusErrorKind::Disconnected | BusErrorKind::Timeout | BusErrorKind::Rejected)
    }
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl fmt::Debug for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusError")
            .field("kind", &self.kind)
            .field("context", &self.context)
            .field("source", &self.source)
            .finish()
    }
}

impl Error for BusError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
