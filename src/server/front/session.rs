//! One client's session, without its socket: what it may ask when, and what is asked of the services.

use std::sync::Arc;

use super::outbox::Outbox;
use crate::protocol::{CloseReason, ErrorCode, Malformed, Request, RequestBody, RequestId, ServerFrame};
use crate::server::core::Core;
use crate::server::flow::{self, LocalSession};
use crate::server::service::{self, LoginFailure, Member, Sending, ServiceError, friend};
use crate::telemetry;
use metrics::counter;

/// This many frames in a row that are no request close the connection.
const MAX_BAD_FRAMES: u32 = 3;

/// A client that is refused for too many requests or failed logins should wait this long, in milliseconds.
const COOL_DOWN_MS: u64 = 5_000;

/// What the session does with a request.
#[derive(Debug)]
pub(super) enum Handled {
    /// It is answered, or will be.
    Done,
    /// It needs the log: give it to [`Session::work`] and take no other request until that is done.
    Work(Work),
}

/// A request that takes time.
#[derive(Debug)]
pub(super) enum Work {
    Request(Request),
    Post(Box<flow::Post>),
    CatchUp,
}

/// A guest until it has logged in, a member from then on.
#[derive(Debug)]
pub(super) struct Session {
    core: Arc<Core>,
    outbox: Arc<Outbox>,
    member: Option<Member>,
    bad_frames: u32,
    failed_logins: u32,
}

impl Session {
    /// Begins the session of a new connection.
    pub(super) fn new(core: Arc<Core>, outbox: Arc<Outbox>) -> Self {
        Self { core, outbox, member: None, bad_frames: 0, failed_logins: 0 }
    }

    /// Tells whether somebody has logged in.
    pub(super) fn is_member(&self) -> bool {
        self.member.is_some()
    }

    /// Returns who has logged in.
    pub(super) fn member(&self) -> Option<Arc<LocalSession>> {
        self.member.as_ref().map(|member| Arc::clone(member.session()))
    }

    /// Notes a frame that could be read: the bad ones before it are no row any more.
    pub(super) fn well_formed(&mut self) {
        self.bad_frames = 0;
    }

    /// Answers a line that is no request.
    pub(super) fn malformed(&mut self, malformed: Malformed) {
        let Malformed { id, key, code, message } = malformed;
        self.outbox.reply(&ServerFrame::Error { id, key, code, message, retry_ms: None });
        if code == ErrorCode::BadFrame {
            self.bad_frames += 1;
            if self.bad_frames == MAX_BAD_FRAMES {
                self.outbox.close(CloseReason::BadFrames, 0, None);
            }
        } else {
            self.well_formed();
        }
    }

    /// Refuses a request that comes too soon.
    pub(super) fn rate_limited(&self, request: Request, retry_ms: u64) {
        let key = match request.body {
            RequestBody::Send { key, .. } => Some(key),
            _ => None,
        };
        let (code, message) = (ErrorCode::RateLimited, "too many requests in this second".to_owned());
        self.outbox.reply(&ServerFrame::Error { id: request.id, key, code, message, retry_ms: Some(retry_ms) });
    }

    /// Takes a request: answers it at once when that is possible without waiting.
    pub(super) fn handle(&mut self, request: Request) -> Handled {
        self.well_formed();
        let Request { id, body } = request;
        match (body, &self.member) {
            (RequestBody::Ping {}, _) => self.outbox.reply(&ServerFrame::Pong { id }),
            (RequestBody::Login(_), Some(_)) => {
                self.refuse(id, ServiceError::new(ErrorCode::Conflict, "this connection is logged in: log out first"));
            }
            (body @ (RequestBody::Login(_) | RequestBody::Register { .. }), _) => {
                return Handled::Work(Work::Request(Request { id, body }));
            }
            (RequestBody::Send { key, .. }, None) => {
                self.outbox.reply(&unauthenticated().into_frame(id, Some(key)));
            }
            (_, None) => self.refuse(id, unauthenticated()),
            (RequestBody::Send { key, target, body }, Some(member)) => {
                match service::send(&self.core, member.session(), id.clone(), key.clone(), target, body) {
                    Ok(Sending::Queued) => {}
                    Ok(Sending::Full(post)) => return Handled::Work(Work::Post(Box::new(post))),
                    Err(error) => self.outbox.reply(&error.into_frame(id, Some(key))),
                }
            }
            (RequestBody::Received { conversation, seq }, Some(member)) => {
                service::received(&self.core, member.session(), conversation, seq);
            }
            (RequestBody::Read { conversation, seq }, Some(member)) => {
                service::read(&self.core, member.session(), conversation, seq);
            }
            (RequestBody::Typing { conversation }, Some(member)) => {
                service::typing(&self.core, member.session(), conversation);
            }
            (RequestBody::Logout { everywhere: false }, Some(_)) => self.outbox.close(CloseReason::Logout, 0, id),
            (body, Some(_)) => return Handled::Work(Work::Request(Request { id, body })),
        }
        Handled::Done
    }

    /// Does what takes time. The session goes in and comes back, so that no other request of it runs meanwhile.
    pub(super) async fn work(mut self, work: Work) -> Self {
        match work {
            Work::Post(post) => {
                if let Err(post) = self.core.appender.post(*post).await {
                    post.refuse(ServiceError::stopping());
                }
            }
            Work::CatchUp => self.catch_up().await,
            Work::Request(Request { id, body }) => match body {
                RequestBody::Login(login) => self.login(id, login).await,
                RequestBody::Logout { .. } => self.log_out_everywhere(id).await,
                body => match self.answer(id.clone(), body).await {
                    Ok(frame) => self.outbox.reply(&frame),
                    Err(error) => self.refuse(id, error),
                },
            },
        }
        self
    }

    async fn login(&mut self, id: Option<RequestId>, login: crate::protocol::Login) {
        match service::login(&self.core, &self.outbox, id.clone(), login).await {
            Ok(member) => self.member = Some(member),
            Err(LoginFailure::Closed(reason)) => self.outbox.close(reason, COOL_DOWN_MS, id),
            Err(LoginFailure::SentAway) => self.core.farewell().say(&self.outbox, id),
            Err(LoginFailure::Refused(error)) => {
                self.failed_logins += u32::from(error.code() == ErrorCode::BadCredentials);
                self.refuse(id, error);
                if self.failed_logins >= self.core.limits.failed_logins {
                    self.outbox.close(CloseReason::RateLimited, COOL_DOWN_MS, None);
                }
            }
        }
    }

    async fn log_out_everywhere(&self, id: Option<RequestId>) {
        let Some(member) = &self.member else { return };
        match service::log_out_elsewhere(&self.core, member.session()).await {
            Ok(()) => self.outbox.close(CloseReason::Logout, 0, id),
            Err(error) => self.refuse(id, error),
        }
    }

    async fn answer(&self, id: Option<RequestId>, body: RequestBody) -> Result<ServerFrame, ServiceError> {
        let core = &*self.core;
        if let RequestBody::Register { name, password } = body {
            let user = service::register(core, &name, password).await?;
            return Ok(ServerFrame::Registered { id, user });
        }
        let session = self.member.as_ref().ok_or_else(unauthenticated)?.session();
        match body {
            RequestBody::History { conversation, before, after, limit } => {
                service::history(core, session.user, id, conversation, (before, after), limit).await
            }
            RequestBody::Conversations { before, limit } => {
                service::conversations(core, session.user, id, before, limit).await
            }
            RequestBody::GroupCreate { name, description } => {
                service::group_create(core, session, id, &name, description.as_deref().unwrap_or_default()).await
            }
            RequestBody::GroupJoin { conversation } => service::group_join(core, session, id, conversation).await,
            RequestBody::GroupLeave { conversation } => service::group_leave(core, session, id, conversation).await,
            RequestBody::GroupRemove { conversation, user } => {
                service::group_remove(core, session, id, conversation, user).await
            }
            RequestBody::GroupFind { name } => service::group_find(core, id, &name).await,
            RequestBody::GroupMembers { conversation, after, limit } => {
                service::group_members(core, session, id, conversation, after, limit).await
            }
            RequestBody::FindUser { name } => friend::find_user(core, id, &name).await,
            RequestBody::FriendAdd { name } => friend::add(core, session, id, &name).await,
            RequestBody::FriendAccept { user } => friend::accept(core, session, id, user).await,
            RequestBody::FriendRemove { user } => friend::remove(core, session, id, user).await,
            RequestBody::Friends {} => friend::list(core, session, id).await,
            RequestBody::Block { user } => friend::block(core, session, id, user, true).await,
            RequestBody::Unblock { user } => friend::block(core, session, id, user, false).await,
            RequestBody::Password { old, new } => service::change_password(core, session, id, old, new).await,
            RequestBody::Register { .. }
            | RequestBody::Login(_)
            | RequestBody::Send { .. }
            | RequestBody::Received { .. }
            | RequestBody::Read { .. }
            | RequestBody::Typing { .. }
            | RequestBody::Ping {}
            | RequestBody::Logout { .. } => Err(ServiceError::new(ErrorCode::Internal, "this request does not wait")),
        }
    }

    /// Fetches what the client was too slow for, then gives it a fresh picture of what no log has.
    async fn catch_up(&self) {
        let Some(member) = &self.member else { return };
        if let Err(error) = flow::catch_up(&self.core, member.session()).await {
            tracing::warn!(%error, "a session could not catch up, trying again");
            tokio::time::sleep(flow::CATCH_UP_RETRY).await;
        } else if self.outbox.take_stale() {
            self.outbox.event(self.core.health.picture());
            if let Err(error) = service::picture(&self.core, member.session()).await {
                tracing::debug!(%error, "a session could not be told how things stand");
            }
        }
    }

    fn refuse(&self, id: Option<RequestId>, error: ServiceError) {
        self.outbox.reply(&error.into_frame(id, None));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(reason) = self.outbox.closing() {
            counter!(telemetry::SESSIONS_CLOSED, telemetry::REASON => reason.as_str()).increment(1);
        }
    }
}

fn unauthenticated() -> ServiceError {
    ServiceError::new(ErrorCode::Unauthenticated, "log in first")
}
