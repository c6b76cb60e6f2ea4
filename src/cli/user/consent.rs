use std::io::{self, BufRead, IsTerminal, Write};

use crate::cli::CliError;
use crate::model::Name;

/// Asks whether an account shall be deleted. Without a terminal it takes `--yes`.
pub(super) async fn to_delete(name: &Name) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::Usage(format!("there is no terminal to ask whether to delete {name}; pass --yes")));
    }
    let question = format!("Delete {name} for good? The name stays taken, and what they said stays. [y/N] ");
    let asked = tokio::task::spawn_blocking(move || {
        let mut terminal = io::stderr();
        terminal.write_all(question.as_bytes())?;
        terminal.flush()?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        Ok(line)
    });
    let answer = asked.await.map_err(io::Error::other).and_then(|answer| answer);
    let answer = answer.map_err(|error| CliError::failed_by("cannot read from the terminal", error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
