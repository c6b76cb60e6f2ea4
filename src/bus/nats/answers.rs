//! What the server says on a link besides messages: answers, refusals, the end.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_nats::{Event, StatusCode, Subscriber};
use futures_util::StreamExt;
use tokio::sync::oneshot;

use super::ended;
use crate::bus::supervisor::Incoming;
use crate::bus::{BusError, BusErrorKind};

/// How many events the client library keeps for us before it drops some.
const EVENTS: usize = 128;

/// The end of the subject on which a round trip comes back; a number follows. A bare number is that of a message that
/// nobody was there for.
const ROUND_TRIP: &str = "r";

/// What the server has said.
#[derive(Default)]
pub(super) struct Answers(Mutex<Said>);

#[derive(Default)]
struct Said {
    /// Whom a break is told, from the moment when there is a link.
    incoming: Option<Incoming>,
    round_trips: u64,
    waiting: HashMap<u64, Waiting>,
    unheard: Vec<usize>,
    refused_subscriptions: HashSet<String>,
    /// Subjects to which we may not publish, with the number of the last round trip that was under way when the server
    /// said so: what it was about is answered with that one at the latest.
    refused_publishes: HashMap<String, u64>,
    broken: Option<(BusErrorKind, String)>,
}

/// Who waits for a round trip.
enum Waiting {
    /// Whoever wants to know that the server is there, and has dealt with what it was sent.
    Alone(oneshot::Sender<()>),
    /// Whoever has published before it.
    Published(oneshot::Sender<Published>),
}

/// What the server has said of messages before it answered the round trip that followed them.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// The numbers of those that asked whether anybody is there, and nobody was.
    pub(super) unheard: Vec<usize>,
    /// Subjects to which we may not publish; maybe of other messages.
    pub(super) refused: HashSet<String>,
}

/// What a permission keeps from us.
#[derive(Debug, PartialEq, Eq)]
enum Refusal<'a> {
    Subscription(&'a str),
    Publish(&'a str),
}

impl Answers {
    /// Takes what arrives in the inbox, whose subjects begin with `prefix` and a dot.
    pub(super) async fn hear(&self, mut inbox: Subscriber, prefix: &str) {
        while let Some(message) = inbox.next().await {
            let end = message.subject.strip_prefix(prefix).and_then(|end| end.strip_prefix('.')).unwrap_or_default();
            if let Some(number) = end.strip_prefix(ROUND_TRIP) {
                number.parse().into_iter().for_each(|number| self.answer(number));
            } else if message.status == Some(StatusCode::NO_RESPONDERS) {
                self.said().unheard.extend(end.parse::<usize>());
            }
        }
        self.break_with(BusErrorKind::Disconnected, "the connection to NATS ended");
    }

    /// Answers whoever waits for a round trip. Who has stopped waiting needs no answer.
    fn answer(&self, number: u64) {
        let mut said = self.said();
        match said.waiting.remove(&number) {
            Some(Waiting::Alone(answer)) => drop(answer.send(())),
            Some(Waiting::Published(answer)) => {
                let refused = said.refused_publishes.keys().cloned().collect();
                said.refused_publishes.retain(|_, last| *last > number);
                drop(answer.send(Published { unheard: std::mem::take(&mut said.unheard), refused }));
            }
            None => {}
        }
    }

    /// Notes what the client library reports of the connection.
    pub(super) fn note(&self, event: &Event) {
        match event {
            // A server in lame duck mode serves on until it closes the connection.
            Event::Connected | Event::LameDuckMode | Event::Draining => {}
            Event::Disconnected | Event::Closed => {
                self.break_with(BusErrorKind::Disconnected, "the connection to NATS ended");
            }
            Event::SlowConsumer(_) => {
                let text = "the NATS client dropped messages that were not taken in time";
                self.break_with(BusErrorKind::Disconnected, text);
            }
            Event::ServerError(error) => self.note_refusal(&error.to_string()),
            Event::ClientError(error) => self.break_with(BusErrorKind::Disconnected, &error.to_string()),
        }
    }

    /// Notes what a permission forbids; any other error is the end of the connection.
    fn note_refusal(&self, text: &str) {
        let refused = {
            let mut said = self.said();
            let last = said.round_trips;
            match Refusal::of(text) {
                Some(Refusal::Subscription(subject)) => drop(said.refused_subscriptions.insert(subject.to_owned())),
                // What it is about may be followed by a round trip that is not under way yet.
                Some(Refusal::Publish(subject)) => drop(said.refused_publishes.insert(subject.to_owned(), last + 1)),
                None => {}
            }
            said.refused_subscriptions.len() + said.refused_publishes.len()
        };
        if Refusal::of(text).is_none() {
            self.break_with(BusErrorKind::Rejected, &format!("NATS refused: {text}"));
        } else if refused >= EVENTS {
            // There may have been more, of which we have not heard.
            self.break_with(BusErrorKind::Rejected, &format!("NATS refused too much to tell what: {text}"));
        }
    }

    /// From here on a break is told to the link's owner, at once if it has happened already.
    pub(super) fn belong_to(&self, incoming: Incoming) {
        let mut said = self.said();
        if said.broken.is_some() {
            incoming.broken(said.reason());
        }
        said.incoming = Some(incoming);
    }

    fn break_with(&self, kind: BusErrorKind, text: &str) {
        let mut said = self.said();
        said.broken.get_or_insert_with(|| (kind, text.to_owned()));
        // Nobody is answered any more.
        said.waiting.clear();
        if let Some(incoming) = &said.incoming {
            incoming.broken(said.reason());
        }
    }

    /// Returns the end of the subject that a round trip is to be sent to, and its answer, which fails when the link is
    /// broken.
    pub(super) fn expect_round_trip(&self) -> (String, oneshot::Receiver<()>) {
        self.expect(Waiting::Alone)
    }

    /// The same after messages, of which the answer tells.
    pub(super) fn expect_published(&self) -> (String, oneshot::Receiver<Published>) {
        self.expect(Waiting::Published)
    }

    fn expect<T>(&self, waiting: impl FnOnce(oneshot::Sender<T>) -> Waiting) -> (String, oneshot::Receiver<T>) {
        let (answer, answered) = oneshot::channel();
        let mut said = self.said();
        said.round_trips += 1;
        let number = said.round_trips;
        if said.broken.is_none() {
            said.waiting.insert(number, waiting(answer));
        }
        (format!("{ROUND_TRIP}{number}"), answered)
    }

    /// Returns the subjects to which we may not subscribe, of what was subscribed since it was last asked.
    pub(super) fn take_refused_subscriptions(&self) -> HashSet<String> {
        std::mem::take(&mut self.said().refused_subscriptions)
    }

    /// Returns why the link is broken.
    pub(super) fn reason(&self) -> BusError {
        self.said().reason()
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    fn reason(&self) -> BusError {
        self.broken.as_ref().map_or_else(ended, |(kind, text)| BusError::new(*kind, text.clone()))
    }
}

impl<'a> Refusal<'a> {
    /// Takes `Permissions Violation for Publish to "subject"` and the like. Without an inbox there is no link.
    fn of(text: &'a str) -> Option<Self> {
        let (_, refusal) = text.split_once("Permissions Violation for ")?;
        let subject = refusal.split('"').nth(1).filter(|subject| !subject.starts_with("_INBOX."))?;
        if refusal.starts_with("Subscription to ") {
            Some(Self::Subscription(subject))
        } else if refusal.starts_with("Publish to ") {
            Some(Self::Publish(subject))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_subject_and_anything_else_is_the_end() {
        let of = Refusal::of;
        assert_eq!(of("nats: Permissions Violation for Publish to \"a.b\""), Some(Refusal::Publish("a.b")));
        assert_eq!(of("nats: Permissions Violation for Subscription to \"a.b\""), Some(Refusal::Subscription("a.b")));
        let inbox = "nats: Permissions Violation for Publish to \"_INBOX.x.r1\"";
        for end in
            ["nats: Permissions Violation", "nats: Slow Consumer", "Permissions Violation for Reply to \"a\"", inbox]
        {
            assert_eq!(of(end), None);
        }
    }

    #[test]
    fn refusals_that_may_have_been_dropped_break_the_link() {
        let answers = Answers::default();
        for n in 0..EVENTS {
            let (_, mut answered) = answers.expect_round_trip();
            assert!(answered.try_recv() == Err(oneshot::error::TryRecvError::Empty), "broken after {n}");
            answers.note_refusal(&format!("nats: Permissions Violation for Publish to \"a.{n}\""));
        }
        let (_, mut answered) = answers.expect_round_trip();
        assert_eq!(answered.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(answers.reason().kind(), BusErrorKind::Rejected);
    }
}
