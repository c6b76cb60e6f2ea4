use std::collections::{BTreeMap, HashMap};

use super::text::printable;
use crate::client::to_conversation;
use crate::model::{ConversationId, ConversationKind, Message, Name, Seq, UserId};
use crate::protocol::{ConversationView, SendTarget, ServerFrame};

/// Whom and which conversations this session has heard of: people can be written to by name, and what is unread can be
/// counted.
#[derive(Debug, Default)]
pub(super) struct Book {
    me: Option<UserId>,
    /// By folded name.
    ids: HashMap<String, UserId>,
    names: HashMap<UserId, String>,
    conversations: BTreeMap<ConversationId, Known>,
    /// Where plain lines go.
    target: Option<SendTarget>,
    /// Conversations that were read further than the server has been told.
    to_tell: BTreeMap<ConversationId, Seq>,
    /// Whether what is printed counts as read.
    reads: bool,
}

#[derive(Debug, Clone)]
struct Known {
    kind: ConversationKind,
    name: String,
    peer: Option<UserId>,
    head: Seq,
    read: Seq,
}

impl Book {
    /// Makes an empty book. `reads`: somebody looks at the conversation that plain lines go to, so what comes there is
    /// read.
    pub(super) fn new(reads: bool) -> Self {
        Self { reads, ..Self::default() }
    }

    /// Notes what a frame tells about people and conversations.
    pub(super) fn learn(&mut self, frame: &ServerFrame) {
        match frame {
            ServerFrame::Welcome { user, name, friends, conversations, .. } => {
                self.me = Some(*user);
                self.meet(name, *user);
                friends.iter().for_each(|friend| self.meet(&friend.name, friend.user));
                conversations.iter().for_each(|view| self.conversation(view));
            }
            ServerFrame::Conversations { conversations, .. } => {
                conversations.iter().for_each(|view| self.conversation(view));
            }
            ServerFrame::Conversation(view) => self.conversation(view),
            ServerFrame::Message(message) => self.message(message),
            ServerFrame::History { conversation, messages, .. } => {
                messages.iter().for_each(|message| self.meet(message.name.as_str(), message.from));
                if let (true, Some(last)) = (self.reads, messages.last()) {
                    self.has_read(*conversation, last.seq);
                }
            }
            ServerFrame::Sent { conversation, seq, .. } => {
                let known = self.known(*conversation);
                known.head = known.head.max(*seq);
                known.read = known.read.max(*seq);
            }
            ServerFrame::Cursor { conversation, user, read, .. } if Some(*user) == self.me => {
                let known = self.known(*conversation);
                known.read = known.read.max(*read);
            }
            ServerFrame::Group { conversation, name, head, .. } => {
                let known = self.known(*conversation);
                (known.kind, known.name, known.head) = (ConversationKind::Group, name.clone(), known.head.max(*head));
                // What was said before somebody joined is not theirs to read.
                known.read = known.read.max(*head);
            }
            ServerFrame::Friends { friends, requests, .. } => {
                friends.iter().for_each(|friend| self.meet(&friend.name, friend.user));
                requests.iter().for_each(|request| self.meet(&request.name, request.user));
            }
            ServerFrame::Members { members, .. } => {
                members.iter().for_each(|member| self.meet(&member.name, member.user));
            }
            ServerFrame::User { user, name, .. }
            | ServerFrame::FriendRequest { user, name }
            | ServerFrame::FriendAccepted { user, name } => self.meet(name, *user),
            _ => {}
        }
    }

    /// Notes which conversation the messages to a user turned out to be.
    pub(super) fn direct(&mut self, conversation: ConversationId, peer: UserId) {
        let name = self.who(peer);
        let known = self.known(conversation);
        (known.kind, known.name, known.peer) = (ConversationKind::Direct, name, Some(peer));
    }

    /// Forgets a conversation that the user has left.
    pub(super) fn leave(&mut self, conversation: ConversationId) {
        self.conversations.remove(&conversation);
        self.to_tell.remove(&conversation);
        self.target = self.target.filter(|&target| target != to_conversation(conversation));
    }

    /// Takes what the server is to be told about what was read.
    pub(super) fn take_read(&mut self) -> BTreeMap<ConversationId, Seq> {
        std::mem::take(&mut self.to_tell)
    }

    /// Returns where plain lines go.
    pub(super) fn target(&self) -> Option<SendTarget> {
        self.target
    }

    /// Sends plain lines there from now on; what is in that conversation counts as read.
    pub(super) fn aim(&mut self, target: SendTarget) {
        self.target = Some(target);
        let aimed = self.conversation_of(target).and_then(|id| Some((id, self.conversations.get(&id)?.head)));
        if let (true, Some((conversation, head))) = (self.reads, aimed) {
            self.has_read(conversation, head);
        }
    }

    /// Finds a user by name, among those this session has heard of, or by id. `@` before it makes it a name whatever it
    /// looks like.
    pub(super) fn user(&self, text: &str) -> Option<UserId> {
        let name = text.strip_prefix('@').unwrap_or(text);
        let known = self.ids.get(&fold(name)).copied();
        known.or_else(|| if name == text { name.parse().ok().and_then(UserId::new) } else { None })
    }

    /// Finds the groups of the user's that have this name.
    pub(super) fn groups(&self, name: &str) -> Vec<ConversationId> {
        let folded = fold(name);
        let is_it = |known: &Known| known.kind == ConversationKind::Group && fold(&known.name) == folded;
        self.conversations.iter().filter(|(_, known)| is_it(known)).map(|(&id, _)| id).collect()
    }

    /// Returns a user's name, made harmless for a terminal.
    pub(super) fn name(&self, user: UserId) -> Option<String> {
        self.names.get(&user).map(|name| printable(name))
    }

    /// Says who the user is.
    pub(super) fn me(&self) -> String {
        self.me.map_or_else(String::new, |me| format!("* you are {}({me})", self.who(me)))
    }

    /// Finds the direct conversation with a user of this name.
    pub(super) fn direct_with(&self, name: &str) -> Option<ConversationId> {
        self.conversation_of(SendTarget::User { to: self.user(name)? })
    }

    /// Returns what to call a user.
    pub(super) fn who(&self, user: UserId) -> String {
        self.name(user).unwrap_or_else(|| format!("user {user}"))
    }

    /// Returns what to call a conversation: `#5 tea`.
    pub(super) fn place(&self, conversation: ConversationId) -> String {
        match self.conversations.get(&conversation) {
            Some(known) if !known.name.is_empty() => format!("#{conversation} {}", printable(&known.name)),
            _ => format!("#{conversation}"),
        }
    }

    /// Tells whether a conversation is between two people.
    pub(super) fn is_direct(&self, conversation: ConversationId) -> bool {
        self.conversations.get(&conversation).is_some_and(|known| known.kind == ConversationKind::Direct)
    }

    /// Returns what to call the place that plain lines go to, in a prompt.
    pub(super) fn label(&self) -> String {
        match self.target {
            None => String::new(),
            Some(SendTarget::User { to }) => self.who(to),
            Some(SendTarget::Conversation { conversation }) => match self.conversations.get(&conversation) {
                Some(known) if !known.name.is_empty() => printable(&known.name),
                _ => format!("#{conversation}"),
            },
        }
    }

    /// Returns how much of a conversation is unread.
    pub(super) fn unread(&self, conversation: ConversationId) -> u64 {
        self.conversations.get(&conversation).map_or(0, |known| known.head.saturating_sub(known.read))
    }

    /// Returns the conversations with anything unread, and how much.
    pub(super) fn all_unread(&self) -> Vec<(ConversationId, u64)> {
        self.conversations.keys().map(|&id| (id, self.unread(id))).filter(|(_, unread)| *unread > 0).collect()
    }

    fn meet(&mut self, name: &str, user: UserId) {
        self.ids.insert(fold(name), user);
        self.names.insert(user, name.to_owned());
    }

    fn conversation(&mut self, view: &ConversationView) {
        if let Some(peer) = view.peer {
            self.meet(&view.name, peer);
        }
        let known = self.known(view.conversation);
        (known.kind, known.name, known.peer) = (view.kind, view.name.clone(), view.peer);
        known.head = known.head.max(view.head);
        known.read = known.read.max(view.read);
    }

    fn message(&mut self, message: &Message) {
        self.meet(message.name.as_str(), message.from);
        let conversation = message.conversation;
        let own = Some(message.from) == self.me;
        let known = self.known(conversation);
        known.head = known.head.max(message.seq);
        if own {
            known.read = known.read.max(message.seq);
        } else if self.reads && self.target.and_then(|target| self.conversation_of(target)) == Some(conversation) {
            self.has_read(conversation, message.seq);
        }
    }

    fn has_read(&mut self, conversation: ConversationId, seq: Seq) {
        let known = self.known(conversation);
        if known.read < seq {
            known.read = seq;
            self.to_tell.insert(conversation, seq);
        }
    }

    fn conversation_of(&self, target: SendTarget) -> Option<ConversationId> {
        match target {
            SendTarget::Conversation { conversation } => Some(conversation),
            SendTarget::User { to } => {
                self.conversations.iter().find(|(_, known)| known.peer == Some(to)).map(|(&id, _)| id)
            }
        }
    }

    fn known(&mut self, conversation: ConversationId) -> &mut Known {
        self.conversations.entry(conversation).or_insert_with(|| Known {
            kind: ConversationKind::Group,
            name: String::new(),
            peer: None,
            head: 0,
            read: 0,
        })
    }
}

/// Makes names comparable.
pub(super) fn fold(name: &str) -> String {
    Name::new(name).map_or_else(|_| name.to_lowercase(), |name| name.fold())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Key, MessageKind};

    fn id(number: u64) -> ConversationId {
        ConversationId::new(number).unwrap()
    }

    fn user(number: u64) -> UserId {
        UserId::new(number).unwrap()
    }

    fn message(conversation: u64, seq: Seq, from: u64) -> ServerFrame {
        ServerFrame::Message(Message {
            conversation: id(conversation),
            seq,
            from: user(from),
            name: Name::new("Bob").unwrap(),
            key: Key::new("k").unwrap(),
            kind: MessageKind::Text,
            body: String::new(),
            at: 0,
        })
    }

    fn view(conversation: u64, peer: Option<u64>, name: &str, head: Seq, read: Seq) -> ServerFrame {
        ServerFrame::Conversation(ConversationView {
            conversation: id(conversation),
            kind: if peer.is_some() { ConversationKind::Direct } else { ConversationKind::Group },
            name: name.to_owned(),
            peer: peer.map(user),
            peer_delivered: None,
            peer_read: None,
            head,
            delivered: 0,
            read,
        })
    }

    #[test]
    fn who_has_written_can_be_found_by_name() {
        let mut book = Book::default();
        assert_eq!(book.user("bob"), None);
        book.learn(&message(3, 1, 8));
        for text in ["BOB", "@bob", "8"] {
            assert_eq!(book.user(text), Some(user(8)), "{text}");
        }
        assert_eq!(book.user("@8"), None, "nobody is called so");
    }

    #[test]
    fn a_message_that_was_counted_at_login_is_not_counted_again() {
        let mut book = Book::new(true);
        book.learn(&view(3, Some(8), "bob", 4, 2));
        book.learn(&message(3, 3, 8));
        book.learn(&message(3, 4, 8));
        assert_eq!(book.all_unread(), [(id(3), 2)]);
        book.learn(&message(3, 5, 8));
        assert_eq!(book.all_unread(), [(id(3), 3)]);
    }

    #[test]
    fn the_conversation_that_is_talked_to_is_read() {
        let mut book = Book::new(true);
        book.learn(&view(3, Some(8), "bob", 4, 2));
        book.learn(&view(5, None, "tea", 9, 9));
        book.aim(SendTarget::User { to: user(8) });
        assert_eq!(book.take_read(), BTreeMap::from([(id(3), 4)]));
        book.learn(&message(3, 5, 8));
        book.learn(&message(5, 10, 8));
        assert_eq!(book.take_read(), BTreeMap::from([(id(3), 5)]));
        assert_eq!((book.all_unread(), book.label()), (vec![(id(5), 1)], "Bob".to_owned()));
    }

    #[test]
    fn a_program_says_itself_what_it_has_read() {
        let mut book = Book::new(false);
        book.learn(&view(3, Some(8), "bob", 4, 2));
        book.aim(SendTarget::User { to: user(8) });
        book.learn(&message(3, 5, 8));
        assert!(book.take_read().is_empty());
    }

    #[test]
    fn groups_are_found_by_name_and_forgotten_when_left() {
        let mut book = Book::default();
        book.learn(&view(3, None, "Tea", 0, 0));
        book.learn(&view(4, None, "tea", 0, 0));
        book.learn(&view(6, Some(8), "tea", 0, 0));
        assert_eq!(book.groups("TEA"), [id(3), id(4)]);
        book.aim(to_conversation(id(3)));
        book.leave(id(3));
        assert_eq!((book.groups("tea"), book.target()), (vec![id(4)], None));
    }
}
