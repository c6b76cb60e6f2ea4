use crate::client::{ClientError, ClientErrorKind};
use crate::protocol::{ErrorCode, Malformed};

/// Why an input could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// What a program is told.
    pub(super) code: ErrorCode,
    /// What a person is told.
    pub(super) message: String,
}

impl Problem {
    /// Makes the problem of an input that cannot be understood.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::BadFrame, message: message.into() }
    }

    /// Makes the problem of a name that means nobody, or nothing.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::NotFound, message: message.into() }
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        let code = match error.kind() {
            ClientErrorKind::Refused(code) => code,
            ClientErrorKind::TooLarge => ErrorCode::TooLarge,
            ClientErrorKind::NotHere => ErrorCode::Conflict,
            ClientErrorKind::Protocol => ErrorCode::Internal,
            ClientErrorKind::Unreachable
            | ClientErrorKind::OutcomeUnknown
            | ClientErrorKind::Ended
            | ClientErrorKind::Closed => ErrorCode::Unavailable,
        };
        Self { code, message: error.to_string() }
    }
}

impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Self {
        Self { code: malformed.code, message: malformed.message }
    }
}
