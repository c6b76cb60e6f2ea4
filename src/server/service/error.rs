use crate::model::Key;
use crate::model::store::{Outcome, StoreError, StoreErrorKind};
use crate::protocol::{ErrorCode, RequestId, ServerFrame};

/// How long a client should wait before it asks again, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// Why a request failed, as its client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub(crate) struct ServiceError {
    code: ErrorCode,
    message: String,
    retry_ms: Option<u64>,
}

impl ServiceError {
    /// Makes an error.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_ms: code.is_retryable().then_some(RETRY_MS) }
    }

    /// There is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// The user is not a member.
    pub(crate) fn not_member() -> Self {
        Self::new(ErrorCode::NotMember, "you are not a member of this conversation")
    }

    /// The node is stopping.
    pub(crate) fn stopping() -> Self {
        Self::new(ErrorCode::Unavailable, "this node is stopping, connect again and resend with the same key")
    }

    /// Says why the log did not take an entry.
    pub(crate) fn refused(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Conflict => Self::new(
                ErrorCode::Conflict,
                "this key is taken by another message of yours: keys are unique for ever",
            ),
            Outcome::NotMember => Self::not_member(),
            Outcome::Forbidden => Self::new(ErrorCode::Forbidden, "this user does not take messages from you"),
            Outcome::NotFound => Self::not_found("there is no such conversation"),
            Outcome::Refused => Self::new(ErrorCode::Internal, "the log refuses this message"),
            Outcome::Stored { .. } | Outcome::Repeat { .. } | Outcome::AlreadyMember => {
                Self::new(ErrorCode::Internal, "the message was stored after all")
            }
        }
    }

    /// Returns the code.
    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// Makes the `error` frame.
    pub(crate) fn into_frame(self, id: Option<RequestId>, key: Option<Key>) -> ServerFrame {
        ServerFrame::Error { id, key, code: self.code, message: self.message, retry_ms: self.retry_ms }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error.kind() {
            StoreErrorKind::Unavailable | StoreErrorKind::OutcomeUnknown => {
                Self::new(ErrorCode::Unavailable, "the log cannot be reached, try again with the same key")
            }
            StoreErrorKind::Conflict => Self::new(ErrorCode::Conflict, error.to_string()),
            StoreErrorKind::Config | StoreErrorKind::Internal => {
                tracing::error!(%error, source = ?std::error::Error::source(&error), "a request failed in the log");
                Self::new(ErrorCode::Internal, "the server failed, its log says why")
            }
        }
    }
}
