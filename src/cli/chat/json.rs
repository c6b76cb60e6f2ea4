use serde_json::json;

use super::voice::Saying;
use crate::client::Event;
use crate::protocol::{RequestId, ServerFrame};

/// Writes what a program is told: frames as they stand on the wire, and `disconnected`, which is the client's own. The
/// `token` of a `welcome` is left empty, because the client keeps it.
pub(super) fn line(saying: Saying) -> Option<String> {
    let frame = match saying {
        Saying::Frame(frame) => frame,
        Saying::Note(_) => return None,
        Saying::Failed { problem, id, key } => {
            ServerFrame::Error { id, key, code: problem.code, message: problem.message, retry_ms: None }
        }
        Saying::Disconnected { why, retry_ms, .. } => {
            return Some(json!({"type": "disconnected", "reason": why.to_string(), "retry_ms": retry_ms}).to_string());
        }
    };
    let line = frame.to_line();
    Some(String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
}

/// Turns an event back into the frame that it was; `None`: it was none.
pub(super) fn frame(event: Event) -> Option<ServerFrame> {
    Some(match event {
        Event::Welcome(welcome) => ServerFrame::Welcome {
            id: None,
            user: welcome.user,
            name: welcome.name,
            session: welcome.session,
            node: welcome.node,
            token: String::new(),
            friends: welcome.friends,
            conversations: welcome.conversations,
        },
        Event::Message(message) => ServerFrame::Message(message),
        Event::CaughtUp => ServerFrame::CaughtUp { more: Vec::new() },
        Event::Conversation(view) => ServerFrame::Conversation(view),
        Event::Cursor { conversation, user, delivered, read } => {
            ServerFrame::Cursor { conversation, user, delivered, read }
        }
        Event::FriendRequest { user, name } => ServerFrame::FriendRequest { user, name },
        Event::FriendAccepted { user, name } => ServerFrame::FriendAccepted { user, name },
        Event::FriendRemoved { user } => ServerFrame::FriendRemoved { user },
        Event::Presence { user, online } => ServerFrame::Presence { user, online },
        Event::Typing { conversation, user } => ServerFrame::Typing { conversation, user },
        Event::Degraded { since } => ServerFrame::Degraded { since },
        Event::Restored => ServerFrame::Restored {},
        Event::Complaint { code, message } => ServerFrame::Error { id: None, key: None, code, message, retry_ms: None },
        Event::Disconnected { .. } | Event::Closed(_) => return None,
    })
}

/// Puts the asker's own id into a reply; the one it came with was between client and server.
pub(super) fn marked(mut frame: ServerFrame, asked: Option<RequestId>) -> ServerFrame {
    match &mut frame {
        ServerFrame::Registered { id, .. }
        | ServerFrame::Welcome { id, .. }
        | ServerFrame::Sent { id, .. }
        | ServerFrame::History { id, .. }
        | ServerFrame::Conversations { id, .. }
        | ServerFrame::Group { id, .. }
        | ServerFrame::Ok { id }
        | ServerFrame::Pong { id }
        | ServerFrame::Friends { id, .. }
        | ServerFrame::Groups { id, .. }
        | ServerFrame::Members { id, .. }
        | ServerFrame::User { id, .. }
        | ServerFrame::Closing { id, .. }
        | ServerFrame::Error { id, .. } => *id = asked,
        ServerFrame::CaughtUp { .. }
        | ServerFrame::Message(_)
        | ServerFrame::Cursor { .. }
        | ServerFrame::FriendRequest { .. }
        | ServerFrame::FriendAccepted { .. }
        | ServerFrame::FriendRemoved { .. }
        | ServerFrame::Presence { .. }
        | ServerFrame::Typing { .. }
        | ServerFrame::Conversation(_)
        | ServerFrame::Degraded { .. }
        | ServerFrame::Restored {} => {}
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_carries_the_id_of_the_one_who_asked() {
        let reply = ServerFrame::parse(br#"{"type":"user","id":4,"user":8,"name":"bob","online":true}"#).unwrap();
        let own = marked(reply.clone(), Some(RequestId::number(90)));
        assert_eq!(line(Saying::Frame(own)).unwrap(), r#"{"type":"user","id":90,"user":8,"name":"bob","online":true}"#);
        assert_eq!(
            line(Saying::Frame(marked(reply, None))).unwrap(),
            r#"{"type":"user","user":8,"name":"bob","online":true}"#
        );
    }
}
