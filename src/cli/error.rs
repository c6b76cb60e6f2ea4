use std::error::Error;

use super::chat::ChatError;
use super::doctor::Unwell;
use super::replay::ReplayFailure;
use crate::bench::bus::BusBenchError;
use crate::bus::{BusError, BusErrorKind};
use crate::config::ConfigError;
use crate::model::store::{StoreError, StoreErrorKind};
use crate::server::{ClaimError, StartError};
use crate::telemetry::TelemetryError;

/// Why the program ends without success.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The arguments cannot be used together.
    #[error("{0}")]
    Usage(String),
    /// The config cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log's or the metrics' setup cannot be used.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bus cannot be used.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A chat ended with an error.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The doctor found something.
    #[error(transparent)]
    Unwell(#[from] Unwell),
    /// A bus could not be measured.
    #[error(transparent)]
    BusBench(#[from] BusBenchError),
    /// A replay was not clean, or could not be played.
    #[error(transparent)]
    Replay(#[from] ReplayFailure),
    /// A node cannot start or go on.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Anything else.
    #[error("{context}")]
    Failed {
        /// What was being done, and what the user can do.
        context: String,
        /// What went wrong.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl From<ClaimError> for CliError {
    fn from(error: ClaimError) -> Self {
        Self::Start(StartError::Claim(error))
    }
}

impl CliError {
    /// Makes an error for anything that has no kind of its own; `context` says what was being done, and what to do now.
    pub fn failed(context: impl Into<String>) -> Self {
        Self::Failed { context: context.into(), source: None }
    }

    /// Makes such an error with its cause.
    pub fn failed_by(context: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { context: context.into(), source: Some(source.into()) }
    }

    /// Returns the exit code of the program: 64 usage, 69 database unavailable, 78 config, 1 anything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Config(_) | Self::Telemetry(_) => 78,
            Self::Store(e) => match e.kind() {
                StoreErrorKind::Config => 78,
                StoreErrorKind::Unavailable | StoreErrorKind::OutcomeUnknown => 69,
                StoreErrorKind::Conflict | StoreErrorKind::Internal => 1,
            },
            Self::Unwell(e) => e.exit_code(),
            Self::Bus(e) | Self::BusBench(BusBenchError::Bus(_, e)) if e.kind() == BusErrorKind::Config => 78,
            Self::Start(StartError::Claim(_)) => 69,
            Self::Start(StartError::Config(_)) => 78,
            Self::Chat(_)
            | Self::Replay(_)
            | Self::Start(_)
            | Self::Bus(_)
            | Self::BusBench(_)
            | Self::Failed { .. } => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_tells_a_supervisor_what_to_do() {
        let store = |kind| CliError::from(StoreError::new(kind, "the log")).exit_code();
        assert_eq!(store(StoreErrorKind::Unavailable), 69);
        assert_eq!(store(StoreErrorKind::Config), 78);
        assert_eq!(CliError::from(BusError::new(BusErrorKind::Config, "the bus")).exit_code(), 78);
        assert_eq!(CliError::from(BusError::new(BusErrorKind::Closed, "the bus")).exit_code(), 1);
        assert_eq!(CliError::failed("other").exit_code(), 1);
    }
}
