use super::book::Book;
use crate::model::{ConversationId, Message, MessageKind, Role, UserId};
use crate::protocol::{ConversationView, ServerFrame};

/// Writes a frame for people to read; many frames say nothing to them.
pub(super) fn lines(frame: &ServerFrame, book: &Book) -> Vec<String> {
    match frame {
        ServerFrame::Message(message) => vec![show(message, book)],
        ServerFrame::History { messages, .. } => messages.iter().map(|message| show(message, book)).collect(),
        ServerFrame::Conversations { conversations, more, .. } => {
            let rest = if *more { ", and more" } else { "" };
            let shown = conversations.iter().map(|view| conversation(view, book));
            shown.chain([format!("* {}{rest}", count(conversations.len() as u64, "conversation"))]).collect()
        }
        ServerFrame::Group { conversation, name, description, members, .. } => {
            vec![format!("* {}", group(*conversation, name, description, *members))]
        }
        ServerFrame::Groups { groups, .. } if groups.is_empty() => vec!["* no group's name begins so".to_owned()],
        ServerFrame::Groups { groups, .. } => groups
            .iter()
            .map(|found| group(found.conversation, &found.name, &found.description, found.members))
            .collect(),
        ServerFrame::Members { members, more, .. } => {
            let shown = members.iter().map(|member| {
                let owner = if member.role == Role::Owner { ", owner" } else { "" };
                format!(
                    "{}{owner}, {}, has read up to {}",
                    who(&member.name, member.user),
                    online(member.online),
                    member.read
                )
            });
            shown
                .chain([format!(
                    "* {}{}",
                    count(members.len() as u64, "member"),
                    if *more { ", and more" } else { "" }
                )])
                .collect()
        }
        ServerFrame::Friends { friends, requests, .. } => {
            let asking = requests.iter().map(|request| {
                let name = printable(&request.name);
                format!("{} asks: /friend accept {name}, or /friend remove {name}", who(&request.name, request.user))
            });
            let friends_shown =
                friends.iter().map(|friend| format!("{}, {}", who(&friend.name, friend.user), online(friend.online)));
            friends_shown.chain(asking).chain([format!("* {}", count(friends.len() as u64, "friend"))]).collect()
        }
        other => event(other, book).into_iter().collect(),
    }
}

fn event(frame: &ServerFrame, book: &Book) -> Option<String> {
    Some(match frame {
        ServerFrame::Welcome { user, name, node, .. } => format!("* you are {} on {node}", who(name, *user)),
        ServerFrame::CaughtUp { .. } => match unread(book) {
            None => "* caught up".to_owned(),
            Some(unread) => format!("* caught up; unread: {unread}"),
        },
        ServerFrame::User { user, name, online: here, .. } => format!("* {} is {}", who(name, *user), online(*here)),
        ServerFrame::FriendRequest { user, name } => {
            let plain = printable(name);
            let who = who(name, *user);
            format!("* {who} wants to be your friend: /friend accept {plain}, or /friend remove {plain}")
        }
        ServerFrame::FriendAccepted { user, name } => format!("* {} is your friend now", who(name, *user)),
        ServerFrame::FriendRemoved { user } => format!("* {} is no friend of yours", book.who(*user)),
        ServerFrame::Presence { user, online: here } => format!("* {} is {} now", book.who(*user), online(*here)),
        ServerFrame::Degraded { .. } => "* the node has lost its bus; messages may take a second".to_owned(),
        ServerFrame::Restored {} => "* the node has its bus back".to_owned(),
        ServerFrame::Closing { close, .. } => format!("* the session ends: {}", close.reason),
        ServerFrame::Error { code, message, .. } => format!("! {code}: {}", printable(message)),
        _ => return None,
    })
}

/// Lists what is unread.
fn unread(book: &Book) -> Option<String> {
    let all = book.all_unread();
    let shown: Vec<_> = all.iter().map(|(id, unread)| format!("{} {unread}", book.place(*id))).collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

fn show(message: &Message, book: &Book) -> String {
    let Message { conversation, from, name, kind, body, at, .. } = message;
    let (time, who, body) = (clock(*at), who(name.as_str(), *from), printable(body));
    // Between two people the name of the other one says where.
    let place = if book.is_direct(*conversation) { format!("#{conversation}") } else { book.place(*conversation) };
    match kind {
        MessageKind::Text => format!("[{time}] {place} <{who}> {body}"),
        MessageKind::Join => format!("[{time}] {place} {who} has joined"),
        MessageKind::Leave => format!("[{time}] {place} {who} has left"),
    }
}

fn conversation(view: &ConversationView, book: &Book) -> String {
    let unread = match book.unread(view.conversation) {
        0 => String::new(),
        unread => format!(", {unread} unread"),
    };
    match view.peer {
        Some(peer) => format!("#{} {}{unread}", view.conversation, who(&view.name, peer)),
        None => format!("#{} {}, a group{unread}", view.conversation, printable(&view.name)),
    }
}

fn group(id: ConversationId, name: &str, description: &str, members: u64) -> String {
    let members = count(members, "member");
    let about = if description.is_empty() { String::new() } else { format!(": {}", printable(description)) };
    format!("#{id} {}, {members}{about}", printable(name))
}

fn who(name: &str, user: UserId) -> String {
    format!("{}({user})", printable(name))
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn online(online: bool) -> &'static str {
    if online { "online" } else { "offline" }
}

/// Writes hours and minutes, of UTC as the log counts.
fn clock(at: i64) -> String {
    let minutes = at.div_euclid(60_000);
    format!("{:02}:{:02}Z", minutes.div_euclid(60).rem_euclid(24), minutes.rem_euclid(60))
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

    fn shown(frames: &[&str]) -> Vec<String> {
        let mut book = Book::new(true);
        let mut shown = Vec::new();
        for frame in frames {
            let frame = ServerFrame::parse(frame.as_bytes()).unwrap();
            book.learn(&frame);
            shown.extend(lines(&frame, &book));
        }
        shown
    }

    #[test]
    fn a_text_cannot_drive_the_terminal() {
        let message = r#"{"type":"message","conversation":3,"seq":1,"from":8,"name":"Bob","key":"k","kind":"text",
            "body":"hi\n\u001b[2J","at":47220000}"#;
        assert_eq!(shown(&[message]), ["[13:07Z] #3 <Bob(8)> hi \u{fffd}[2J"]);
    }

    #[test]
    fn frames_are_shown_as_sentences() {
        for (frame, line) in [
            (r#"{"type":"user","user":8,"name":"bob","online":true}"#, "* bob(8) is online"),
            (
                r#"{"type":"friend_request","user":8,"name":"bob"}"#,
                "* bob(8) wants to be your friend: /friend accept bob, or /friend remove bob",
            ),
            (r#"{"type":"friend_accepted","user":8,"name":"bob"}"#, "* bob(8) is your friend now"),
            (r#"{"type":"friend_removed","user":8}"#, "* user 8 is no friend of yours"),
            (r#"{"type":"presence","user":8,"online":false}"#, "* user 8 is offline now"),
            (
                r#"{"type":"groups","groups":[{"conversation":5,"name":"tea","description":"at five","members":1}]}"#,
                "#5 tea, 1 member: at five",
            ),
            (r#"{"type":"groups","groups":[]}"#, "* no group's name begins so"),
            (r#"{"type":"error","code":"busy","message":"later"}"#, "! busy: later"),
        ] {
            assert_eq!(shown(&[frame]), [line], "{frame}");
        }
        for silent in [r#"{"type":"ok"}"#, r#"{"type":"pong"}"#, r#"{"type":"typing","conversation":3,"user":8}"#] {
            assert!(shown(&[silent]).is_empty(), "{silent}");
        }
    }

    #[test]
    fn a_list_counts_what_is_unread() {
        let list = r#"{"type":"conversations","more":true,"conversations":[
            {"conversation":3,"kind":"direct","name":"bob","peer":8,"head":4,"delivered":4,"read":1},
            {"conversation":5,"kind":"group","name":"tea","head":2,"delivered":2,"read":2}]}"#;
        assert_eq!(
            shown(&[list, r#"{"type":"caught_up","more":[]}"#]),
            ["#3 bob(8), 3 unread", "#5 tea, a group", "* 2 conversations, and more", "* caught up; unread: #3 bob 3"]
        );
    }

    #[test]
    fn members_and_friends_are_listed_with_what_can_be_done() {
        let members = r#"{"type":"members","conversation":5,"more":false,"members":[
            {"user":7,"name":"alice","role":"owner","online":true,"delivered":4,"read":4},
            {"user":8,"name":"bob","role":"member","online":false,"delivered":2,"read":1}]}"#;
        let friends = r#"{"type":"friends","friends":[{"user":8,"name":"bob","online":true}],
            "requests":[{"user":9,"name":"carol"}]}"#;
        assert_eq!(
            shown(&[members, friends]),
            [
                "alice(7), owner, online, has read up to 4",
                "bob(8), offline, has read up to 1",
                "* 2 members",
                "bob(8), online",
                "carol(9) asks: /friend accept carol, or /friend remove carol",
                "* 1 friend",
            ]
        );
    }
}
