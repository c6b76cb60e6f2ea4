use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustyline::completion::Completer;
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, ExternalPrinter, Helper};
use tokio::sync::mpsc;

use super::console::{Console, Way};
use super::password;
use super::talk::Input;

/// How many lines can be called back. They stay in memory, because a chat is nothing to leave on a disk unasked.
const HISTORY: usize = 500;

/// How long the next prompt waits for the last input to be done.
const PROMPT_WITHIN: Duration = Duration::from_millis(250);

/// A terminal with a line editor.
pub(super) struct Terminal {
    editor: thread::JoinHandle<()>,
    printer: thread::JoinHandle<()>,
}

impl Terminal {
    /// Takes the terminal over and returns what the user puts in; what comes through `output` is printed without
    /// disturbing the line that is being edited. It gives `output` back if lines cannot be edited on this terminal.
    pub(super) fn open(
        console: &Arc<Console>,
        output: mpsc::Receiver<String>,
    ) -> Result<(Self, mpsc::Receiver<Input>), mpsc::Receiver<String>> {
        let Ok((editor, printer)) = open(console) else { return Err(output) };
        let (lines, input) = mpsc::channel(1);
        let (of_editor, of_printer) = (console.clone(), console.clone());
        let terminal = Self {
            editor: thread::spawn(move || read(editor, &of_editor, &lines)),
            printer: thread::spawn(move || print(printer, &of_printer, output)),
        };
        Ok((terminal, input))
    }

    /// Waits until the user has left the line and everything is printed.
    pub(super) async fn close(self) {
        let joined = tokio::task::spawn_blocking(|| {
            self.editor.join().ok();
            self.printer.join().ok();
        });
        joined.await.ok();
    }
}

type LineEditor = Editor<Look, MemHistory>;

fn open(console: &Arc<Console>) -> rustyline::Result<(LineEditor, impl ExternalPrinter + Send + 'static)> {
    let mut editor = Editor::with_history(rustyline::Config::default(), MemHistory::new())?;
    editor.set_max_history_size(HISTORY)?;
    editor.set_helper(Some(Look { console: console.clone() }));
    let printer = editor.create_external_printer()?;
    Ok((editor, printer))
}

fn read(mut editor: LineEditor, console: &Console, lines: &mpsc::Sender<Input>) {
    let mut count = 0;
    while !console.is_over() {
        let read = editor.readline(&console.prompt());
        console.end_line();
        let input = match read {
            Ok(line) if line.trim() == "/password" => match password::change() {
                Ok(Some((old, new))) => Input::Password { old, new },
                Ok(None) => {
                    tell("! the two new passwords differ; nothing is changed");
                    continue;
                }
                Err(error) => {
                    tell(&format!("! {error}"));
                    continue;
                }
            },
            Ok(line) => {
                // A history that is full forgets its oldest line; there is no other failure.
                editor.add_history_entry(line.as_str()).ok();
                Input::Line(line)
            }
            Err(ReadlineError::Interrupted) => {
                tell("* /quit or Ctrl-D leaves");
                continue;
            }
            Err(_) => break,
        };
        if lines.blocking_send(input).is_err() {
            break;
        }
        count += 1;
        console.wait_handled(count, PROMPT_WITHIN);
    }
    console.end();
}

fn print(mut printer: impl ExternalPrinter, console: &Console, mut output: mpsc::Receiver<String>) {
    while let Some(line) = output.blocking_recv() {
        let printed = match console.way() {
            Way::AroundTheLine => printer.print(format!("{line}\n")).is_ok(),
            Way::Straight => false,
        };
        if !printed {
            tell(&line);
        }
    }
}

/// Prints a line while none is being edited. A terminal that has gone away is no reason to stop.
fn tell(line: &str) {
    writeln!(io::stdout(), "{line}").ok();
}

/// Keeps the console and the editor in step: its methods are called while the editor has the terminal.
struct Look {
    console: Arc<Console>,
}

impl Helper for Look {}

impl Completer for Look {
    type Candidate = String;
}

impl Hinter for Look {
    type Hint = String;

    /// Gives no hint. It is called when the line is drawn for the first time.
    fn hint(&self, _line: &str, _pos: usize, _ctx: &Context<'_>) -> Option<String> {
        if !self.console.is_editing() {
            self.console.begin_line();
        }
        None
    }
}

impl Validator for Look {
    /// Takes every line. It is called before the editor gives the terminal back.
    fn validate(&self, _ctx: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        self.console.end_line();
        Ok(ValidationResult::Valid(None))
    }
}

impl Highlighter for Look {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, default: bool) -> Cow<'b, str> {
        if default { Cow::Owned(self.console.redrawn(prompt)) } else { Cow::Borrowed(prompt) }
    }
}
