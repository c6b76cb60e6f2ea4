use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Host;
use crate::model::store::StoreError;
use crate::model::{ConversationId, Key, Message, Millis, Seq, UserId};
use crate::protocol::{Login, Password, SendTarget, ServerFrame};
use crate::server::core::Core;
use crate::server::flow;
use crate::server::front::Outbox;
use crate::server::service::{self, LoginFailure, Member, Sending};

/// Shorter than the time to the first audit: what a test waits for has come without it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(25);

/// A logged-in user: the session as the message path has it, and what it has been told. It reads only when it is asked
/// to.
pub(crate) struct Client {
    core: Arc<Core>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) user: UserId,
    pub(crate) member: Option<Member>,
    /// Everything it was told.
    pub(crate) frames: Vec<ServerFrame>,
    /// A task of its own: whoever stops half-way through a read of the log holds up everybody.
    catching_up: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Client {
    /// Begins a session that is not logged in.
    pub(crate) fn new(host: &Host, user: UserId) -> Self {
        let outbox = Arc::new(Outbox::new(host.core.limits.outbox.as_u64() as usize));
        Self { core: Arc::clone(&host.core), outbox, user, member: None, frames: Vec::new(), catching_up: None }
    }

    /// Logs in.
    pub(crate) async fn login(host: &Host, user: UserId) -> Self {
        Self::login_since(host, user, []).await
    }

    /// Logs in as a device that has what it says.
    pub(crate) async fn login_since<const N: usize>(
        host: &Host,
        user: UserId,
        since: [(ConversationId, Seq); N],
    ) -> Self {
        let mut client = Self::new(host, user);
        let request = client.request(since.into_iter().collect());
        let login = client.try_login(request).await;
        login.expect("a login that nothing stands against");
        client.take();
        client
    }

    /// Makes the request with which this client logs in.
    pub(crate) fn request(&self, since: BTreeMap<ConversationId, Seq>) -> Login {
        let token = Some(Password::new(self.core.tokens.issue(self.user, 0)));
        Login { name: None, password: None, token, device: None, since }
    }

    /// Logs in, reading what comes meanwhile.
    pub(crate) async fn try_login(&mut self, request: Login) -> Result<(), LoginFailure> {
        let (core, outbox) = (Arc::clone(&self.core), Arc::clone(&self.outbox));
        let mut login = std::pin::pin!(service::login(&core, &outbox, None, request));
        let member = loop {
            tokio::select! {
                member = &mut login => break member?,
                () = outbox.changed() => self.take(),
            }
        };
        self.member = Some(member);
        Ok(())
    }

    /// Begins to log in, in a task of its own.
    pub(crate) fn begin_login(mut self) -> JoinHandle<Self> {
        tokio::spawn(async move {
            let request = self.request(BTreeMap::new());
            self.try_login(request).await.expect("a login that nothing stands against");
            self.take();
            self
        })
    }

    /// Sends a message without waiting for the answer.
    pub(crate) fn send(&self, key: &str, target: SendTarget, body: &str) {
        let session = self.member.as_ref().expect("logged in").session();
        let sending = service::send(&self.core, session, None, Key::new(key).unwrap(), target, body.to_owned());
        assert!(matches!(sending, Ok(Sending::Queued)), "{sending:?}");
    }

    pub(crate) fn send_to(&self, key: &str, to: UserId, body: &str) {
        self.send(key, SendTarget::User { to }, body);
    }

    pub(crate) fn say(&self, key: &str, conversation: ConversationId, body: &str) {
        self.send(key, SendTarget::Conversation { conversation }, body);
    }

    /// Sends and waits for the seq.
    pub(crate) async fn sent(&mut self, key: &str, target: SendTarget, body: &str) -> Seq {
        self.send(key, target, body);
        let before = self.frames.len();
        self.until("sent", |frames| answer(&frames[before..], key).is_some()).await;
        match answer(&self.frames[before..], key) {
            Some(ServerFrame::Sent { seq, .. }) => *seq,
            other => panic!("{other:?}"),
        }
    }

    /// Reads what waits.
    pub(crate) fn take(&mut self) {
        let mut lines = VecDeque::new();
        self.outbox.take(&mut lines, usize::MAX, usize::MAX);
        self.outbox.written(lines.iter().map(bytes::Bytes::len).sum());
        self.frames.extend(lines.iter().map(|line| ServerFrame::parse(line).unwrap()));
    }

    /// Reads, and catches up as a connection does, until what was told is enough.
    pub(crate) async fn until(&mut self, what: &str, enough: impl Fn(&[ServerFrame]) -> bool) {
        let waited = timeout(PATIENCE, async {
            loop {
                self.take();
                if enough(&self.frames) {
                    return;
                }
                self.go_on().await;
            }
        });
        if waited.await.is_err() {
            panic!("user {} never got {what}: {:#?}", self.user, self.frames);
        }
    }

    async fn go_on(&mut self) {
        if self.catching_up.is_none()
            && self.outbox.is_behind()
            && let Some(member) = &self.member
        {
            let (core, session) = (Arc::clone(&self.core), Arc::clone(member.session()));
            self.catching_up = Some(tokio::spawn(async move { flow::catch_up(&core, &session).await }));
        }
        let catching_up = async {
            match &mut self.catching_up {
                Some(catching_up) => catching_up.await.expect("catching up does not panic"),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.outbox.changed() => {}
            caught_up = catching_up => {
                self.catching_up = None;
                if caught_up.is_ok() && self.outbox.take_stale() {
                    self.outbox.event(self.core.health.picture());
                }
            }
        }
    }

    /// Reads until the message with this body has come, which it returns.
    pub(crate) async fn hears(&mut self, body: &str) -> Message {
        self.until(body, |frames| message(frames, body).is_some()).await;
        message(&self.frames, body).expect("just seen").clone()
    }

    /// Returns the seqs of the messages it got in a conversation, in order.
    pub(crate) fn seqs(&self, of: ConversationId) -> Vec<Seq> {
        let messages = self.frames.iter().filter_map(|frame| match frame {
            ServerFrame::Message(message) if message.conversation == of => Some(message.seq),
            _ => None,
        });
        messages.collect()
    }

    /// Returns whether it was told that all is well (0), or since when it is not, each time that it was.
    pub(crate) fn conditions(&self) -> Vec<Millis> {
        let conditions = self.frames.iter().filter_map(|frame| match frame {
            ServerFrame::Degraded { since } => Some(*since),
            ServerFrame::Restored {} => Some(0),
            _ => None,
        });
        conditions.collect()
    }

    /// Tells whether it was told so.
    pub(crate) fn was_told(&self, is: impl Fn(&ServerFrame) -> bool) -> bool {
        self.frames.iter().any(is)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(catching_up) = &self.catching_up {
            catching_up.abort();
        }
    }
}

fn message<'a>(frames: &'a [ServerFrame], body: &str) -> Option<&'a Message> {
    frames.iter().find_map(|frame| match frame {
        ServerFrame::Message(message) if message.body == body => Some(message),
        _ => None,
    })
}

fn answer<'a>(frames: &'a [ServerFrame], to: &str) -> Option<&'a ServerFrame> {
    frames.iter().find(|frame| match frame {
        ServerFrame::Sent { key, .. } => key.as_str() == to,
        ServerFrame::Error { key: Some(key), .. } => key.as_str() == to,
        _ => false,
    })
}
