use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::asides::Asides;
use super::connection::{garbled, parse};
use super::paging::Paging;
use super::pending::{Pending, Waiter};
use super::position::Position;
use super::secrets::Secrets;
use super::sink::Sink;
use super::{Brief, ClientError, Event, Sent, Welcome};
use crate::model::{ConversationId, Key, Message, MessageKind, Millis, Seq, UserId};
use crate::protocol::{
    Close, ErrorCode, MAX_BODY_BYTES, MAX_CLIENT_LINE, MemberMore, Password, Request, RequestBody, RequestId,
    SendTarget, ServerFrame,
};

/// How the lines of the two frequent frames begin. Reading them as what they are, instead of as one of all frames,
/// costs a third.
const MESSAGE: &[u8] = br#"{"type":"message","#;
const SENT: &[u8] = br#"{"type":"sent","#;

/// How many conversations a login names in `since`, so that its line stays far below the longest.
const MAX_SINCE: usize = 2000;

/// How many messages a page of history holds.
const PAGE: u64 = 200;

/// How long to wait before asking a busy server again, when it does not say.
const BUSY_WAIT: Duration = Duration::from_millis(200);

/// The longest wait that a busy server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How much may wait for the socket before requests stay where they are.
const ENOUGH_OUT: usize = 64 * 1024;

/// Why a connection is given up.
#[derive(Debug)]
pub(crate) enum Ended {
    Closing(Close),
    Broken(io::Error),
    Silent,
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Live,
    /// Between `welcome` and `caught_up`.
    CatchUp,
    /// In a page of history.
    Page,
    /// Live, and kept back while pages were fetched, which may have brought it too.
    Parked,
}

/// What outlives a connection, and what each frame does to it. No sockets and no clocks in here.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) sink: Sink,
    pub(crate) pending: Pending,
    pub(crate) secrets: Secrets,
    asides: Asides,
    me: Option<UserId>,
    positions: HashMap<ConversationId, Position>,
    paging: Paging,
    /// Between `welcome` and `caught_up`.
    catching_up: bool,
    /// Conversations of which `received` has something new to say.
    unconfirmed: Vec<ConversationId>,
    last_number: u64,
}

#[derive(Deserialize)]
struct SentLine<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    key: std::borrow::Cow<'a, str>,
    conversation: ConversationId,
    seq: Seq,
    at: Millis,
}

impl Session {
    pub(crate) fn new(sink: Sink, password: Password) -> Self {
        Self {
            sink,
            pending: Pending::default(),
            secrets: Secrets::new(password),
            asides: Asides::default(),
            me: None,
            positions: HashMap::new(),
            paging: Paging::default(),
            catching_up: false,
            unconfirmed: Vec::new(),
            last_number: 0,
        }
    }

    /// Queues a message.
    pub(crate) fn send(
        &mut self,
        key: Key,
        target: SendTarget,
        body: String,
        done: oneshot::Sender<Result<Sent, ClientError>>,
    ) {
        let too_large = |bytes, limit| ClientError::TooLarge { bytes, limit };
        if body.len() > MAX_BODY_BYTES {
            return self.settle(Waiter::Send { key, done }, Err(too_large(body.len(), MAX_BODY_BYTES)));
        }
        let (number, line) = self.number(RequestBody::Send { key: key.clone(), target, body });
        let waiter = Waiter::Send { key, done };
        if line.len() > MAX_CLIENT_LINE {
            return self.settle(waiter, Err(too_large(line.len(), MAX_CLIENT_LINE)));
        }
        self.pending.add(number, line, waiter);
    }

    /// Queues any other request.
    pub(crate) fn request(
        &mut self,
        body: RequestBody,
        once: bool,
        done: oneshot::Sender<Result<ServerFrame, ClientError>>,
    ) {
        let new_password = if let RequestBody::Password { new, .. } = &body { Some(new.clone()) } else { None };
        let (number, line) = self.number(body);
        if line.len() > MAX_CLIENT_LINE {
            done.send(Err(ClientError::TooLarge { bytes: line.len(), limit: MAX_CLIENT_LINE })).ok();
            return;
        }
        if let Some(new) = new_password {
            self.secrets.asked(number, new);
        }
        self.pending.add(number, line, Waiter::Reply { done, once });
    }

    /// Says something that has no answer.
    pub(crate) fn tell(&mut self, body: RequestBody) {
        match body {
            RequestBody::Read { conversation, seq } => self.asides.read(conversation, seq),
            body => self.asides.notice(&Request { id: None, body }.to_line()),
        }
    }

    /// Returns what the next login says in `since`.
    pub(crate) fn since(&self) -> BTreeMap<ConversationId, Seq> {
        let known = |unconfirmed: bool| {
            self.positions
                .iter()
                .filter(move |(_, position)| position.is_unconfirmed() == unconfirmed)
                .filter_map(|(&conversation, position)| position.since().map(|seq| (conversation, seq)))
        };
        // Of a conversation that is not named the server goes by what was confirmed, so those may be left out first.
        known(true).chain(known(false)).take(MAX_SINCE).collect()
    }

    /// Begins a session on a new connection.
    pub(crate) fn welcome(&mut self, welcome: Welcome) {
        self.me = Some(welcome.user);
        self.catching_up = true;
        self.paging.begin(Vec::new());
        for position in self.positions.values_mut() {
            position.resume();
        }
        for view in &welcome.conversations {
            match self.positions.get_mut(&view.conversation) {
                None => {
                    self.positions.insert(view.conversation, Position::after(view.delivered));
                }
                Some(position) => {
                    if position.prefix().is_some_and(|prefix| prefix > view.head) {
                        position.go_back(view.head);
                    }
                    position.server_knows(view.delivered);
                }
            }
        }
        self.asides.welcome(&welcome.conversations);
        let behind = self.positions.iter().filter(|(_, position)| position.is_unconfirmed());
        self.unconfirmed = behind.map(|(&conversation, _)| conversation).collect();
        self.sink.event(Event::Welcome(welcome));
    }

    /// Ends the session on a connection that is gone.
    pub(crate) fn disconnected(&mut self) {
        self.pending.disconnected();
        self.asides.disconnected();
        self.paging.begin(Vec::new());
    }

    /// Tells whether `received` or `read` has anything to say.
    pub(crate) fn has_unconfirmed(&self) -> bool {
        !self.unconfirmed.is_empty() || self.asides.has_unsaid()
    }

    /// Writes `received` and `read` for every conversation that got on.
    pub(crate) fn confirm(&mut self, out: &mut Vec<u8>) {
        for conversation in std::mem::take(&mut self.unconfirmed) {
            if let Some(seq) = self.positions.get_mut(&conversation).and_then(Position::confirm) {
                let request = Request { id: None, body: RequestBody::Received { conversation, seq } };
                out.extend_from_slice(&request.to_line());
            }
        }
        self.asides.say_read(out);
    }

    /// Writes requests that have not been written yet; `true`: something was written.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, now: Instant) -> bool {
        let told = self.asides.write(out);
        self.pending.write(out, ENOUGH_OUT, now) || told
    }

    /// Fails everything that waits and says the last event.
    pub(crate) fn end(&mut self, error: ClientError) {
        for waiter in self.pending.drain() {
            self.settle(waiter, Err(error.clone()));
        }
        self.sink.event(Event::Closed(error));
    }

    /// Takes a line from the server.
    pub(crate) fn line(&mut self, line: &Bytes, now: Instant) -> Result<(), Ended> {
        if line.starts_with(MESSAGE) {
            return self.live(line);
        }
        if line.starts_with(SENT)
            && let Ok(sent) = serde_json::from_slice::<SentLine<'_>>(line)
        {
            let place = Sent { conversation: sent.conversation, seq: sent.seq, at: sent.at };
            self.sent(sent.id, &sent.key, place);
            return Ok(());
        }
        match parse(line).map_err(Ended::Broken)? {
            Some(frame) => self.frame(frame, line, now),
            // A newer server's event.
            None => Ok(()),
        }
    }

    fn frame(&mut self, frame: ServerFrame, line: &Bytes, now: Instant) -> Result<(), Ended> {
        match frame {
            ServerFrame::Message(_) => self.live(line)?,
            ServerFrame::Sent { id, key, conversation, seq, at } => {
                self.sent(id.as_ref().and_then(number_of), key.as_str(), Sent { conversation, seq, at });
            }
            ServerFrame::CaughtUp { more } => self.caught_up(more)?,
            ServerFrame::Conversation(view) => {
                let begin = || Position::open(Some(view.delivered));
                self.positions.entry(view.conversation).or_insert_with(begin);
                self.sink.event(Event::Conversation(view));
            }
            ServerFrame::Cursor { conversation, user, delivered, read } => {
                self.sink.event(Event::Cursor { conversation, user, delivered, read });
            }
            ServerFrame::FriendRequest { user, name } => self.sink.event(Event::FriendRequest { user, name }),
            ServerFrame::FriendAccepted { user, name } => self.sink.event(Event::FriendAccepted { user, name }),
            ServerFrame::FriendRemoved { user } => self.sink.event(Event::FriendRemoved { user }),
            ServerFrame::Presence { user, online } => self.sink.event(Event::Presence { user, online }),
            ServerFrame::Typing { conversation, user } => self.sink.event(Event::Typing { conversation, user }),
            ServerFrame::Degraded { since } => self.sink.event(Event::Degraded { since }),
            ServerFrame::Restored {} => self.sink.event(Event::Restored),
            ServerFrame::Closing { close, .. } => return Err(Ended::Closing(close)),
            ServerFrame::Error { id, key, code, message, retry_ms } => {
                let number = id.as_ref().and_then(number_of);
                self.refused(number, key, code, message, retry_ms, now)?;
            }
            ServerFrame::History { ref id, .. }
                if id.as_ref().and_then(number_of).is_some_and(|number| self.paging.is_asked(number)) =>
            {
                let ServerFrame::History { messages, .. } = frame else { return Ok(()) };
                self.page(messages)?;
            }
            ServerFrame::Registered { ref id, .. }
            | ServerFrame::Welcome { ref id, .. }
            | ServerFrame::History { ref id, .. }
            | ServerFrame::Conversations { ref id, .. }
            | ServerFrame::Group { ref id, .. }
            | ServerFrame::Friends { ref id, .. }
            | ServerFrame::Groups { ref id, .. }
            | ServerFrame::Members { ref id, .. }
            | ServerFrame::User { ref id, .. }
            | ServerFrame::Ok { ref id }
            | ServerFrame::Pong { ref id } => {
                let number = id.as_ref().and_then(number_of);
                if let ServerFrame::Group { conversation, head, .. } = frame {
                    let begin = || if head == 0 { Position::after(0) } else { Position::open(Some(0)) };
                    self.positions.entry(conversation).or_insert_with(begin);
                }
                number.inspect(|&number| self.secrets.answered(number, true));
                if let Some(Waiter::Reply { done, .. }) = number.and_then(|number| self.pending.answered(number)) {
                    done.send(Ok(frame)).ok();
                }
            }
        }
        Ok(())
    }

    fn live(&mut self, line: &Bytes) -> Result<(), Ended> {
        self.message(line, if self.catching_up { Origin::CatchUp } else { Origin::Live })
    }

    fn message(&mut self, line: &Bytes, origin: Origin) -> Result<(), Ended> {
        let unreadable = |e| Ended::Broken(garbled(e));
        if matches!(self.sink, Sink::Direct(_)) {
            let brief: Brief<'_> = serde_json::from_slice(line).map_err(unreadable)?;
            if !self.paging.hold(brief.conversation, brief.seq, line) && self.takes(&brief, origin) {
                self.hand_out(&brief);
            }
        } else {
            let message: Message = serde_json::from_slice(line).map_err(unreadable)?;
            if !self.paging.hold(message.conversation, message.seq, line) && self.takes(&Brief::from(&message), origin)
            {
                self.sink.event(Event::Message(message));
            }
        }
        Ok(())
    }

    fn hand_out(&mut self, brief: &Brief<'_>) {
        if let Sink::Direct(observer) = &mut self.sink {
            observer.message(brief);
        }
    }

    /// Notes a message; `false`: its user has it already.
    fn takes(&mut self, brief: &Brief<'_>, origin: Origin) -> bool {
        let position = self.positions.entry(brief.conversation).or_insert_with(|| Position::open(None));
        let was_unconfirmed = position.is_unconfirmed();
        let new = match origin {
            Origin::CatchUp => position.logged(brief.seq),
            Origin::Page => {
                position.paged(brief.seq);
                position.logged(brief.seq)
            }
            Origin::Live | Origin::Parked => position.message(brief.seq),
        };
        if !was_unconfirmed && position.is_unconfirmed() {
            self.unconfirmed.push(brief.conversation);
        }
        if !new {
            let repeated = matches!(origin, Origin::Live | Origin::CatchUp)
                && position.is_repeated(brief.seq, origin == Origin::Live);
            if let (true, Sink::Direct(observer)) = (repeated, &mut self.sink) {
                observer.duplicate(brief);
            }
            return false;
        }
        if Some(brief.from) == self.me {
            if brief.kind == MessageKind::Leave {
                self.positions.remove(&brief.conversation);
                self.asides.leave(brief.conversation);
            }
            // It was stored before the connection broke, and its acknowledgement was lost: this is one.
            if let Some(waiter) = self.pending.arrived(&brief.key) {
                let place = Sent { conversation: brief.conversation, seq: brief.seq, at: brief.at };
                self.settle(waiter, Ok(place));
                return false;
            }
        }
        true
    }

    fn sent(&mut self, number: Option<u64>, key: &str, place: Sent) {
        let position = self.positions.entry(place.conversation).or_insert_with(|| Position::open(None));
        let was_unconfirmed = position.is_unconfirmed();
        position.own(place.seq);
        if !was_unconfirmed && position.is_unconfirmed() {
            self.unconfirmed.push(place.conversation);
        }
        let waiter = match number {
            Some(number) => self.pending.answered(number),
            None => self.pending.arrived(key),
        };
        if let Some(waiter) = waiter {
            self.settle(waiter, Ok(place));
        }
    }

    fn refused(
        &mut self,
        number: Option<u64>,
        key: Option<Key>,
        code: ErrorCode,
        message: String,
        retry_ms: Option<u64>,
        now: Instant,
    ) -> Result<(), Ended> {
        if let Some(number) = number.filter(|&number| code.is_retryable() && self.pending.repeats(number)) {
            let wait = retry_ms.map_or(BUSY_WAIT, Duration::from_millis).clamp(BUSY_WAIT / 4, LONGEST_WAIT);
            self.pending.refused(number, now, wait);
            return Ok(());
        }
        number.inspect(|&number| self.secrets.answered(number, false));
        let waiter = match (number, key) {
            (Some(number), _) => self.pending.answered(number),
            (None, Some(key)) => self.pending.arrived(key.as_str()),
            (None, None) => None,
        };
        match waiter {
            Some(Waiter::Page) => self.next_gap()?,
            Some(waiter) => self.settle(waiter, Err(ClientError::Refused { code, message })),
            None => self.sink.event(Event::Complaint { code, message }),
        }
        Ok(())
    }

    fn caught_up(&mut self, more: Vec<MemberMore>) -> Result<(), Ended> {
        self.catching_up = false;
        for gap in &more {
            let begin = || Position::after(gap.next - 1);
            self.positions.entry(gap.conversation).or_insert_with(begin).had_below(gap.next);
        }
        self.paging.begin(more);
        self.ask_or_finish();
        Ok(())
    }

    fn page(&mut self, messages: Vec<Message>) -> Result<(), Ended> {
        if let Some(number) = self.paging.take_asked() {
            self.pending.answered(number);
        }
        let last = messages.last().map(|message| message.seq);
        for message in messages {
            if self.takes(&Brief::from(&message), Origin::Page) {
                match &mut self.sink {
                    Sink::Direct(observer) => observer.message(&Brief::from(&message)),
                    sink => sink.event(Event::Message(message)),
                }
            }
        }
        if self.paging.reached(last) {
            self.ask_or_finish();
            Ok(())
        } else {
            self.next_gap()
        }
    }

    fn next_gap(&mut self) -> Result<(), Ended> {
        for line in self.paging.finish() {
            self.message(&line, Origin::Parked)?;
        }
        self.ask_or_finish();
        Ok(())
    }

    fn ask_or_finish(&mut self) {
        let Some(gap) = self.paging.current() else { return self.sink.event(Event::CaughtUp) };
        let (conversation, after) = (gap.conversation, Some(gap.next - 1));
        let body = RequestBody::History { conversation, before: None, after, limit: Some(PAGE) };
        let (number, line) = self.number(body);
        self.paging.asked(number);
        self.pending.add(number, line, Waiter::Page);
    }

    fn settle(&mut self, waiter: Waiter, outcome: Result<Sent, ClientError>) {
        match waiter {
            Waiter::Send { key, done } => {
                if let Sink::Direct(observer) = &mut self.sink {
                    observer.sent(&key, outcome.as_ref());
                }
                done.send(outcome).ok();
            }
            Waiter::Reply { done, .. } => {
                if let Err(error) = outcome {
                    done.send(Err(error)).ok();
                }
            }
            Waiter::Page => {}
        }
    }

    fn number(&mut self, body: RequestBody) -> (u64, Bytes) {
        self.last_number += 1;
        let request = Request { id: Some(RequestId::number(self.last_number)), body };
        (self.last_number, request.to_line())
    }
}

fn number_of(id: &RequestId) -> Option<u64> {
    id.as_json().parse().ok()
}
