//! What a session is told of a conversation that is new to it, before its first message. Until then it keeps up with
//! what the session is told otherwise, so that it does not go back behind that.

use bytes::Bytes;

use crate::model::{Seq, UserId};
use crate::protocol::{ConversationView, ServerFrame};

/// Takes in what a frame of the conversation says of how far its members are.
pub(super) fn keep_up(news: &mut ConversationView, own: UserId, frame: &Bytes) {
    match ServerFrame::parse(frame) {
        Ok(ServerFrame::Cursor { user, delivered, read, .. }) => moved(news, own, user, (delivered, read)),
        Ok(ServerFrame::Message(message)) => wrote(news, own, message.from, message.seq),
        _ => {}
    }
}

/// Takes in a message: whoever has written it has read up to it.
pub(super) fn wrote(news: &mut ConversationView, own: UserId, from: UserId, seq: Seq) {
    news.head = news.head.max(seq);
    moved(news, own, from, (0, seq));
}

fn moved(news: &mut ConversationView, own: UserId, user: UserId, (delivered, read): (Seq, Seq)) {
    let raise = |cursor: &mut Seq, to: Seq| *cursor = to.max(*cursor);
    if user == own {
        raise(&mut news.delivered, delivered);
        raise(&mut news.read, read);
    } else if news.peer == Some(user) {
        news.peer_delivered.iter_mut().for_each(|cursor| raise(cursor, delivered));
        news.peer_read.iter_mut().for_each(|cursor| raise(cursor, read));
    }
}
