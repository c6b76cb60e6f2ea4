use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::command::{Command, HELP};
use super::people::{People, printable};
use crate::client::{ChatClient, ClientError, Event, Events, GroupInfo, Sending, to_conversation, to_user};
use crate::model::ConversationKind;
use crate::protocol::{ConversationView, SendTarget};

/// What came of a talk.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Inputs that were refused or not understood.
    pub(super) failed: u64,
    /// Messages without an answer at the end.
    pub(super) unanswered: u64,
}

/// Turns lines of input into requests and events into lines of output, until the input ends or says `/quit`.
///
/// What was missed is shown before the first line of input is looked at. Commands are done one after the other; messages do not wait for
/// each other, only the end waits for all of them.
pub(super) async fn talk(
    client: ChatClient,
    events: Events,
    mut input: mpsc::Receiver<String>,
    output: mpsc::Sender<String>,
    patience: Duration,
) -> Result<Outcome, ClientError> {
    let people = Arc::new(Mutex::new(People::default()));
    let (caught_up, ready) = oneshot::channel();
    let mut listener = tokio::spawn(listen(events, people.clone(), output.clone(), caught_up));
    let mut talker = Talker { client, people, output, target: None, failed: 0, sendings: FuturesUnordered::new() };
    // It fails only if the session ends before, and then the listener has the reason.
    ready.await.ok();
    let over = loop {
        tokio::select! {
            biased;
            over = &mut listener => break over.ok(),
            Some(outcome) = talker.sendings.next() => talker.settled(outcome).await,
            line = input.recv() => match line {
                None => break None,
                Some(line) => if !talker.line(&line).await {
                    break None;
                },
            },
        }
    };
    if let Some(error) = over {
        return Err(error);
    }
    let rest = async {
        while let Some(outcome) = talker.sendings.next().await {
            talker.settled(outcome).await;
        }
    };
    timeout(patience, rest).await.ok();
    let outcome = Outcome { failed: talker.failed, unanswered: talker.sendings.len() as u64 };
    talker.client.close().await;
    listener.await.ok();
    Ok(outcome)
}

/// Prints events; returns why the client ended.
async fn listen(
    mut events: Events,
    people: Arc<Mutex<People>>,
    output: mpsc::Sender<String>,
    caught_up: oneshot::Sender<()>,
) -> ClientError {
    let mut caught_up = Some(caught_up);
    while let Some(event) = events.next().await {
        let line = match event {
            Event::Welcome(welcome) => {
                let mut people = lock(&people);
                people.meet(&welcome.name, welcome.user);
                welcome.conversations.iter().for_each(|view| people.conversation(view));
                welcome.friends.iter().for_each(|friend| people.meet(&friend.name, friend.user));
                Some(format!("* you are {} (user {}) on {}", welcome.name, welcome.user, welcome.node))
            }
            Event::Message(message) => Some(lock(&people).show(&message)),
            Event::Conversation(view) => {
                lock(&people).conversation(&view);
                None
            }
            Event::CaughtUp => {
                caught_up.take().map(|caught_up| caught_up.send(()));
                Some("* caught up".to_owned())
            }
            Event::Cursor { .. } | Event::Typing { .. } => None,
            Event::FriendRequest { user, name } => {
                lock(&people).meet(&name, user);
                Some(format!("* {name}({user}) wants to be a friend"))
            }
            Event::FriendAccepted { user, name } => {
                lock(&people).meet(&name, user);
                Some(format!("* {name}({user}) is a friend now"))
            }
            Event::FriendRemoved { user } => Some(format!("* user {user} is a friend no more")),
            Event::Presence { user, online } => {
                Some(format!("* user {user} has {}", if online { "come" } else { "gone" }))
            }
            Event::Degraded { .. } => Some("* the node has lost its bus; messages may take a second".to_owned()),
            Event::Restored => Some("* the node has its bus back".to_owned()),
            Event::Disconnected { why, retry_in } => {
                Some(format!("* {why}; trying again in {:.1} s", retry_in.as_secs_f64()))
            }
            Event::Complaint { code, message } => Some(format!("! {code}: {message}")),
            Event::Closed(error) => return error,
        };
        if let Some(line) = line {
            output.send(line).await.ok();
        }
    }
    ClientError::Closed
}

struct Talker {
    client: ChatClient,
    people: Arc<Mutex<People>>,
    output: mpsc::Sender<String>,
    /// Where plain lines go.
    target: Option<SendTarget>,
    failed: u64,
    sendings: FuturesUnordered<Sending>,
}

impl Talker {
    /// Does what a line says; `false`: the user quits.
    async fn line(&mut self, line: &str) -> bool {
        let done = match Command::parse(line) {
            Ok(Command::Quit) => return false,
            Ok(command) => self.command(command).await,
            Err(usage) => Err(usage),
        };
        if let Err(problem) = done {
            self.failed += 1;
            self.print(format!("! {problem}")).await;
        }
        true
    }

    async fn command(&mut self, command: Command) -> Result<(), String> {
        match command {
            Command::Nothing | Command::Quit => {}
            Command::Say(text) => {
                let target = self.target.ok_or("say first where it goes: /to TARGET, or /msg NAME-OR-ID TEXT")?;
                self.send(target, text).await?;
            }
            Command::Message { to, text } => {
                let to = lock(&self.people).user(&to)?;
                self.send(to_user(to), text).await?;
            }
            Command::Target(text) => {
                self.target = Some(lock(&self.people).target(&text)?);
                self.print(format!("* plain lines go to {text} now")).await;
            }
            Command::Create { name, description } => {
                let group = self.client.group_create(&name, description.as_deref()).await.map_err(told)?;
                self.entered(group).await;
            }
            Command::Join(conversation) => {
                let group = self.client.group_join(conversation).await.map_err(told)?;
                self.entered(group).await;
            }
            Command::Leave(conversation) => {
                self.client.group_leave(conversation).await.map_err(told)?;
                if self.target == Some(to_conversation(conversation)) {
                    self.target = None;
                }
                self.print(format!("* you have left #{conversation}")).await;
            }
            Command::List => {
                let page = self.client.conversations(None, None).await.map_err(told)?;
                for view in &page.conversations {
                    lock(&self.people).conversation(view);
                    self.print(shown(view)).await;
                }
                let rest = if page.more { ", and more" } else { "" };
                self.print(format!("* {} conversations{rest}", page.conversations.len())).await;
            }
            Command::History { conversation, limit } => {
                let page = self.client.history(conversation, None, limit).await.map_err(told)?;
                for message in &page.messages {
                    let line = lock(&self.people).show(message);
                    self.print(line).await;
                }
            }
            Command::Help => self.print(HELP.to_owned()).await,
        }
        Ok(())
    }

    async fn entered(&mut self, group: GroupInfo) {
        let GroupInfo { conversation, name, members, .. } = group;
        lock(&self.people).group(conversation, &name);
        self.target = Some(to_conversation(conversation));
        let name = printable(&name);
        let members = if members == 1 { "1 member".to_owned() } else { format!("{members} members") };
        self.print(format!("* #{conversation} {name}, {members}; plain lines go there now")).await;
    }

    async fn send(&mut self, target: SendTarget, text: String) -> Result<(), String> {
        let sending = self.client.send(target, text).await.map_err(told)?;
        self.sendings.push(sending);
        Ok(())
    }

    async fn settled(&mut self, outcome: <Sending as Future>::Output) {
        if let Err(error) = outcome {
            self.failed += 1;
            self.print(format!("! a message was not sent: {error}")).await;
        }
    }

    async fn print(&self, line: String) {
        // Output that nobody reads is no reason to stop sending.
        self.output.send(line).await.ok();
    }
}

fn lock(people: &Mutex<People>) -> MutexGuard<'_, People> {
    people.lock().unwrap_or_else(PoisonError::into_inner)
}

fn told(error: ClientError) -> String {
    error.to_string()
}

fn shown(view: &ConversationView) -> String {
    let ConversationView { conversation, kind, name, peer, head, read, .. } = view;
    let name = printable(name);
    let unread = head.saturating_sub(*read);
    match (kind, peer) {
        (ConversationKind::Direct, Some(peer)) => format!("#{conversation} {name}({peer}), {unread} unread"),
        _ => format!("#{conversation} {name}, {unread} unread"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::client::tests::peer::{Peer, Wire, entry};

    async fn group(wire: &mut Wire, request: &Value) {
        wire.say(json!({"type": "group", "id": request["id"], "conversation": 5, "name": "tea", "description": "",
            "head": 0, "members": 1}))
            .await;
    }

    /// Talks a script with a server that has one message for the user, and returns what was printed.
    async fn talked(lines: &[&str], server: impl AsyncFnOnce(Wire)) -> (Result<Outcome, ClientError>, Vec<String>) {
        let peer = Peer::start().await;
        let direct = json!([{"conversation": 3, "kind": "direct", "name": "bob", "peer": 8, "head": 1,
            "delivered": 0, "read": 0}]);
        let (connected, (mut wire, _)) = tokio::join!(ChatClient::connect(peer.options()), peer.welcome(direct));
        let (client, events) = connected.unwrap();
        let (input, script) = mpsc::channel(64);
        for line in lines {
            input.send((*line).to_owned()).await.unwrap();
        }
        drop(input);
        let (output, mut printed) = mpsc::channel(64);
        let serve = async {
            wire.message(3, 1, 8, "k-1").await;
            wire.caught_up(json!([])).await;
            server(wire).await;
        };
        let read = async {
            let mut lines = Vec::new();
            while let Some(line) = printed.recv().await {
                lines.push(line);
            }
            lines
        };
        let patience = Duration::from_secs(30);
        let (outcome, (), lines) = tokio::join!(talk(client, events, script, output, patience), serve, read);
        (outcome, lines)
    }

    #[tokio::test]
    async fn a_script_is_done_in_order_and_waits_for_every_message() {
        let script = ["to whom?", "/msg Bob hi", "/msg carol hi", "/create tea", "hello"];
        let (outcome, lines) = talked(&script, async |mut wire| {
            let direct = wire.hear("send").await;
            assert_eq!((&direct["to"], &direct["body"]), (&json!(8), &json!("hi")));
            let create = wire.hear("group_create").await;
            group(&mut wire, &create).await;
            let hello = wire.hear("send").await;
            assert_eq!((&hello["conversation"], &hello["body"]), (&json!(5), &json!("hello")));
            wire.sent(&hello, 5, 1).await;
            wire.sent(&direct, 3, 2).await;
            while wire.next().await.is_some() {}
        })
        .await;
        assert_eq!(outcome.unwrap(), Outcome { failed: 2, unanswered: 0 });
        assert_eq!(
            lines,
            [
                "* you are alice (user 7) on node-a",
                "[00:00] #3 <bob(8)> text 1",
                "* caught up",
                "! say first where it goes: /to TARGET, or /msg NAME-OR-ID TEXT",
                "! nobody called carol has been seen here yet; use their id, which they see when they log in",
                "* #5 tea, 1 member; plain lines go there now",
            ]
        );
    }

    #[tokio::test]
    async fn history_is_shown_and_a_refused_message_counts() {
        let (outcome, lines) = talked(&["/history #3 2", "/to #9", "hello", "/quit", "never"], async |mut wire| {
            let ask = wire.hear("history").await;
            assert_eq!((&ask["conversation"], &ask["limit"]), (&json!(3), &json!(2)));
            let messages = [entry(3, 1, 8, "k-1")];
            wire.say(json!({"type": "history", "id": ask["id"], "conversation": 3, "messages": messages,
                "more": false}))
                .await;
            let send = wire.hear("send").await;
            wire.say(json!({"type": "error", "id": send["id"], "code": "not_member", "message": "not yours"})).await;
            while wire.next().await.is_some() {}
        })
        .await;
        assert_eq!(outcome.unwrap(), Outcome { failed: 1, unanswered: 0 });
        assert_eq!(
            lines[3..],
            [
                "[00:00] #3 <bob(8)> text 1",
                "* plain lines go to #9 now",
                "! a message was not sent: not_member: not yours",
            ]
        );
    }

    #[tokio::test]
    async fn a_session_that_is_revoked_ends_the_talk() {
        let (outcome, _) = talked(&["/join 5"], async |mut wire| {
            wire.hear("group_join").await;
            wire.say(json!({"type": "closing", "code": 4101, "reason": "revoked", "reconnect": false, "after_ms": 0}))
                .await;
        })
        .await;
        assert!(matches!(outcome, Err(ClientError::Ended(close)) if close.reason == "revoked"));
    }
}
