//! What a connection does whatever carries its frames: lets requests wait for their turn, runs at most one that takes
//! time, and knows when the connection is over. No sockets in it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;
use super::rate::{Admission, Rate};
use super::session::{Handled, Session, Work};
use crate::protocol::{CloseReason, MAX_CLIENT_LINE, Malformed, Request, RequestBody};
use crate::server::core::Core;
use crate::server::flow::LocalSession;
use crate::server::service;

/// Requests that wait for one that takes time: this many, or this many bytes of lines.
const MAX_WAITING: usize = 256;
const MAX_WAITING_BYTES: usize = MAX_CLIENT_LINE;

/// How long a connection that closes may take to hand over what is queued.
const LINGER: Duration = Duration::from_secs(4);

/// How long a client that has stopped sending may wait for answers.
const HALF_CLOSED: Duration = Duration::from_secs(10);

type Working = Pin<Box<dyn Future<Output = Session> + Send>>;

/// One client's side of a connection.
pub(super) struct Dialogue {
    core: Arc<Core>,
    outbox: Arc<Outbox>,
    /// Away while it works.
    session: Option<Session>,
    working: Option<Working>,
    /// Who has logged in, also while the session works.
    member: Option<Arc<LocalSession>>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    rate: Rate,
    opened_at: Instant,
    heard_at: Instant,
    written_at: Instant,
    closing_at: Option<Instant>,
    eof_at: Option<Instant>,
    /// The node stops.
    stop: CancellationToken,
}

/// A line that waits for its turn.
struct Waiting {
    bytes: usize,
    request: Result<Request, Malformed>,
    /// A confirmation that came behind it was taken at once.
    confirmed: bool,
}

impl Dialogue {
    /// Begins with a guest, who is sent away if nobody has logged in when the node stops.
    pub(super) fn new(core: Arc<Core>, stop: CancellationToken) -> Self {
        let outbox = Arc::new(Outbox::new(core.limits.outbox.as_u64() as usize));
        let now = Instant::now();
        Self {
            session: Some(Session::new(Arc::clone(&core), Arc::clone(&outbox))),
            working: None,
            member: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            rate: Rate::new(),
            opened_at: now,
            heard_at: now,
            written_at: now,
            closing_at: None,
            eof_at: None,
            stop,
            core,
            outbox,
        }
    }

    /// Returns what waits to be written.
    pub(super) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Tells whether another line may wait.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES
    }

    /// Tells whether the socket should be read.
    pub(super) fn reads(&self) -> bool {
        self.eof_at.is_none() && self.has_room() && self.outbox.closing().is_none()
    }

    /// Takes a line of so many bytes.
    pub(super) fn offer(&mut self, bytes: usize, request: Result<Request, Malformed>) {
        // Confirmations are cumulative: they go on while requests wait, so that a client that writes before it reads is
        // not stuck.
        if let (Ok(request), Some(member)) = (&request, &self.member) {
            let taken = match request.body {
                RequestBody::Received { conversation, seq } => {
                    service::received(&self.core, member, conversation, seq);
                    true
                }
                RequestBody::Read { conversation, seq } => {
                    service::read(&self.core, member, conversation, seq);
                    true
                }
                _ => false,
            };
            if taken {
                match (self.waiting.back_mut(), &mut self.session) {
                    (Some(last), _) => last.confirmed = true,
                    (None, Some(session)) => session.well_formed(),
                    (None, None) => {}
                }
                return;
            }
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(Waiting { bytes, request, confirmed: false });
    }

    /// Takes one request, if one can be taken now, and tells whether it did.
    pub(super) fn step(&mut self) -> bool {
        if self.working.is_some() || self.outbox.closing().is_some() {
            return false;
        }
        let Some(mut session) = self.session.take() else { return false };
        if self.outbox.is_behind() && session.is_member() {
            self.working = Some(Box::pin(session.work(Work::CatchUp)));
            return false;
        }
        let next = if self.outbox.is_half_full() { None } else { self.waiting.pop_front() };
        let Some(Waiting { bytes, request, confirmed }) = next else {
            if self.waiting.is_empty() && self.waiting.capacity() > 0 {
                self.waiting = VecDeque::new();
            }
            self.session = Some(session);
            return false;
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
                        return true;
                    }
                }
                Admission::Refused(retry_ms) => session.rate_limited(request, retry_ms),
                Admission::Hopeless => self.outbox.close(CloseReason::RateLimited, 1_000, None),
            },
        }
        self.session = Some(session);
        true
    }

    /// Tells whether a request waits that can be taken now.
    pub(super) fn may_step(&self) -> bool {
        let can = self.session.is_some() && self.outbox.closing().is_none() && !self.outbox.is_half_full();
        can && !self.waiting.is_empty()
    }

    /// Waits until something has happened on this side: the request that takes time is done, or the node stops under a
    /// guest. Cancel-safe.
    pub(super) async fn stirred(&mut self) {
        let is_guest = self.member.is_none() && self.outbox.closing().is_none();
        let session = tokio::select! {
            biased;
            session = worked(&mut self.working) => session,
            () = self.stop.cancelled(), if is_guest => return self.core.farewell().say(&self.outbox, None),
        };
        self.working = None;
        self.member = session.member();
        self.session = Some(session);
    }

    /// Notes that the client has sent something.
    pub(super) fn heard(&mut self) {
        self.heard_at = Instant::now();
    }

    /// Notes that the client sends nothing more.
    pub(super) fn ended(&mut self) {
        self.eof_at.get_or_insert_with(Instant::now);
    }

    /// Notes that the client has taken something, or that nothing waits for it.
    pub(super) fn written(&mut self) {
        self.written_at = Instant::now();
    }

    /// Tells whether there is nothing more to do for this connection; `unsent`: something is still to be written.
    pub(super) fn is_over(&mut self, unsent: bool) -> bool {
        if self.outbox.closing().is_some() {
            let given_up = self.closing_at.get_or_insert_with(Instant::now).elapsed() >= LINGER;
            // The closing frame may have been queued since the last write.
            return given_up || !unsent && self.outbox.is_sealed() && self.outbox.is_drained();
        }
        // A client that has only closed its sending side still gets its answers; the last one may have been queued
        // since the last write.
        let busy = self.working.is_some() || !self.waiting.is_empty() || self.outbox.is_promising();
        self.eof_at.is_some() && !busy && !unsent && self.outbox.is_drained()
    }

    /// Returns when to check the time.
    pub(super) fn deadline(&self, unsent: bool) -> Instant {
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
        if unsent {
            deadline = deadline.min(self.written_at + limits.slow_after);
        }
        deadline
    }

    /// Closes what has taken too long. Returns whether there is nothing more to wait for.
    pub(super) fn check_time(&mut self, unsent: bool) -> bool {
        let now = Instant::now();
        let limits = &self.core.limits;
        if self.closing_at.is_some_and(|at| at + LINGER <= now) || self.eof_at.is_some_and(|at| at + HALF_CLOSED <= now)
        {
            self.outbox.close(CloseReason::Slow, 0, None);
            return true;
        }
        if unsent && self.written_at + limits.slow_after <= now {
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
