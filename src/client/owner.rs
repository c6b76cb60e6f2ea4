use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::heartbeat::{Beat, Heartbeat};
use super::login::{Credentials, Failure, LoggedIn, log_in};
use super::session::{Ended, Session};
use super::sink::Sink;
use super::{ClientError, Connection, Disconnect, Event, Options, Sent};
use crate::model::Key;
use crate::protocol::{RequestBody, SendTarget, ServerFrame};

/// How long the first login is tried while servers answer that they are busy.
const FIRST_LOGIN_WITHIN: Duration = Duration::from_secs(60);

/// A session that lasted this long makes the next waits short again.
const LASTED: Duration = Duration::from_secs(5);

/// How long closing waits for the socket to take the last bytes.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// What handles ask of the owner.
#[derive(Debug)]
pub(crate) enum Command {
    Send {
        key: Key,
        target: SendTarget,
        body: String,
        done: oneshot::Sender<Result<Sent, ClientError>>,
    },
    Request {
        body: RequestBody,
        once: bool,
        done: oneshot::Sender<Result<ServerFrame, ClientError>>,
    },
    /// Something without an answer.
    Tell(RequestBody),
}

/// Why the owner stops serving a connection.
enum Stop {
    /// The connection is gone; make another.
    Ended(Ended),
    /// The user is done.
    Close,
}

/// The task that owns a client's socket, through all its connections.
#[derive(Debug)]
pub(crate) struct Owner {
    options: Arc<Options>,
    session: Session,
    commands: mpsc::Receiver<Command>,
    close: CancellationToken,
    register: bool,
    /// Which of the servers is next.
    server: usize,
    backoff: Backoff,
}

impl Owner {
    pub(crate) fn new(
        options: Options,
        sink: Sink,
        commands: mpsc::Receiver<Command>,
        close: CancellationToken,
    ) -> Self {
        let register = options.register;
        let session = Session::new(sink, options.password.clone());
        Self { options: Arc::new(options), session, commands, close, register, server: 0, backoff: Backoff::default() }
    }

    /// Makes the first connection: each server once, and again only while they say that they are busy.
    pub(crate) async fn first(&mut self) -> Result<Connection, ClientError> {
        let deadline = Instant::now() + FIRST_LOGIN_WITHIN;
        let mut unreachable = 0;
        loop {
            let failure = match log_in(self.server(), self.credentials()).await {
                Ok(session) => return Ok(self.begin(session)),
                Err(failure) => failure.or_final()?,
            };
            self.server += 1;
            unreachable += usize::from(!matches!(failure, Failure::Refused { .. } | Failure::Closing(_)));
            let wait = failure.wait().max(self.backoff.next());
            if unreachable >= self.options.servers.len() || Instant::now() + wait > deadline {
                return Err(failure.into_error(&self.options.servers));
            }
            if !matches!(failure, Failure::Unreachable(_)) {
                sleep(wait).await;
            }
        }
    }

    /// Serves connections until the user is done or the server says that it is over.
    pub(crate) async fn run(mut self, mut connection: Connection) {
        let error = loop {
            let began = Instant::now();
            let stop = self.serve(&mut connection).await;
            if let Stop::Ended(Ended::Closing(close)) = &stop
                && !close.reconnect
            {
                // The answer to a logout, among others: whoever waits is told that.
                break ClientError::Ended(close.clone());
            }
            self.session.disconnected();
            if began.elapsed() >= LASTED {
                self.backoff.reset();
            }
            let ended = match stop {
                Stop::Close => break ClientError::Closed,
                Stop::Ended(ended) => ended,
            };
            drop(connection);
            self.server += 1;
            let (why, after) = match ended {
                Ended::Closing(close) => (Disconnect::Closing(close.reason), Duration::from_millis(close.after_ms)),
                Ended::Broken(e) if e.kind() == io::ErrorKind::InvalidData => {
                    tracing::debug!(error = %e, "unreadable frame");
                    (Disconnect::Garbled, Duration::ZERO)
                }
                Ended::Broken(_) => (Disconnect::Broken, Duration::ZERO),
                Ended::Silent => (Disconnect::Silent, Duration::ZERO),
            };
            match self.reconnect(why, after).await {
                Ok(next) => connection = next,
                Err(error) => break error,
            }
        };
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            self.take(command);
        }
        drop(self.commands);
        self.session.end(error);
        while self.session.sink.is_blocked() {
            self.session.sink.make_room().await;
        }
    }

    /// Tries the servers in turn until one takes the login.
    async fn reconnect(&mut self, mut why: Disconnect, mut after: Duration) -> Result<Connection, ClientError> {
        loop {
            // The server's wait is spread over its clients already.
            let retry_in = if after.is_zero() { self.backoff.next() } else { after };
            self.session.sink.event(Event::Disconnected { why, retry_in });
            self.meanwhile(sleep(retry_in)).await?;
            let server = self.server().to_owned();
            let credentials = self.credentials();
            match self.meanwhile(async move { log_in(&server, credentials).await }).await? {
                Ok(session) => return Ok(self.begin(session)),
                Err(failure) => {
                    let failure = failure.or_final()?;
                    self.server += 1;
                    (why, after) = (failure.why(), failure.wait());
                    if matches!(failure, Failure::Refused { .. }) {
                        after = after.max(self.backoff.next());
                    }
                }
            }
        }
    }

    /// Goes on taking commands until `done` is.
    async fn meanwhile<T>(&mut self, done: impl Future<Output = T>) -> Result<T, ClientError> {
        let mut done = std::pin::pin!(done);
        loop {
            tokio::select! {
                outcome = &mut done => return Ok(outcome),
                () = self.close.cancelled() => return Err(ClientError::Closed),
                () = self.session.sink.make_room() => {}
                command = self.commands.recv(), if self.session.pending.has_room() => match command {
                    Some(command) => self.take(command),
                    None => return Err(ClientError::Closed),
                },
            }
        }
    }

    fn server(&self) -> &str {
        let servers = &self.options.servers;
        servers.get(self.server % servers.len().max(1)).map_or("", String::as_str)
    }

    fn credentials(&self) -> Credentials {
        Credentials {
            options: self.options.clone(),
            token: self.session.secrets.token().cloned(),
            passwords: self.session.secrets.passwords(),
            register: self.register,
            since: self.session.since(),
        }
    }

    fn begin(&mut self, LoggedIn { connection, welcome, token, password }: LoggedIn) -> Connection {
        self.session.secrets.welcome(token, password);
        self.register = false;
        self.session.welcome(welcome);
        connection
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Send { key, target, body, done } => self.session.send(key, target, body, done),
            Command::Request { body, once, done } => self.session.request(body, once, done),
            Command::Tell(body) => self.session.tell(body),
        }
    }

    /// Serves one connection.
    async fn serve(&mut self, connection: &mut Connection) -> Stop {
        let mut heartbeat = Heartbeat::new(Instant::now());
        let mut confirm_at = None;
        let mut timer = std::pin::pin!(sleep_until(heartbeat.deadline()));
        loop {
            match self.turn(connection, &mut heartbeat) {
                Ok(()) => {}
                Err(Ended::Broken(e)) => return Stop::Ended(self.last_words(connection, e)),
                Err(ended) => return Stop::Ended(ended),
            }
            if confirm_at.is_none() && self.session.has_unconfirmed() {
                confirm_at = Some(Instant::now() + self.options.received_every);
            }
            let due = [confirm_at, self.session.pending.held_until()].into_iter().flatten();
            let due = due.fold(heartbeat.deadline(), Instant::min);
            // A timer that fires early costs one turn; moving it at each turn would cost more.
            if due < timer.deadline() {
                timer.as_mut().reset(due);
            }
            let blocked = self.session.sink.is_blocked();
            tokio::select! {
                biased;
                () = self.close.cancelled() => {
                    self.part(connection).await;
                    return Stop::Close;
                }
                ready = connection.ready(!blocked) => match ready {
                    Err(e) => return Stop::Ended(Ended::Broken(e)),
                    Ok(ready) if ready.is_readable() && !blocked => match connection.fill() {
                        Ok(true) => heartbeat.heard(Instant::now()),
                        Ok(false) => {
                            let end = io::ErrorKind::UnexpectedEof.into();
                            return Stop::Ended(self.last_words(connection, end));
                        }
                        Err(e) => return Stop::Ended(self.last_words(connection, e)),
                    },
                    Ok(_) => {}
                },
                () = self.session.sink.make_room() => {}
                command = self.commands.recv(), if self.session.pending.has_room() => match command {
                    Some(command) => self.take(command),
                    None => {
                        self.part(connection).await;
                        return Stop::Close;
                    }
                },
                () = timer.as_mut() => {
                    let now = Instant::now();
                    if confirm_at.is_some_and(|at| at <= now) {
                        confirm_at = None;
                        self.session.confirm(connection.out());
                        heartbeat.said(now);
                    }
                    if blocked {
                        heartbeat.heard(now);
                    }
                    match heartbeat.check(now) {
                        Beat::Wait => {}
                        Beat::Ping => connection.out().extend_from_slice(b"{\"type\":\"ping\"}\n"),
                        Beat::Dead => return Stop::Ended(Ended::Silent),
                    }
                    timer.as_mut().reset(heartbeat.deadline());
                }
            }
        }
    }

    /// Handles what was read and writes what can be written.
    fn turn(&mut self, connection: &mut Connection, heartbeat: &mut Heartbeat) -> Result<(), Ended> {
        let now = Instant::now();
        while !self.session.sink.is_blocked() {
            let Some(line) = connection.buffered_line().map_err(Ended::Broken)? else { break };
            self.session.line(&line, now)?;
        }
        if self.session.write(connection.out(), now) {
            heartbeat.said(now);
        }
        connection.try_flush().map_err(Ended::Broken)
    }

    /// Reads what came before the connection broke: the server's reason, perhaps.
    fn last_words(&mut self, connection: &mut Connection, error: io::Error) -> Ended {
        if error.kind() == io::ErrorKind::InvalidData {
            return Ended::Broken(error);
        }
        // A failed write says nothing about what can still be read; what cannot is no matter now.
        connection.fill().ok();
        while let Ok(Some(line)) = connection.buffered_line() {
            if let Err(ended) = self.session.line(&line, Instant::now()) {
                return ended;
            }
        }
        Ended::Broken(error)
    }

    /// Says what is still to be said before the user closes the connection.
    async fn part(&mut self, connection: &mut Connection) {
        self.session.confirm(connection.out());
        if !matches!(timeout(FLUSH_WITHIN, connection.flush()).await, Ok(Ok(()))) {
            tracing::debug!("connection closed before everything was written");
        }
    }
}
