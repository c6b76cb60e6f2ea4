use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::owner::{Command, Owner};
use super::sink::Sink;
use super::{ClientError, Events, Observer, Options, Sent};
use crate::model::{ConversationId, Key, Message, Seq, UserId};
use crate::protocol::{CloseReason, ConversationView, Password, RequestBody, SendTarget, ServerFrame};

/// How many requests wait in the handle's queue; whoever asks for more waits for room.
const COMMANDS: usize = 256;

/// A user's connection to the cluster, kept alive for as long as the handle or one of its clones lives.
///
/// One task owns the socket. It reconnects for ever, trying the servers in turn, resumes each conversation after the
/// last seq of its contiguous prefix, and repeats unacknowledged sends with the keys they had, in order. Its user
/// therefore sees every conversation ascending, each message once, and nothing missing but what it sent itself.
///
/// Queues: 256 requests before the task and up to 1024 (4 MiB) on their way, then callers wait; events as [`Events`]
/// says.
#[derive(Debug, Clone)]
pub struct ChatClient {
    commands: mpsc::Sender<Command>,
    close: CancellationToken,
}

/// A message on its way into the log; resolves when the server has acknowledged or refused it. Dropping it does not
/// call the message back.
#[derive(Debug)]
#[must_use = "without waiting for it nobody learns whether the message was stored"]
pub struct Sending {
    key: Key,
    answer: oneshot::Receiver<Result<Sent, ClientError>>,
}

/// A page of a conversation.
#[derive(Debug, Clone)]
pub struct HistoryPage {
    /// Ascending.
    pub messages: Vec<Message>,
    /// There is more in the direction that was asked for.
    pub more: bool,
}

/// A page of the list of conversations.
#[derive(Debug, Clone)]
pub struct ConversationsPage {
    /// Most recently changed first.
    pub conversations: Vec<ConversationView>,
    /// There are more.
    pub more: bool,
}

impl ChatClient {
    /// Connects and logs in; fails when no server can be reached or the login is refused. Later failures are events,
    /// not errors.
    pub async fn connect(options: Options) -> Result<(Self, Events), ClientError> {
        let (events, queue) = mpsc::channel(options.events.max(1));
        let client = Self::start(options, Sink::queue(events)).await?;
        Ok((client, Events { queue }))
    }

    /// Connects and logs in as [`ChatClient::connect`] does, and tells `observer` everything instead of queueing
    /// events.
    pub async fn observe(options: Options, observer: Box<dyn Observer>) -> Result<Self, ClientError> {
        Self::start(options, Sink::Direct(observer)).await
    }

    async fn start(options: Options, sink: Sink) -> Result<Self, ClientError> {
        let (commands, queue) = mpsc::channel(COMMANDS);
        let close = CancellationToken::new();
        let mut owner = Owner::new(options, sink, queue, close.clone());
        let connection = owner.first().await?;
        tokio::spawn(owner.run(connection));
        Ok(Self { commands, close })
    }

    /// Queues a message under a new key and returns what resolves when it is in the log. Messages are written in the
    /// order of these calls. One that the server is too busy for is repeated, and may then stand behind later ones that
    /// were under way already. Waits for room in the queue; cancelled while waiting, nothing was sent.
    pub async fn send(&self, target: SendTarget, body: impl Into<String>) -> Result<Sending, ClientError> {
        self.send_keyed(new_key(), target, body).await
    }

    /// Queues a message as [`ChatClient::send`] does, under a key of the caller's, which must be unique per user for
    /// ever.
    pub async fn send_keyed(
        &self,
        key: Key,
        target: SendTarget,
        body: impl Into<String>,
    ) -> Result<Sending, ClientError> {
        let (done, answer) = oneshot::channel();
        let command = Command::Send { key: key.clone(), target, body: body.into(), done };
        self.commands.send(command).await.map_err(|_| ClientError::Closed)?;
        Ok(Sending { key, answer })
    }

    /// Reads the newest messages of a conversation, or those below `before`; 50 unless `limit` says otherwise, at most
    /// 200.
    pub async fn history(
        &self,
        conversation: ConversationId,
        before: Option<Seq>,
        limit: Option<u64>,
    ) -> Result<HistoryPage, ClientError> {
        match self.ask(RequestBody::History { conversation, before, after: None, limit }).await? {
            ServerFrame::History { messages, more, .. } => Ok(HistoryPage { messages, more }),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads the list of conversations, or what comes after `before` in it.
    pub async fn conversations(
        &self,
        before: Option<ConversationId>,
        limit: Option<u64>,
    ) -> Result<ConversationsPage, ClientError> {
        match self.ask(RequestBody::Conversations { before, limit }).await? {
            ServerFrame::Conversations { conversations, more, .. } => Ok(ConversationsPage { conversations, more }),
            other => Err(unexpected(&other)),
        }
    }

    /// Says that the user has read everything up to `seq`. It is sent within [`Options::received_every`], again to a
    /// server that does not know it, and without an answer.
    pub async fn read(&self, conversation: ConversationId, seq: Seq) -> Result<(), ClientError> {
        self.tell(RequestBody::Read { conversation, seq }).await
    }

    /// Tells the other members that the user writes. Without a connection nobody learns of it.
    pub async fn typing(&self, conversation: ConversationId) -> Result<(), ClientError> {
        self.tell(RequestBody::Typing { conversation }).await
    }

    /// Changes the password and remembers it for later logins of this client. The user's other sessions are closed. It
    /// is not repeated when the connection breaks meanwhile ([`ClientError::OutcomeUnknown`]); the client then logs in
    /// with whichever of the two the server takes.
    pub async fn password(&self, old: Password, new: Password) -> Result<(), ClientError> {
        self.ask(RequestBody::Password { old, new }).await.map(drop)
    }

    /// Ends the session and the client; `everywhere` ends the user's other sessions too, and every token. Whatever
    /// still waits for an answer fails; wait for it first.
    pub async fn logout(&self, everywhere: bool) -> Result<(), ClientError> {
        let outcome = self.ask(RequestBody::Logout { everywhere }).await;
        self.close().await;
        match outcome {
            Err(ClientError::Ended(close)) if close.code == CloseReason::Logout.code() => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Closes the connection, after confirming what was received, and waits until it is done. The session's token stays
    /// good. Whatever still waits for an answer fails; wait for it first.
    pub async fn close(&self) {
        self.close.cancel();
        self.commands.closed().await;
    }

    /// Asks anything of the wire and returns the answer as it came, its `id` apart; `None` for what has no answer. The
    /// methods named after the requests say more about each. `login` and `register` are the client's own affair
    /// ([`ClientError::NotHere`]); `logout` ends the client.
    pub async fn request(&self, body: RequestBody) -> Result<Option<ServerFrame>, ClientError> {
        match body {
            RequestBody::Login(_) | RequestBody::Register { .. } => Err(ClientError::NotHere),
            RequestBody::Received { .. } | RequestBody::Read { .. } | RequestBody::Typing { .. } => {
                self.tell(body).await.map(|()| None)
            }
            RequestBody::Send { key, target, body } => {
                let Sent { conversation, seq, at } = self.send_keyed(key.clone(), target, body).await?.await?;
                Ok(Some(ServerFrame::Sent { id: None, key, conversation, seq, at }))
            }
            RequestBody::Logout { everywhere } => self.logout(everywhere).await.map(|()| None),
            body => self.ask(body).await.map(Some),
        }
    }

    pub(super) async fn ask(&self, body: RequestBody) -> Result<ServerFrame, ClientError> {
        // Whoever asks twice for one of these gets something else the second time.
        let once =
            matches!(body, RequestBody::GroupCreate { .. } | RequestBody::Password { .. } | RequestBody::Logout { .. });
        let (done, answer) = oneshot::channel();
        self.commands.send(Command::Request { body, once, done }).await.map_err(|_| ClientError::Closed)?;
        answer.await.unwrap_or(Err(ClientError::Closed))
    }

    async fn tell(&self, body: RequestBody) -> Result<(), ClientError> {
        self.commands.send(Command::Tell(body)).await.map_err(|_| ClientError::Closed)
    }
}

impl Sending {
    /// Returns the message's key.
    pub fn key(&self) -> &Key {
        &self.key
    }
}

impl Future for Sending {
    type Output = Result<Sent, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx).map(|outcome| outcome.unwrap_or(Err(ClientError::Closed)))
    }
}

/// Makes a target of a user.
pub fn to_user(to: UserId) -> SendTarget {
    SendTarget::User { to }
}

/// Makes a target of a conversation.
pub fn to_conversation(conversation: ConversationId) -> SendTarget {
    SendTarget::Conversation { conversation }
}

/// Makes a key that no other process makes: a random prefix per process, because a client that began to count anew
/// after a restart would be given the seqs of its old messages.
fn new_key() -> Key {
    static PREFIX: OnceLock<String> = OnceLock::new();
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let prefix = PREFIX.get_or_init(|| format!("{:016x}", rand::random::<u64>()));
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    Key::new(&format!("{prefix}-{number}")).expect("37 bytes at most")
}

pub(super) fn unexpected(frame: &ServerFrame) -> ClientError {
    let line = frame.to_line();
    let shown = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
    ClientError::Protocol(format!("an answer that does not fit: {shown}"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const CHILD: &str = "SWITCHBOARD_TEST_FIRST_KEY";

    /// The first key of a process: this test program again.
    fn first_key() -> String {
        let mut again = Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", "client::handle::tests::two_processes_make_different_keys", "--nocapture"]);
        let said = again.env(CHILD, "").output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let key = said.split_once("first key ").and_then(|(_, key)| key.split_whitespace().next());
        key.unwrap_or_else(|| panic!("no key in {said}")).to_owned()
    }

    #[test]
    fn two_processes_make_different_keys() {
        if std::env::var_os(CHILD).is_some() {
            println!("first key {}", new_key().as_str());
            return;
        }
        let keys = [first_key(), first_key()];
        assert!(keys.iter().all(|key| key.ends_with("-0")), "each begins to count anew: {keys:?}");
        assert_ne!(keys[0], keys[1]);
    }
}
