//! One TCP connection: bytes stop here.
//!
//! One task owns the socket and does everything for it: it reads, runs at most one request that takes time, and writes.
//! The reader never waits for the writer. An idle connection holds no buffer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::outbox::Outbox;
use super::rate::{Admission, Rate};
use super::session::{Handled, Session, Work};
use crate::protocol::{CloseReason, Codec, ErrorCode, Line, MAX_CLIENT_LINE, Malformed, Request, RequestBody};
use crate::server::core::Core;
use crate::server::flow::LocalSession;
use crate::server::service;

/// Read at once.
const READ_BYTES: usize = 16 * 1024;

/// Requests that wait for one that takes time: this many, or this many bytes of lines.
const MAX_WAITING: usize = 256;
const MAX_WAITING_BYTES: usize = MAX_CLIENT_LINE;

/// Written at once.
const WRITE_FRAMES: usize = 64;
const WRITE_BYTES: usize = 256 * 1024;

/// How long a connection that closes may take to hand over what is queued.
const LINGER: Duration = Duration::from_secs(4);

/// How long a client may take to close its side when the server has closed its own.
const LET_GO: Duration = Duration::from_secs(5);

/// How long a client that has stopped sending may wait for answers.
const HALF_CLOSED: Duration = Duration::from_secs(10);

thread_local! {
    /// Lent to whichever connection reads on this thread, so that none holds a buffer of its own.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

type Working = Pin<Box<dyn Future<Output = Session> + Send>>;

/// Serves a connection until either side closes it, or nobody has logged in when the node stops. The token is given
/// back when nothing more is written.
pub(super) async fn run(core: Arc<Core>, stream: TcpStream, stop: CancellationToken, serving: TaskTrackerToken) {
    let outbox = Arc::new(Outbox::new(core.limits.outbox.as_u64() as usize));
    let now = Instant::now();
    let connection = Connection {
        session: Some(Session::new(Arc::clone(&core), Arc::clone(&outbox))),
        working: None,
        member: None,
        codec: Codec::new(MAX_CLIENT_LINE),
        waiting: VecDeque::new(),
        waiting_bytes: 0,
        unsent: VecDeque::new(),
        rate: Rate::new(),
        heard_at: now,
        written_at: now,
        opened_at: now,
        closing_at: None,
        eof_at: None,
        core,
        outbox,
        stream,
        stop,
        _serving: serving,
    };
    if let Some(stream) = connection.serve().await {
        let_go(stream).await;
    }
}

/// Closes a connection on which everything is written. What the client still sends is thrown away: a socket that closes
/// with bytes unread resets the connection, and the last frames are lost on their way.
async fn let_go(mut stream: TcpStream) {
    let reading = async {
        stream.shutdown().await?;
        loop {
            stream.readable().await?;
            match SCRATCH.with_borrow_mut(|scratch| stream.try_read(scratch)) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    };
    match timeout(LET_GO, reading).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client went before it had read the end"),
        Err(_) => tracing::debug!("a client does not close its side"),
    }
}

struct Connection {
    core: Arc<Core>,
    stream: TcpStream,
    outbox: Arc<Outbox>,
    /// Away while it works.
    session: Option<Session>,
    working: Option<Working>,
    /// Who has logged in, also while the session works.
    member: Option<Arc<LocalSession>>,
    codec: Codec,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    unsent: VecDeque<Bytes>,
    rate: Rate,
    opened_at: Instant,
    heard_at: Instant,
    written_at: Instant,
    closing_at: Option<Instant>,
    eof_at: Option<Instant>,
    stop: CancellationToken,
    /// The last field: it is given back when the session is over.
    _serving: TaskTrackerToken,
}

/// A line that waits for its turn.
struct Waiting {
    bytes: usize,
    request: Result<Request, Malformed>,
    /// A confirmation that came behind it was taken at once.
    confirmed: bool,
}

enum Woken {
    Readable,
    Writable,
    Outbox,
    Worked(Session),
    Stopped,
    Time,
}

impl Connection {
    /// Runs until there is nothing more to do. Returns the stream when all of it was done, so that it can be closed in
    /// order; the session is over by then.
    async fn serve(mut self) -> Option<TcpStream> {
        loop {
            self.take_requests();
            if self.write().is_err() {
                return None;
            }
            if self.is_over() {
                return self.unsent.is_empty().then_some(self.stream);
            }
            if self.may_take_more() {
                // Writing has made room for what had to wait, and nothing else would come back to it.
                continue;
            }
            let deadline = self.deadline();
            let reads = self.reads();
            let writes = !self.unsent.is_empty();
            let is_guest = self.member.is_none() && self.outbox.closing().is_none();
            let woken = tokio::select! {
                biased;
                session = worked(&mut self.working) => Woken::Worked(session),
                () = self.outbox.changed() => Woken::Outbox,
                ready = self.stream.writable(), if writes => if ready.is_ok() { Woken::Writable } else { return None },
                ready = self.stream.readable(), if reads => if ready.is_ok() { Woken::Readable } else { return None },
                () = self.stop.cancelled(), if is_guest => Woken::Stopped,
                () = sleep_until(deadline) => Woken::Time,
            };
            match woken {
                Woken::Worked(session) => {
                    self.working = None;
                    self.member = session.member();
                    self.session = Some(session);
                }
                Woken::Readable => {
                    if self.read().is_err() {
                        return None;
                    }
                }
                Woken::Writable | Woken::Outbox => {}
                // Members are sent away by the node.
                Woken::Stopped => self.outbox.send_away(),
                Woken::Time => {
                    if self.check_time() {
                        return None;
                    }
                }
            }
        }
    }

    /// Takes lines out of the codec and requests out of the queue, as far as they can be taken now.
    fn take_requests(&mut self) {
        loop {
            self.take_lines();
            if self.working.is_some() || self.outbox.closing().is_some() {
                return;
            }
            let Some(mut session) = self.session.take() else { return };
            if self.outbox.is_behind() && session.is_member() {
                self.working = Some(Box::pin(session.work(Work::CatchUp)));
                return;
            }
            if self.outbox.is_half_full() {
                self.session = Some(session);
                return;
            }
            let Some(Waiting { bytes, request, confirmed }) = self.waiting.pop_front() else {
                self.session = Some(session);
                return;
            };
            self.waiting_bytes -= bytes;
            match request {
                Err(malformed) => {
                    session.malformed(malformed);
                    if confirmed {
                        session.well_formed();
                    }
                }
                Ok(request) => match self.rate.admit(self.core.limits.requests_per_second) {
                    Admission::Admitted => {
                        if let Handled::Work(work) = session.handle(request) {
                            self.working = Some(Box::pin(session.work(work)));
                            return;
                        }
                    }
                    Admission::Refused(retry_ms) => session.rate_limited(request, retry_ms),
                    Admission::Hopeless => self.outbox.close(CloseReason::RateLimited, 1_000, None),
                },
            }
            self.session = Some(session);
        }
    }

    fn take_lines(&mut self) {
        while self.waiting.len() < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES {
            let (bytes, request) = match self.codec.next_line() {
                None => break,
                Some(Line::Endless) => {
                    self.outbox.close(CloseReason::TooLarge, 0, None);
                    break;
                }
                Some(Line::TooLong) => {
                    let message = format!("a line is at most {MAX_CLIENT_LINE} bytes long with its newline");
                    (0, Err(Malformed::line(ErrorCode::TooLarge, message)))
                }
                Some(Line::Frame(line)) => (line.len(), Request::parse(&line)),
            };
            // Confirmations are cumulative: they go on while requests wait, so that a client that writes before it
            // reads is not stuck.
            if let Ok(Request { body: RequestBody::Received { conversation, seq }, .. }) = &request
                && let Some(member) = &self.member
            {
                service::received(&self.core, member, *conversation, *seq);
                match (self.waiting.back_mut(), &mut self.session) {
                    (Some(last), _) => last.confirmed = true,
                    (None, Some(session)) => session.well_formed(),
                    // What the session works on was well-formed.
                    (None, None) => {}
                }
                continue;
            }
            self.waiting_bytes += bytes;
            self.waiting.push_back(Waiting { bytes, request, confirmed: false });
        }
        if self.waiting.is_empty() && self.waiting.capacity() > 0 {
            self.waiting = VecDeque::new();
        }
    }

    /// Tells whether a request waits that can be taken now.
    fn may_take_more(&self) -> bool {
        let can = self.session.is_some() && self.outbox.closing().is_none() && !self.outbox.is_half_full();
        can && !self.waiting.is_empty()
    }

    fn reads(&self) -> bool {
        let full = self.waiting.len() >= MAX_WAITING || self.waiting_bytes >= MAX_WAITING_BYTES;
        self.eof_at.is_none() && !full && self.outbox.closing().is_none()
    }

    fn read(&mut self) -> io::Result<()> {
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let read = self.stream.try_read(scratch);
            if let Ok(count) = read {
                self.codec.extend(&scratch[..count]);
            }
            read
        });
        match read {
            Ok(0) => self.eof_at = Some(Instant::now()),
            Ok(_) => self.heard_at = Instant::now(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes what is queued until the socket takes no more. Frames that wait together leave in one write.
    fn write(&mut self) -> io::Result<()> {
        loop {
            if self.unsent.len() < WRITE_FRAMES {
                self.outbox.take(&mut self.unsent, WRITE_FRAMES, WRITE_BYTES);
            }
            if self.unsent.is_empty() {
                if self.unsent.capacity() > WRITE_FRAMES {
                    self.unsent = VecDeque::new();
                }
                self.written_at = Instant::now();
                return Ok(());
            }
            let mut slices = [IoSlice::new(&[]); WRITE_FRAMES];
            let count = self.unsent.len().min(WRITE_FRAMES);
            for (slice, frame) in slices.iter_mut().zip(&self.unsent) {
                *slice = IoSlice::new(frame);
            }
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.outbox.written(written);
                    self.written_at = Instant::now();
                    self.forget(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn forget(&mut self, mut written: usize) {
        while let Some(frame) = self.unsent.front_mut() {
            if frame.len() > written {
                frame.advance(written);
                return;
            }
            written -= frame.len();
            self.unsent.pop_front();
        }
    }

    /// Tells whether there is nothing more to do for this connection.
    fn is_over(&mut self) -> bool {
        if self.outbox.closing().is_some() {
            let given_up = self.closing_at.get_or_insert_with(Instant::now).elapsed() >= LINGER;
            // The closing frame may have been queued since the last write.
            return given_up || self.unsent.is_empty() && self.outbox.is_sealed() && self.outbox.is_drained();
        }
        // A client that has only closed its sending side still gets its answers; the last one may have been queued
        // since the last write.
        let busy = self.working.is_some() || !self.waiting.is_empty() || self.outbox.is_promising();
        self.eof_at.is_some() && !busy && self.unsent.is_empty() && self.outbox.is_drained()
    }

    fn deadline(&self) -> Instant {
        if let Some(closing_at) = self.closing_at {
            return closing_at + LINGER;
        }
        if let Some(eof_at) = self.eof_at {
            return eof_at + HALF_CLOSED;
        }
        let limits = &self.core.limits;
        let mut deadline = self.heard_at + limits.idle;
        if self.session.as_ref().is_some_and(|session| !session.is_member()) {
            deadline = deadline.min(self.opened_at + limits.login_timeout);
        }
        if !self.unsent.is_empty() {
            deadline = deadline.min(self.written_at + limits.slow_after);
        }
        deadline
    }

    /// Closes what has taken too long. Returns whether there is nothing more to wait for.
    fn check_time(&mut self) -> bool {
        let now = Instant::now();
        let limits = &self.core.limits;
        if self.closing_at.is_some_and(|at| at + LINGER <= now) || self.eof_at.is_some_and(|at| at + HALF_CLOSED <= now)
        {
            self.outbox.close(CloseReason::Slow, 0, None);
            return true;
        }
        if !self.unsent.is_empty() && self.written_at + limits.slow_after <= now {
            self.outbox.close(CloseReason::Slow, 0, None);
        } else if self.heard_at + limits.idle <= now {
            self.outbox.close(CloseReason::Idle, 0, None);
        } else if self.session.as_ref().is_some_and(|session| !session.is_member())
            && self.opened_at + limits.login_timeout <= now
        {
            self.outbox.close(CloseReason::HandshakeTimeout, 0, None);
        }
        false
    }
}

/// Waits for the request that takes time, for ever when there is none.
async fn worked(working: &mut Option<Working>) -> Session {
    match working {
        Some(working) => working.await,
        None => std::future::pending().await,
    }
}
