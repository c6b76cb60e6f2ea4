use std::error::Error;
use std::fmt;

/// What one check has found: one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    level: Level,
    subject: &'static str,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail { exit_code: u8 },
}

impl Finding {
    /// All is well.
    pub(super) fn ok(subject: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, subject, text: text.into() }
    }

    /// A node starts, but not everybody would want it so.
    pub(super) fn warn(subject: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Warn, subject, text: text.into() }
    }

    /// Something has to be done; `text` says what.
    pub(super) fn fail(subject: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Fail { exit_code: 1 }, subject, text: text.into() }
    }

    /// Sets with what code the program ends for a failure.
    pub(super) fn exit_code(mut self, code: u8) -> Self {
        if let Level::Fail { exit_code } = &mut self.level {
            *exit_code = code;
        }
        self
    }

    /// Returns the exit code of a failure.
    pub(super) fn failure(&self) -> Option<u8> {
        match self.level {
            Level::Fail { exit_code } => Some(exit_code),
            Level::Ok | Level::Warn => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "WARN",
            Level::Fail { .. } => "FAIL",
        };
        // One line a check, whatever a library puts into its errors.
        let text: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        write!(f, "{level:<5} {:<12} {text}", self.subject)
    }
}

/// Returns an error and what caused it, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let finding = Finding::warn("bus", "one\nand two");
        assert_eq!(finding.to_string(), "WARN  bus          one and two");
    }
}
