//! `switchboard chat`: talks to a cluster from a terminal or a script.

mod act;
mod book;
mod classic;
mod command;
mod console;
mod editor;
mod json;
mod listen;
mod password;
mod problem;
mod talk;
#[cfg(test)]
mod tests;
mod text;
mod voice;

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use self::console::Console;
use self::editor::Terminal;
use self::password::PasswordError;
use self::talk::Input;
use self::voice::{Tongue, Voice};
use crate::client::{ChatClient, ClientError, ClientErrorKind, Events, Options};
use crate::protocol::{ErrorCode, Password};

/// How many lines of input or output wait.
const LINES: usize = 64;

/// Arguments of `switchboard chat`.
#[derive(Debug, clap::Args)]
pub struct ChatArgs {
    /// The address of a node or of the balancer; with several, they are tried in turn.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = "127.0.0.1:6000")]
    server: Vec<String>,
    /// Your name.
    #[arg(long)]
    name: String,
    /// The environment variable that holds the password [default: SWITCHBOARD_PASSWORD, else it is asked for].
    #[arg(long, value_name = "VAR")]
    password_env: Option<String>,
    /// Registers the name first, if it is free.
    #[arg(long)]
    register: bool,
    /// Speaks JSON, for programs: every reply and event is printed as one object a line, as it stands on the wire. A
    /// line of input that begins with `{` is a request of the wire; any other is a command as without this option.
    #[arg(long)]
    json: bool,
    /// How long to wait at the end of the input for messages that are not acknowledged yet.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    patience: Duration,
}

/// Why a chat ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// There is no password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The login failed.
    #[error("`{name}` cannot log in{hint}")]
    Login {
        /// Who.
        name: String,
        /// What to do about it.
        hint: &'static str,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// The server ended the session.
    #[error("the session is over")]
    Over(#[source] ClientError),
    /// Not everything that was typed could be done.
    #[error("{failed} of the inputs failed and {unanswered} messages were not acknowledged in time")]
    Failed {
        /// Commands and messages that were refused or not understood.
        failed: u64,
        /// Messages without an answer.
        unanswered: u64,
    },
}

/// Logs in and talks until the input ends or the user quits. From a script, what failed is an error at the end.
pub async fn run(args: ChatArgs) -> Result<(), ChatError> {
    let interactive = io::stdin().is_terminal();
    let password = password::find(args.password_env.as_deref(), &args.name, interactive).await?;
    let (client, events) = log_in(&args, password, interactive).await?;
    let (output, printed) = mpsc::channel::<String>(LINES);
    let console = Arc::new(Console::default());
    let tongue = if args.json { Tongue::Json } else { Tongue::Text };
    let voice = Voice::new(tongue, console.clone(), output.clone());
    let wants_editor = interactive && io::stdout().is_terminal() && !args.json;
    let opened = if wants_editor { Terminal::open(&console, printed) } else { Err(printed) };
    let outcome = match opened {
        Ok((terminal, input)) => {
            let outcome = talk::talk(client, events, input, voice, args.patience).await;
            if console.is_editing() {
                output.send("* it is over; press Enter to leave".to_owned()).await.ok();
            }
            drop(output);
            terminal.close().await;
            outcome
        }
        Err(mut printed) => {
            drop(output);
            let printer = tokio::spawn(async move {
                while let Some(line) = printed.recv().await {
                    // A reader that has gone away is no reason to stop sending.
                    writeln!(io::stdout(), "{line}").ok();
                }
            });
            let outcome = talk::talk(client, events, read_lines(), voice, args.patience).await;
            printer.await.ok();
            outcome
        }
    };
    let outcome = outcome.map_err(ChatError::Over)?;
    if outcome.unanswered > 0 || (!interactive && outcome.failed > 0) {
        return Err(ChatError::Failed { failed: outcome.failed, unanswered: outcome.unanswered });
    }
    Ok(())
}

async fn log_in(args: &ChatArgs, password: Password, interactive: bool) -> Result<(ChatClient, Events), ChatError> {
    let mut options = Options::new(args.server.clone(), &args.name, password);
    options.register = args.register;
    let connected = ChatClient::connect(options.clone()).await;
    let unknown = matches!(
        &connected,
        Err(error) if error.kind() == ClientErrorKind::Refused(ErrorCode::BadCredentials)
    );
    let failed = |hint| move |source| ChatError::Login { name: args.name.clone(), hint, source };
    if !unknown || args.register {
        return connected.map_err(failed(""));
    }
    if !interactive || !password::agrees(&args.name).await? {
        return connected.map_err(failed("; if the name is new, pass --register"));
    }
    options.register = true;
    ChatClient::connect(options).await.map_err(failed("; the name is taken, and this is not its password"))
}

/// Reads standard input on a thread of its own, because a read from a terminal cannot be called off.
fn read_lines() -> mpsc::Receiver<Input> {
    let (input, lines) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut line = Vec::new();
        while matches!(stdin.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
            line.clear();
            if input.blocking_send(Input::Line(text)).is_err() {
                return;
            }
        }
    });
    lines
}
