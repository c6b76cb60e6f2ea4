use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::book::Book;
use super::console::Console;
use super::problem::Problem;
use super::{json, text};
use crate::client::Disconnect;
use crate::model::Key;
use crate::protocol::{RequestId, ServerFrame};

/// How the talk speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tongue {
    /// In sentences.
    Text,
    /// In objects, one a line.
    Json,
}

/// What the talk has to say.
#[derive(Debug)]
pub(super) enum Saying {
    /// A reply or an event.
    Frame(ServerFrame),
    /// What only people need to be told.
    Note(String),
    /// An input failed; `id` and `key` are those of a program's request.
    Failed { problem: Problem, id: Option<RequestId>, key: Option<Key> },
    /// The connection is gone and will be made again.
    Disconnected { why: Disconnect, retry_ms: u64, news: bool },
}

/// Everything that is printed, and what is known because of it.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    tongue: Tongue,
    book: Arc<Mutex<Book>>,
    console: Arc<Console>,
    output: mpsc::Sender<String>,
}

impl Voice {
    pub(super) fn new(tongue: Tongue, console: Arc<Console>, output: mpsc::Sender<String>) -> Self {
        let book = Arc::new(Mutex::new(Book::new(tongue == Tongue::Text)));
        Self { tongue, book, console, output }
    }

    pub(super) fn tongue(&self) -> Tongue {
        self.tongue
    }

    pub(super) fn console(&self) -> &Console {
        &self.console
    }

    /// Returns the book, for a look or a change that takes no time.
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns from what is to be said, and says it.
    pub(super) async fn say(&self, saying: Saying) {
        let lines = {
            let mut book = self.book();
            if let Saying::Frame(frame) = &saying {
                book.learn(frame);
            }
            match self.tongue {
                Tongue::Text => spoken(saying, &book),
                Tongue::Json => json::line(saying).into_iter().collect(),
            }
        };
        self.refresh();
        for line in lines {
            // Output that nobody reads is no reason to stop sending.
            self.output.send(line).await.ok();
        }
    }

    pub(super) async fn note(&self, note: impl Into<String>) {
        self.say(Saying::Note(note.into())).await;
    }

    /// Brings the prompt up to date.
    pub(super) fn refresh(&self) {
        let (label, unread) = {
            let book = self.book();
            (book.label(), book.all_unread().iter().map(|(_, unread)| unread).sum())
        };
        self.console.show(label, unread);
    }
}

fn spoken(saying: Saying, book: &Book) -> Vec<String> {
    match saying {
        Saying::Frame(frame) => text::lines(&frame, book),
        Saying::Note(note) => note.lines().map(str::to_owned).collect(),
        Saying::Failed { problem, .. } => vec![format!("! {}", text::printable(&problem.message))],
        Saying::Disconnected { news: false, .. } => Vec::new(),
        Saying::Disconnected { why, .. } => vec![format!("* {why}; trying again until it works")],
    }
}
