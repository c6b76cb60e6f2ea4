use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How the three who share a terminal get on: the editor's thread, which reads lines, the printer's thread, and the
/// talk, which knows what the prompt says.
#[derive(Debug, Default)]
pub(super) struct Console {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    label: String,
    unread: u64,
    /// How many inputs have been done.
    handled: u64,
    /// The editor has the terminal and redraws its line around whatever is printed.
    editing: bool,
    /// No further line is read.
    over: bool,
}

/// How the next line is to be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Around the line that is being edited.
    AroundTheLine,
    /// Straight to the terminal.
    Straight,
}

impl Console {
    /// Sets what the prompt says: where plain lines go, and how much is unread elsewhere.
    pub(super) fn show(&self, label: String, unread: u64) {
        let mut state = self.state();
        (state.label, state.unread) = (label, unread);
    }

    /// Returns the prompt for the next line.
    pub(super) fn prompt(&self) -> String {
        let state = self.state();
        format!("[{:>2}] {}> ", state.unread.min(99), state.label)
    }

    /// Returns the prompt as it would be now, in the width of `drawn`: the editor has measured that one and cannot
    /// draw a wider or narrower one before the next line.
    pub(super) fn redrawn(&self, drawn: &str) -> String {
        let now = self.prompt();
        if now == drawn || !now.is_ascii() || !drawn.is_ascii() || drawn.len() < MIN_WIDTH {
            return if now.len() == drawn.len() { now } else { drawn.to_owned() };
        }
        let text = now.trim_end_matches("> ");
        let width = drawn.len() - 2;
        if text.len() > width { format!("{}~> ", &text[..width - 1]) } else { format!("{text:<width$}> ") }
    }

    /// Notes that the editor has the terminal.
    pub(super) fn begin_line(&self) {
        self.state().editing = true;
        self.changed.notify_all();
    }

    /// Notes that the editor is about to give the terminal back.
    pub(super) fn end_line(&self) {
        self.state().editing = false;
    }

    /// Tells whether a line is being edited.
    pub(super) fn is_editing(&self) -> bool {
        self.state().editing
    }

    /// Notes that an input has been done.
    pub(super) fn handled(&self) {
        self.state().handled += 1;
        self.changed.notify_all();
    }

    /// Waits until `count` inputs have been done, or for as long as `patience`: the prompt then tells what they did.
    pub(super) fn wait_handled(&self, count: u64, patience: Duration) {
        let state = self.state();
        let waiting = |state: &mut State| state.handled < count && !state.over;
        drop(self.changed.wait_timeout_while(state, patience, waiting));
    }

    /// Ends reading: no further line is asked for.
    pub(super) fn end(&self) {
        self.state().over = true;
        self.changed.notify_all();
    }

    /// Tells whether reading has ended.
    pub(super) fn is_over(&self) -> bool {
        self.state().over
    }

    /// Waits until something can be printed. Between two lines that is never, because what is printed then could
    /// overtake what the editor has not drawn yet.
    pub(super) fn way(&self) -> Way {
        let waiting = |state: &mut State| !state.editing && !state.over;
        let state = self.changed.wait_while(self.state(), waiting).unwrap_or_else(PoisonError::into_inner);
        if state.editing { Way::AroundTheLine } else { Way::Straight }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The narrowest prompt, with no label.
const MIN_WIDTH: usize = "[ 0] > ".len();

#[cfg(test)]
mod tests {
    use super::*;

    fn redrawn(drawn: &str, label: &str, unread: u64) -> String {
        let console = Console::default();
        console.show(label.to_owned(), unread);
        console.redrawn(drawn)
    }

    #[test]
    fn a_prompt_is_brought_up_to_date_without_changing_its_width() {
        for (drawn, label, unread, now) in [
            ("[ 0] tea> ", "tea", 3, "[ 3] tea> "),
            ("[ 0] tea> ", "tea", 250, "[99] tea> "),
            ("[ 0] tea> ", "bo", 0, "[ 0] bo > "),
            ("[ 0] tea> ", "carol", 1, "[ 1] ca~> "),
            ("[ 0] > ", "tea", 0, "[ 0]~> "),
            ("[ 0] té> ", "té", 2, "[ 2] té> "),
            ("[ 0] té> ", "carol", 2, "[ 0] té> "),
        ] {
            assert_eq!(redrawn(drawn, label, unread), now, "{drawn} {label}");
        }
    }

    #[test]
    fn lines_are_printed_around_the_edited_one_or_at_the_end() {
        let console = Console::default();
        console.begin_line();
        assert_eq!(console.way(), Way::AroundTheLine);
        console.end_line();
        console.end();
        assert_eq!(console.way(), Way::Straight);
    }
}
