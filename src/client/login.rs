use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{ClientError, Connection, Disconnect, Options, Welcome};
use crate::model::{ConversationId, Seq};
use crate::protocol::{Close, ErrorCode, Login, Password, Request, RequestBody, RequestId, ServerFrame};

/// How long a server may take to answer a login. Hashing a password is slow on purpose, and a cluster that has just
/// come back has a queue.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What a login needs.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) options: Arc<Options>,
    /// From an earlier `welcome`.
    pub(crate) token: Option<Password>,
    /// Tried in turn, after the token.
    pub(crate) passwords: Vec<Password>,
    pub(crate) register: bool,
    pub(crate) since: BTreeMap<ConversationId, Seq>,
}

/// A session that has begun.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    pub(crate) connection: Connection,
    pub(crate) welcome: Welcome,
    pub(crate) token: Password,
    /// The password that proved right, if it was not the token.
    pub(crate) password: Option<Password>,
}

/// Why an attempt to log in failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Unreachable(io::Error),
    Broken(io::Error),
    Silent,
    Refused { code: ErrorCode, message: String, retry_ms: Option<u64> },
    Closing(Close),
}

impl Failure {
    /// Returns the error for which trying again makes no sense, or this failure.
    pub(crate) fn or_final(self) -> Result<Self, ClientError> {
        match self {
            Self::Refused { code, message, .. } if !code.is_retryable() && code != ErrorCode::Internal => {
                Err(ClientError::Refused { code, message })
            }
            Self::Closing(close) if !close.reconnect => Err(ClientError::Ended(close)),
            other => Ok(other),
        }
    }

    /// Returns how long the server wants the client to wait.
    pub(crate) fn wait(&self) -> Duration {
        Duration::from_millis(match self {
            Self::Refused { retry_ms, .. } => retry_ms.unwrap_or(0),
            Self::Closing(close) => close.after_ms,
            _ => 0,
        })
    }

    pub(crate) fn why(&self) -> Disconnect {
        match self {
            Self::Unreachable(_) => Disconnect::Unreachable,
            Self::Broken(e) if e.kind() == io::ErrorKind::InvalidData => Disconnect::Garbled,
            Self::Broken(_) => Disconnect::Broken,
            Self::Silent => Disconnect::Silent,
            Self::Refused { code, .. } => Disconnect::Refused(*code),
            Self::Closing(close) => Disconnect::Closing(close.reason.clone()),
        }
    }

    /// Returns the error for a client that never got a first session.
    pub(crate) fn into_error(self, servers: &[String]) -> ClientError {
        let unreachable = |source| ClientError::Unreachable { servers: servers.join(", "), source: Arc::new(source) };
        match self {
            Self::Broken(e) if e.kind() == io::ErrorKind::InvalidData => ClientError::Protocol(e.to_string()),
            Self::Unreachable(e) | Self::Broken(e) => unreachable(e),
            Self::Silent => unreachable(io::Error::new(io::ErrorKind::TimedOut, "no answer to the login")),
            Self::Refused { code, message, .. } => ClientError::Refused { code, message },
            Self::Closing(close) => ClientError::Ended(close),
        }
    }
}

/// Connects to one server and logs in, registering first if that is asked for.
pub(crate) async fn log_in(server: &str, credentials: Credentials) -> Result<LoggedIn, Failure> {
    let mut connection = Connection::connect(server).await.map_err(Failure::Unreachable)?;
    let Credentials { options, token, passwords, register, since } = credentials;
    if register {
        let body = RequestBody::Register { name: options.name.clone(), password: options.password.clone() };
        match ask(&mut connection, body).await? {
            ServerFrame::Error { code: ErrorCode::NameTaken, .. } => {}
            ServerFrame::Error { code, message, retry_ms, .. } => {
                return Err(Failure::Refused { code, message, retry_ms });
            }
            _ => {}
        }
    }
    let login = |token: Option<Password>, password: Option<Password>| {
        RequestBody::Login(Login {
            name: password.is_some().then(|| options.name.clone()),
            password,
            token,
            device: options.device.clone(),
            since: since.clone(),
        })
    };
    // Tokens expire; the password does not.
    let by_token = token.into_iter().map(|token| (Some(token), None));
    let mut attempts = by_token.chain(passwords.into_iter().map(|password| (None, Some(password))));
    let mut attempt = attempts.next();
    let (answer, password) = loop {
        let (token, password) = attempt.unwrap_or_default();
        let answer = ask(&mut connection, login(token, password.clone())).await?;
        attempt = attempts.next();
        let wrong = matches!(&answer, ServerFrame::Error { code, .. } if !code.is_retryable());
        if !wrong || attempt.is_none() {
            break (answer, password);
        }
    };
    match answer {
        ServerFrame::Welcome { user, name, session, node, token, friends, conversations, .. } => {
            let welcome = Welcome { user, name, session, node, friends, conversations };
            Ok(LoggedIn { connection, welcome, token: Password::new(token), password })
        }
        ServerFrame::Error { code, message, retry_ms, .. } => Err(Failure::Refused { code, message, retry_ms }),
        _ => Err(Failure::Broken(super::connection::garbled("a login was answered with something else"))),
    }
}

/// Sends a request and waits for the frame that answers it.
async fn ask(connection: &mut Connection, body: RequestBody) -> Result<ServerFrame, Failure> {
    let number = RequestId::number(0);
    let exchange = async {
        connection.send(&Request { id: Some(number.clone()), body }).await.map_err(Failure::Broken)?;
        loop {
            match connection.next().await.map_err(Failure::Broken)? {
                None => return Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into())),
                Some(ServerFrame::Closing { close, .. }) => return Err(Failure::Closing(close)),
                Some(
                    frame @ (ServerFrame::Registered { .. } | ServerFrame::Welcome { .. } | ServerFrame::Error { .. }),
                ) => {
                    return Ok(frame);
                }
                Some(_) => {}
            }
        }
    };
    timeout(ANSWER_WITHIN, exchange).await.unwrap_or(Err(Failure::Silent))
}
