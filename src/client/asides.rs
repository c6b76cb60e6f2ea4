use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ConversationId, Seq};
use crate::protocol::{ConversationView, Request, RequestBody};

/// How many bytes of notices may wait for the socket; newer ones are dropped.
const MAX_NOTICES: usize = 16 * 1024;

/// What the user says without waiting for an answer.
///
/// How far conversations are read outlives connections: it is cumulative, said at most as often as `received`, and said
/// again to a server that knows less. Anything else is said now or never.
#[derive(Debug, Default)]
pub(crate) struct Asides {
    read: BTreeMap<ConversationId, Seq>,
    unsaid: BTreeSet<ConversationId>,
    notices: Vec<u8>,
}

impl Asides {
    /// Notes that everything up to `seq` has been read.
    pub(crate) fn read(&mut self, conversation: ConversationId, seq: Seq) {
        let known = self.read.entry(conversation).or_insert(0);
        if *known < seq {
            *known = seq;
            self.unsaid.insert(conversation);
        }
    }

    /// Forgets a conversation that the user has left.
    pub(crate) fn leave(&mut self, conversation: ConversationId) {
        self.read.remove(&conversation);
        self.unsaid.remove(&conversation);
    }

    /// Tells whether there is anything new to say about what was read.
    pub(crate) fn has_unsaid(&self) -> bool {
        !self.unsaid.is_empty()
    }

    /// Writes `read` for every conversation that got on.
    pub(crate) fn say_read(&mut self, out: &mut Vec<u8>) {
        for conversation in std::mem::take(&mut self.unsaid) {
            if let Some(&seq) = self.read.get(&conversation) {
                out.extend_from_slice(&Request { id: None, body: RequestBody::Read { conversation, seq } }.to_line());
            }
        }
    }

    /// Queues a notice that is worth nothing later.
    pub(crate) fn notice(&mut self, line: &[u8]) {
        if self.notices.len() + line.len() <= MAX_NOTICES {
            self.notices.extend_from_slice(line);
        }
    }

    /// Writes the notices; `true`: something was written.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>) -> bool {
        let any = !self.notices.is_empty();
        out.append(&mut self.notices);
        any
    }

    /// Begins anew with a server that knows this much.
    pub(crate) fn welcome(&mut self, views: &[ConversationView]) {
        let known: BTreeMap<_, _> = views.iter().map(|view| (view.conversation, view.read)).collect();
        let behind = self.read.iter().filter(|(conversation, seq)| known.get(conversation).is_none_or(|k| k < seq));
        self.unsaid = behind.map(|(&conversation, _)| conversation).collect();
    }

    /// Forgets what only the last connection could have said.
    pub(crate) fn disconnected(&mut self) {
        self.notices.clear();
    }
}
