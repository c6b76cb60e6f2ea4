use std::io::{self, IsTerminal};

use crate::cli::CliError;
use crate::cli::question::agrees;
use crate::model::Name;

/// Asks whether an account shall be deleted. Without a terminal it takes `--yes`.
pub(super) async fn to_delete(name: &Name) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(format!("there is no terminal to ask whether to delete {name}; pass --yes")));
    }
    let question = format!("Delete {name} for good? The name stays taken, and what they said stays. [y/N] ");
    agrees(question).await.map_err(|error| CliError::failed_by("cannot read from the terminal", error))
}
