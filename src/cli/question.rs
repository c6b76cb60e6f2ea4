use std::io::{self, BufRead, Write};

/// Asks on the terminal, off the runtime, and returns the line that comes back.
pub(super) async fn ask(question: impl FnOnce() -> io::Result<String> + Send + 'static) -> io::Result<String> {
    tokio::task::spawn_blocking(question).await.map_err(io::Error::other).and_then(|answer| answer)
}

/// Asks a question on the terminal; anything but yes is no.
pub(super) async fn agrees(question: String) -> io::Result<bool> {
    let answer = ask(move || {
        let mut terminal = io::stderr();
        terminal.write_all(question.as_bytes())?;
        terminal.flush()?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        Ok(line)
    });
    Ok(matches!(answer.await?.trim(), "y" | "Y" | "yes"))
}
