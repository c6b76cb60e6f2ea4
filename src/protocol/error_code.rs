use std::fmt;

use serde::{Deserialize, Serialize};

/// The code of an `error` frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame is no request: not JSON, not UTF-8, an unknown type, a field missing or of the wrong kind.
    BadFrame,
    /// The line or the body is longer than the wire allows.
    TooLarge,
    /// Log in first.
    Unauthenticated,
    /// The name and password, or the token, do not fit.
    BadCredentials,
    /// The other user does not want it, or the request is the owner's.
    Forbidden,
    /// The name is registered.
    NameTaken,
    /// There is no such user, group or conversation.
    NotFound,
    /// You are not a member of the conversation.
    NotMember,
    /// The request contradicts something: a used key with another body, a second login, a message to yourself.
    Conflict,
    /// Too many requests; wait `retry_ms`.
    RateLimited,
    /// The server is busy; try again after `retry_ms`.
    Busy,
    /// The log is away; try again after `retry_ms`, with the same key.
    Unavailable,
    /// A fault of the server's.
    Internal,
}

impl ErrorCode {
    /// Every code.
    pub const ALL: [Self; 13] = [
        Self::BadFrame,
        Self::TooLarge,
        Self::Unauthenticated,
        Self::BadCredentials,
        Self::Forbidden,
        Self::NameTaken,
        Self::NotFound,
        Self::NotMember,
        Self::Conflict,
        Self::RateLimited,
        Self::Busy,
        Self::Unavailable,
        Self::Internal,
    ];

    /// Returns the code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadFrame => "bad_frame",
            Self::TooLarge => "too_large",
            Self::Unauthenticated => "unauthenticated",
            Self::BadCredentials => "bad_credentials",
            Self::Forbidden => "forbidden",
            Self::NameTaken => "name_taken",
            Self::NotFound => "not_found",
            Self::NotMember => "not_member",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate_limited",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Tells whether the same request may succeed later.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::Busy | Self::Unavailable)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
