use serde::{Deserialize, Serialize};

/// Why a server closes a session. The numbers are shared by every front; on WebSocket they are the close code too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The node stops.
    Shutdown,
    /// The node sends its sessions to other nodes.
    Drain,
    /// The node lost its lease and starts anew.
    Fenced,
    /// The client was silent for too long.
    Idle,
    /// The client did not read for too long.
    Slow,
    /// No login in time.
    HandshakeTimeout,
    /// The log went back (a database failover lost commits): log in again.
    LogReset,
    /// Too many requests.
    RateLimited,
    /// The client logged out.
    Logout,
    /// The password was changed, or the account disabled.
    Revoked,
    /// The user has too many sessions.
    TooManySessions,
    /// Three bad frames in a row.
    BadFrames,
    /// A line without end.
    TooLarge,
}

impl CloseReason {
    /// Every reason, in the order of the codes.
    pub const ALL: [Self; 13] = [
        Self::Shutdown,
        Self::Drain,
        Self::Fenced,
        Self::Idle,
        Self::Slow,
        Self::HandshakeTimeout,
        Self::LogReset,
        Self::RateLimited,
        Self::Logout,
        Self::Revoked,
        Self::TooManySessions,
        Self::BadFrames,
        Self::TooLarge,
    ];

    /// Returns the code.
    pub fn code(self) -> u16 {
        match self {
            Self::Shutdown => 4000,
            Self::Drain => 4001,
            Self::Fenced => 4002,
            Self::Idle => 4003,
            Self::Slow => 4004,
            Self::HandshakeTimeout => 4005,
            Self::LogReset => 4006,
            Self::RateLimited => 4010,
            Self::Logout => 4100,
            Self::Revoked => 4101,
            Self::TooManySessions => 4102,
            Self::BadFrames => 4103,
            Self::TooLarge => 4104,
        }
    }

    /// Returns the reason as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Drain => "drain",
            Self::Fenced => "fenced",
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::LogReset => "log_reset",
            Self::RateLimited => "rate_limited",
            Self::Logout => "logout",
            Self::Revoked => "revoked",
            Self::TooManySessions => "too_many_sessions",
            Self::BadFrames => "bad_frames",
            Self::TooLarge => "too_large",
        }
    }

    /// Tells whether the client should connect again (for `rate_limited`: after `after_ms`).
    pub fn reconnect(self) -> bool {
        self.code() < 4100
    }
}

/// The body of a `closing` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// The code.
    pub code: u16,
    /// The reason's name.
    pub reason: String,
    /// Whether to connect again.
    pub reconnect: bool,
    /// How long to wait before that, in milliseconds.
    pub after_ms: u64,
}

impl Close {
    /// Makes the frame's body for a reason.
    pub fn new(reason: CloseReason, after_ms: u64) -> Self {
        Self { code: reason.code(), reason: reason.as_str().to_owned(), reconnect: reason.reconnect(), after_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_what_the_wire_promises() {
        let table = CloseReason::ALL.map(|reason| (reason.code(), reason.as_str(), reason.reconnect()));
        let promised = [
            (4000, "shutdown", true),
            (4001, "drain", true),
            (4002, "fenced", true),
            (4003, "idle", true),
            (4004, "slow", true),
            (4005, "handshake_timeout", true),
            (4006, "log_reset", true),
            (4010, "rate_limited", true),
            (4100, "logout", false),
            (4101, "revoked", false),
            (4102, "too_many_sessions", false),
            (4103, "bad_frames", false),
            (4104, "too_large", false),
        ];
        assert_eq!(table, promised);
    }
}
