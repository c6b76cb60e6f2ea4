use std::io;
use std::sync::Arc;

use crate::protocol::{Close, ErrorCode};

/// What kind of failure a [`ClientError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientErrorKind {
    /// No server could be reached.
    Unreachable,
    /// The server answered with an error.
    Refused(ErrorCode),
    /// The request does not fit the wire; it was not sent.
    TooLarge,
    /// The connection broke after the request was written, and asking again could do it twice.
    OutcomeUnknown,
    /// The server ended the session for good.
    Ended,
    /// The client was closed.
    Closed,
    /// The client does this itself.
    NotHere,
    /// The peer does not speak the wire.
    Protocol,
}

/// Why a request, or the client itself, failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// No server could be reached.
    #[error("no server can be reached at {servers}; check the address and that a node or the balancer listens there")]
    Unreachable {
        /// The addresses that were tried.
        servers: String,
        /// What the last of them said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The server answered with an error.
    #[error("{code}: {message}")]
    Refused {
        /// The code.
        code: ErrorCode,
        /// What the server says about it.
        message: String,
    },
    /// The request does not fit the wire; it was not sent.
    #[error("the request is {bytes} bytes long on the wire, at most {limit} are allowed; send less at once")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The longest that is allowed.
        limit: usize,
    },
    /// The connection broke after the request was written.
    #[error("the connection broke before the answer came; look whether it was done before you ask again")]
    OutcomeUnknown,
    /// The server ended the session for good.
    #[error("the server ended the session: {} ({}); log in again", .0.reason, .0.code)]
    Ended(Close),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// The client does this itself.
    #[error("the client logs in and registers by itself; start another one for another user")]
    NotHere,
    /// The peer does not speak the wire.
    #[error("the server does not speak this protocol ({0}); check that the address is that of a chat port")]
    Protocol(String),
}

impl ClientError {
    /// Returns the kind of failure.
    pub fn kind(&self) -> ClientErrorKind {
        match self {
            Self::Unreachable { .. } => ClientErrorKind::Unreachable,
            Self::Refused { code, .. } => ClientErrorKind::Refused(*code),
            Self::TooLarge { .. } => ClientErrorKind::TooLarge,
            Self::OutcomeUnknown => ClientErrorKind::OutcomeUnknown,
            Self::Ended(_) => ClientErrorKind::Ended,
            Self::Closed => ClientErrorKind::Closed,
            Self::NotHere => ClientErrorKind::NotHere,
            Self::Protocol(_) => ClientErrorKind::Protocol,
        }
    }

    /// Tells whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { code, .. } => code.is_retryable(),
            _ => false,
        }
    }
}
