use std::fmt::Display;
use std::io::{ErrorKind, Write};

use super::CliError;

/// Prints what the program was asked for.
pub(super) fn say(line: impl Display) -> Result<(), CliError> {
    match writeln!(std::io::stdout(), "{line}") {
        // The reader of a pipe has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| CliError::failed_by("cannot write to standard output", error)),
    }
}
