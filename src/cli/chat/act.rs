//! What each command does.

use super::book::fold;
use super::command::{Command, HELP, conversation};
use super::problem::Problem;
use super::talk::Talker;
use super::text::printable;
use super::voice::Saying;
use crate::client::{to_conversation, to_user};
use crate::model::{ConversationId, UserId};
use crate::protocol::{GroupView, Password, RequestBody, SendTarget, ServerFrame};

type Done = Result<(), Problem>;

impl Talker {
    pub(super) async fn command(&mut self, command: Command) -> Done {
        match command {
            Command::Nothing => Ok(()),
            Command::Say(text) => {
                let target = self.voice.book().target();
                let unknown = "say first where it goes: /to TARGET, or /msg NAME-OR-ID TEXT";
                self.post(None, None, target.ok_or_else(|| Problem::usage(unknown))?, text).await
            }
            Command::Message { to, text } => {
                let to = self.user(&to).await?;
                self.post(None, None, to_user(to), text).await
            }
            Command::MessageGroup { group, text } => {
                let group = self.own_group(Some(&group))?;
                self.post(None, None, to_conversation(group), text).await
            }
            Command::Target(text) => {
                let target = self.target(&text).await?;
                self.aim(target).await;
                Ok(())
            }
            Command::List => self.shown(RequestBody::Conversations { before: None, limit: None }).await,
            Command::History { place, limit } => {
                let conversation = self.own_group(Some(&place))?;
                self.shown(RequestBody::History { conversation, before: None, after: None, limit }).await
            }
            Command::Password => Err(Problem::usage(
                "there is no terminal to ask for the passwords; with --json, send the request `password`",
            )),
            Command::Help => {
                self.voice.note(HELP).await;
                Ok(())
            }
            Command::Quit => {
                self.finish();
                Ok(())
            }
            Command::Logout { everywhere } => self.log_out(everywhere, None).await,
            Command::Find(name) => self.shown(RequestBody::FindUser { name }).await,
            Command::Who => self.who().await,
            command @ (Command::Friends
            | Command::FriendAdd(_)
            | Command::FriendAccept(_)
            | Command::FriendRemove(_)
            | Command::Block(_)
            | Command::Unblock(_)) => self.friendship(command).await,
            command => self.group(command).await,
        }
    }

    /// Changes the password.
    pub(super) async fn password(&self, old: Password, new: Password) -> Done {
        self.ask(RequestBody::Password { old, new }).await?;
        self.voice.note("* your password is changed; your other sessions are closed").await;
        Ok(())
    }

    async fn friendship(&self, command: Command) -> Done {
        let (body, note) = match command {
            Command::FriendAdd(text) => {
                let name = self.friend_name(&text)?;
                let note = format!("* {} is asked to be your friend, or is it now if they had asked", printable(&name));
                (RequestBody::FriendAdd { name }, note)
            }
            Command::FriendAccept(name) => {
                let user = self.user(&name).await?;
                (RequestBody::FriendAccept { user }, format!("* {} is your friend now", self.voice.book().who(user)))
            }
            Command::FriendRemove(name) => {
                let user = self.user(&name).await?;
                (RequestBody::FriendRemove { user }, format!("* {} is no friend of yours", self.voice.book().who(user)))
            }
            Command::Block(name) => {
                let user = self.user(&name).await?;
                let note = format!("* {} cannot write to you any more", self.voice.book().who(user));
                (RequestBody::Block { user }, note)
            }
            Command::Unblock(name) => {
                let user = self.user(&name).await?;
                (RequestBody::Unblock { user }, format!("* {} can write to you again", self.voice.book().who(user)))
            }
            _ => return self.shown(RequestBody::Friends {}).await,
        };
        self.ask(body).await?;
        self.voice.note(note).await;
        Ok(())
    }

    async fn group(&self, command: Command) -> Done {
        match command {
            Command::Create { name, description } => self.entered(RequestBody::GroupCreate { name, description }).await,
            Command::Join(text) => {
                let conversation = self.any_group(&text).await?;
                self.entered(RequestBody::GroupJoin { conversation }).await
            }
            Command::Leave(group) => {
                let conversation = self.own_group(group.as_deref())?;
                self.ask(RequestBody::GroupLeave { conversation }).await?;
                let place = self.voice.book().place(conversation);
                self.voice.book().leave(conversation);
                self.voice.note(format!("* you have left {place}")).await;
                Ok(())
            }
            Command::Members(group) => {
                let conversation = self.own_group(group.as_deref())?;
                self.shown(RequestBody::GroupMembers { conversation, after: None, limit: None }).await
            }
            Command::Kick { name, group } => {
                let conversation = self.own_group(group.as_deref())?;
                let user = self.user(&name).await?;
                self.ask(RequestBody::GroupRemove { conversation, user }).await?;
                let (who, place) = {
                    let book = self.voice.book();
                    (book.who(user), book.place(conversation))
                };
                self.voice.note(format!("* {who} is no member of {place} any more")).await;
                Ok(())
            }
            Command::Groups(name) => self.shown(RequestBody::GroupFind { name }).await,
            _ => Ok(()),
        }
    }

    async fn who(&self) -> Done {
        let me = self.voice.book().me();
        self.voice.note(me).await;
        self.shown(RequestBody::Friends {}).await
    }

    async fn shown(&self, body: RequestBody) -> Done {
        self.ask(body).await.map(drop)
    }

    async fn entered(&self, body: RequestBody) -> Done {
        if let ServerFrame::Group { conversation, .. } = self.ask(body).await? {
            self.aim(to_conversation(conversation)).await;
        }
        Ok(())
    }

    async fn aim(&self, target: SendTarget) {
        self.voice.book().aim(target);
        let label = self.voice.book().label();
        self.voice.note(format!("* plain lines go to {label} now")).await;
    }

    /// Finds a user by name or id; the server is asked for a name that this session has not heard of.
    async fn user(&self, text: &str) -> Result<UserId, Problem> {
        let known = self.voice.book().user(text);
        if let Some(user) = known {
            return Ok(user);
        }
        let name = text.strip_prefix('@').unwrap_or(text);
        let found = self.client.find_user(name).await?;
        let frame = ServerFrame::User { id: None, user: found.user, name: found.name, online: found.online };
        self.voice.book().learn(&frame);
        Ok(found.user)
    }

    /// Finds the name of somebody who may be named by id, because friends are asked by name.
    fn friend_name(&self, text: &str) -> Result<String, Problem> {
        let Some(user) = text.parse().ok().and_then(UserId::new) else {
            return Ok(text.strip_prefix('@').unwrap_or(text).to_owned());
        };
        let name = self.voice.book().name(user);
        name.ok_or_else(|| {
            Problem::not_found(format!(
                "nobody with the id {user} has been seen here; use their name: /friend add NAME"
            ))
        })
    }

    /// Finds what `/to` names: `#ID`, a user, or a group.
    async fn target(&self, text: &str) -> Result<SendTarget, Problem> {
        if text.starts_with('#') {
            let found = conversation(text);
            return found.map(to_conversation).ok_or_else(|| Problem::usage(format!("{text} is no id; use #ID")));
        }
        let (user, groups) = {
            let book = self.voice.book();
            (book.user(text), book.groups(text))
        };
        match (user, &*groups) {
            (Some(user), _) => Ok(to_user(user)),
            (None, []) => self.user(text).await.map(to_user),
            (None, &[group]) => Ok(to_conversation(group)),
            (None, several) => Err(ambiguous(text, several)),
        }
    }

    /// Finds a conversation of the user's by id or name; without either, the one that plain lines go to.
    fn own_group(&self, text: Option<&str>) -> Result<ConversationId, Problem> {
        let book = self.voice.book();
        let Some(text) = text else {
            return match book.target() {
                Some(SendTarget::Conversation { conversation }) => Ok(conversation),
                _ => Err(Problem::usage("say which group: by its id or name, or by /to GROUP before")),
            };
        };
        if let Some(conversation) = conversation(text) {
            return Ok(conversation);
        }
        match &*book.groups(text) {
            &[group] => Ok(group),
            [] => book.direct_with(text).ok_or_else(|| {
                Problem::not_found(format!("no conversation of yours is called {text}; /list shows them"))
            }),
            several => Err(ambiguous(text, several)),
        }
    }

    /// Finds any group, the user's or not, by id or name.
    async fn any_group(&self, text: &str) -> Result<ConversationId, Problem> {
        if let Some(conversation) = conversation(text) {
            return Ok(conversation);
        }
        let mut found = self.client.group_find(text).await?;
        let folded = fold(text);
        let called = |group: &GroupView| fold(&group.name) == folded;
        if found.iter().any(called) {
            found.retain(called);
        }
        match &*found {
            [group] => Ok(group.conversation),
            [] => Err(Problem::not_found(format!("no group's name begins with {text}; /create makes one"))),
            several => {
                let ids: Vec<_> = several.iter().map(|group| group.conversation).collect();
                self.voice.say(Saying::Frame(ServerFrame::Groups { id: None, groups: found })).await;
                Err(ambiguous(text, &ids))
            }
        }
    }
}

fn ambiguous(name: &str, ids: &[ConversationId]) -> Problem {
    let ids: Vec<_> = ids.iter().map(|id| format!("#{id}")).collect();
    Problem::usage(format!("several groups fit {name}: use the id, one of {}", ids.join(", ")))
}
