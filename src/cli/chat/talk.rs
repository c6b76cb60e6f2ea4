use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use super::command::Command;
use super::problem::Problem;
use super::voice::{Saying, Tongue, Voice};
use super::{json, listen};
use crate::client::{ChatClient, ClientError, Events, Sending, Sent};
use crate::model::Key;
use crate::protocol::{Close, CloseReason, Password, Request, RequestBody, RequestId, SendTarget, ServerFrame};

/// What the user has put in.
#[derive(Debug)]
pub(super) enum Input {
    /// A line.
    Line(String),
    /// The passwords that `/password` asked for.
    Password { old: Password, new: Password },
}

/// What came of a talk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Inputs that were refused or not understood.
    pub(super) failed: u64,
    /// Messages without an answer at the end.
    pub(super) unanswered: u64,
}

/// A message under way.
struct Posted {
    /// The program's own.
    id: Option<RequestId>,
    target: SendTarget,
    sending: Sending,
}

/// What became of a message.
struct Settled {
    id: Option<RequestId>,
    key: Key,
    target: SendTarget,
    outcome: Result<Sent, ClientError>,
}

impl Future for Posted {
    type Output = Settled;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Settled> {
        let outcome = ready!(Pin::new(&mut self.sending).poll(cx));
        let key = self.sending.key().clone();
        Poll::Ready(Settled { id: self.id.take(), key, target: self.target, outcome })
    }
}

/// Turns input into requests and events into output, until the input ends or says that it is over.
///
/// What was missed is shown before the first input is looked at. Inputs are done one after the other; messages do not
/// wait for each other, only the end waits for all of them.
pub(super) async fn talk(
    client: ChatClient,
    events: Events,
    mut input: mpsc::Receiver<Input>,
    voice: Voice,
    patience: Duration,
) -> Result<Outcome, ClientError> {
    let (caught_up, begun) = oneshot::channel();
    let read = Arc::new(Notify::new());
    let mut listener = tokio::spawn(listen::listen(events, voice.clone(), read.clone(), caught_up));
    let mut talker = Talker { client, voice, failed: 0, posted: FuturesUnordered::new(), over: false };
    // It fails only if the session ends before, and then the listener has the reason.
    begun.await.ok();
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut listener => break ended.ok(),
            Some(settled) = talker.posted.next() => talker.settled(settled).await,
            () = read.notified() => talker.tell_read().await,
            input = input.recv() => match input {
                None => break None,
                Some(input) => {
                    talker.take(input).await;
                    talker.voice.console().handled();
                    if talker.over {
                        break None;
                    }
                }
            },
        }
    };
    if let Some(error) = ended {
        return Err(error);
    }
    talker.voice.console().end();
    let rest = async {
        while let Some(settled) = talker.posted.next().await {
            talker.settled(settled).await;
        }
    };
    timeout(patience, rest).await.ok();
    talker.tell_read().await;
    let outcome = Outcome { failed: talker.failed, unanswered: talker.posted.len() as u64 };
    talker.client.close().await;
    match listener.await {
        Ok(error) if !listen::is_wanted(&error) => Err(error),
        _ => Ok(outcome),
    }
}

pub(super) struct Talker {
    pub(super) client: ChatClient,
    pub(super) voice: Voice,
    failed: u64,
    posted: FuturesUnordered<Posted>,
    /// The user is done.
    over: bool,
}

impl Talker {
    /// Does what an input says.
    async fn take(&mut self, input: Input) {
        let done = match input {
            Input::Line(line) if self.voice.tongue() == Tongue::Json && line.trim_start().starts_with('{') => {
                return self.object(line.trim()).await;
            }
            Input::Line(line) => match Command::parse(&line) {
                Ok(command) => self.command(command).await,
                Err(usage) => Err(Problem::usage(usage)),
            },
            Input::Password { old, new } => self.password(old, new).await,
        };
        if let Err(problem) = done {
            self.fail(problem, None, None).await;
        }
        self.tell_read().await;
        self.voice.refresh();
    }

    /// Does a request that is written as on the wire.
    async fn object(&mut self, line: &str) {
        let Request { id, body } = match Request::parse(line.as_bytes()) {
            Ok(request) => request,
            Err(mut malformed) => {
                let (id, key) = (malformed.id.take(), malformed.key.take());
                return self.fail(malformed.into(), id, key).await;
            }
        };
        let answer = match body {
            RequestBody::Send { key, target, body } => {
                match self.post(id.clone(), Some(key.clone()), target, body).await {
                    Ok(()) => return,
                    Err(problem) => return self.fail(problem, id, Some(key)).await,
                }
            }
            RequestBody::Logout { everywhere } => match self.log_out(everywhere, id.clone()).await {
                Ok(()) => return,
                Err(problem) => return self.fail(problem, id, None).await,
            },
            body => self.client.request(body).await,
        };
        match answer {
            Ok(Some(frame)) => self.voice.say(Saying::Frame(json::marked(frame, id))).await,
            Ok(None) => {}
            Err(error) => self.fail(error.into(), id, None).await,
        }
    }

    /// Asks for something and shows the answer.
    pub(super) async fn ask(&self, body: RequestBody) -> Result<ServerFrame, Problem> {
        let frame = self.client.request(body).await?.unwrap_or(ServerFrame::Ok { id: None });
        let frame = json::marked(frame, None);
        self.voice.say(Saying::Frame(frame.clone())).await;
        Ok(frame)
    }

    /// Ends the talk: no further input is taken.
    pub(super) fn finish(&mut self) {
        self.over = true;
        self.voice.console().end();
    }

    /// Ends the session.
    pub(super) async fn log_out(&mut self, everywhere: bool, id: Option<RequestId>) -> Result<(), Problem> {
        self.finish();
        self.client.logout(everywhere).await?;
        let close = Close::new(CloseReason::Logout, 0);
        self.voice.say(Saying::Frame(ServerFrame::Closing { id, close })).await;
        Ok(())
    }

    /// Sends a message without waiting for its acknowledgement.
    pub(super) async fn post(
        &self,
        id: Option<RequestId>,
        key: Option<Key>,
        target: SendTarget,
        text: String,
    ) -> Result<(), Problem> {
        let sending = match key {
            Some(key) => self.client.send_keyed(key, target, text).await?,
            None => self.client.send(target, text).await?,
        };
        self.posted.push(Posted { id, target, sending });
        Ok(())
    }

    async fn settled(&mut self, settled: Settled) {
        let Settled { id, key, target, outcome } = settled;
        match outcome {
            Ok(Sent { conversation, seq, at }) => {
                if let SendTarget::User { to } = target {
                    self.voice.book().direct(conversation, to);
                }
                self.voice.say(Saying::Frame(ServerFrame::Sent { id, key, conversation, seq, at })).await;
            }
            Err(error) => {
                let mut problem = Problem::from(error);
                if self.voice.tongue() == Tongue::Text {
                    problem.message = format!("a message was not sent: {}", problem.message);
                }
                self.fail(problem, id, Some(key)).await;
            }
        }
    }

    /// Tells the server what the user has looked at.
    async fn tell_read(&self) {
        let read = self.voice.book().take_read();
        for (conversation, seq) in read {
            // It fails only when the client has ended, which the listener tells.
            self.client.read(conversation, seq).await.ok();
        }
    }

    async fn fail(&mut self, problem: Problem, id: Option<RequestId>, key: Option<Key>) {
        self.failed += 1;
        self.voice.say(Saying::Failed { problem, id, key }).await;
    }
}
