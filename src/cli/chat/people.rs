use std::collections::HashMap;

use super::command::conversation;
use crate::model::{ConversationId, ConversationKind, Message, MessageKind, Name, UserId};
use crate::protocol::{ConversationView, SendTarget};

/// Whom and which conversations this session has heard of, so that people can be written to by name.
#[derive(Debug, Default)]
pub(super) struct People {
    /// By folded name.
    users: HashMap<String, UserId>,
    conversations: HashMap<ConversationId, (ConversationKind, String)>,
}

impl People {
    pub(super) fn meet(&mut self, name: &str, user: UserId) {
        self.users.insert(fold(name), user);
    }

    pub(super) fn conversation(&mut self, view: &ConversationView) {
        self.conversations.insert(view.conversation, (view.kind, view.name.clone()));
        if let Some(peer) = view.peer {
            self.meet(&view.name, peer);
        }
    }

    pub(super) fn group(&mut self, group: ConversationId, name: &str) {
        self.conversations.insert(group, (ConversationKind::Group, name.to_owned()));
    }

    /// Finds a user by name or id.
    pub(super) fn user(&self, text: &str) -> Result<UserId, String> {
        let text = text.strip_prefix('@').unwrap_or(text);
        let known = self.users.get(&fold(text)).copied();
        known.or_else(|| text.parse().ok().and_then(UserId::new)).ok_or_else(|| {
            format!("nobody called {text} has been seen here yet; use their id, which they see when they log in")
        })
    }

    /// Finds what `/to` names: `#ID`, a user, or a group.
    pub(super) fn target(&self, text: &str) -> Result<SendTarget, String> {
        if text.starts_with('#') {
            let conversation = conversation(text).ok_or_else(|| format!("{text} is no conversation; use #ID"))?;
            return Ok(SendTarget::Conversation { conversation });
        }
        match self.user(text) {
            Ok(to) => Ok(SendTarget::User { to }),
            Err(unknown) => {
                let folded = fold(text);
                let mut groups = self
                    .conversations
                    .iter()
                    .filter(|(_, (kind, name))| *kind == ConversationKind::Group && fold(name) == folded);
                match (groups.next(), groups.next()) {
                    (Some((&conversation, _)), None) => Ok(SendTarget::Conversation { conversation }),
                    (Some(_), Some(_)) => Err(format!("several groups are called {text}; use #ID, /list shows it")),
                    (None, _) => Err(unknown),
                }
            }
        }
    }

    /// Writes a message for people to read.
    pub(super) fn show(&mut self, message: &Message) -> String {
        self.meet(message.name.as_str(), message.from);
        let Message { conversation, from, name, kind, body, at, .. } = message;
        let place = match self.conversations.get(conversation) {
            Some((ConversationKind::Group, group)) => format!("#{conversation} {group}"),
            _ => format!("#{conversation}"),
        };
        let time = clock(*at);
        let body = printable(body);
        match kind {
            MessageKind::Text => format!("[{time}] {place} <{name}({from})> {body}"),
            MessageKind::Join => format!("[{time}] {place} {name}({from}) has joined"),
            MessageKind::Leave => format!("[{time}] {place} {name}({from}) has left"),
        }
    }
}

fn fold(name: &str) -> String {
    Name::new(name).map_or_else(|_| name.to_lowercase(), |name| name.fold())
}

/// Writes hours and minutes, of UTC as the log counts.
fn clock(at: i64) -> String {
    let minutes = at.div_euclid(60_000);
    format!("{:02}:{:02}", minutes.div_euclid(60).rem_euclid(24), minutes.rem_euclid(60))
}

/// Makes control characters harmless: another user's text must not drive this terminal.
pub(super) fn printable(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Key;

    fn message(body: &str) -> Message {
        Message {
            conversation: ConversationId::new(3).unwrap(),
            seq: 1,
            from: UserId::new(8).unwrap(),
            name: Name::new("Bob").unwrap(),
            key: Key::new("k").unwrap(),
            kind: MessageKind::Text,
            body: body.to_owned(),
            at: (13 * 60 + 7) * 60_000,
        }
    }

    #[test]
    fn who_has_written_can_be_answered_by_name() {
        let mut people = People::default();
        assert!(people.user("bob").is_err());
        assert_eq!(people.show(&message("hi\n\u{1b}[2J")), "[13:07] #3 <Bob(8)> hi \u{fffd}[2J");
        let bob = UserId::new(8).unwrap();
        assert_eq!((people.user("BOB"), people.user("@bob"), people.user("8")), (Ok(bob), Ok(bob), Ok(bob)));
        assert_eq!(people.target("bob"), Ok(SendTarget::User { to: bob }));
    }

    #[test]
    fn a_group_is_found_by_name_when_only_one_has_it() {
        let mut people = People::default();
        let id = |number| ConversationId::new(number).unwrap();
        people.group(id(3), "Tea");
        assert_eq!(people.target("tea"), Ok(SendTarget::Conversation { conversation: id(3) }));
        assert_eq!(people.target("#4"), Ok(SendTarget::Conversation { conversation: id(4) }));
        people.group(id(4), "tea");
        assert!(people.target("tea").unwrap_err().contains("several groups"));
        assert!(people.target("#tea").is_err());
    }
}
