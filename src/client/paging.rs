use std::collections::VecDeque;

use bytes::Bytes;

use crate::model::{ConversationId, Seq};
use crate::protocol::MemberMore;

/// How many live frames of the conversation being paged are kept; when there are more, all are dropped and paging goes
/// further instead.
const MAX_PARKED: usize = 512;

/// How many bytes of such frames are kept.
const MAX_PARKED_BYTES: usize = 1024 * 1024;

/// The conversations of which a login sent only the oldest part: the rest is fetched page by page, one conversation
/// after the other, and nothing live of them is handed out before that.
#[derive(Debug, Default)]
pub(crate) struct Paging {
    gaps: VecDeque<MemberMore>,
    /// Live frames of the first gap's conversation, above its `until`.
    parked: VecDeque<Bytes>,
    parked_bytes: usize,
    /// The number of the request for the page.
    asked: Option<u64>,
}

impl Paging {
    /// Begins anew, with what a login named.
    pub(crate) fn begin(&mut self, gaps: Vec<MemberMore>) {
        *self = Self { gaps: gaps.into(), ..Self::default() };
    }

    /// Returns the gap whose next page is to be asked for.
    pub(crate) fn current(&self) -> Option<MemberMore> {
        self.gaps.front().copied()
    }

    /// Notes the request for the page.
    pub(crate) fn asked(&mut self, number: u64) {
        self.asked = Some(number);
    }

    /// Takes the number of the request that has been answered.
    pub(crate) fn take_asked(&mut self) -> Option<u64> {
        self.asked.take()
    }

    /// Tells whether this is the answer to the request for the page.
    pub(crate) fn is_asked(&self, number: u64) -> bool {
        self.asked == Some(number)
    }

    /// Keeps a live frame back if its conversation is not paged to its end; `false`: hand it out.
    ///
    /// Frames of conversations whose turn has not come are dropped, as are all when too many wait: the pages then go as
    /// far as the dropped ones did.
    pub(crate) fn hold(&mut self, conversation: ConversationId, seq: Seq, line: &Bytes) -> bool {
        let Some(place) = self.gaps.iter().position(|gap| gap.conversation == conversation) else { return false };
        let gap = &mut self.gaps[place];
        if place > 0 {
            gap.until = gap.until.max(seq);
        } else if self.parked.len() < MAX_PARKED && self.parked_bytes + line.len() <= MAX_PARKED_BYTES {
            self.parked_bytes += line.len();
            self.parked.push_back(line.clone());
        } else {
            self.parked.clear();
            self.parked_bytes = 0;
            gap.until = gap.until.max(seq);
        }
        true
    }

    /// Notes that a page reached `last` (`None`: it was empty); `true`: another page is needed.
    ///
    /// The page's own `more` does not count: frames that were dropped after the server read the page may have extended
    /// the gap.
    pub(crate) fn reached(&mut self, last: Option<Seq>) -> bool {
        let Some(gap) = self.gaps.front_mut() else { return false };
        match last {
            Some(last) if last < gap.until => {
                gap.next = last + 1;
                true
            }
            _ => false,
        }
    }

    /// Ends the first gap and returns the frames that were held back.
    pub(crate) fn finish(&mut self) -> VecDeque<Bytes> {
        self.gaps.pop_front();
        self.asked = None;
        self.parked_bytes = 0;
        std::mem::take(&mut self.parked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(number: u64) -> ConversationId {
        ConversationId::new(number).unwrap()
    }

    fn gap(number: u64, next: Seq, until: Seq) -> MemberMore {
        MemberMore { conversation: conversation(number), next, until }
    }

    #[test]
    fn only_conversations_that_are_paged_are_held_back() {
        let mut paging = Paging::default();
        let line = Bytes::from_static(b"x");
        paging.begin(vec![gap(1, 5, 9), gap(2, 1, 3)]);
        assert!(!paging.hold(conversation(3), 7, &line));
        assert!(paging.hold(conversation(1), 10, &line));
        assert!(paging.hold(conversation(2), 4, &line));
        assert!(paging.reached(Some(7)));
        assert_eq!(paging.current(), Some(gap(1, 8, 9)));
        assert!(!paging.reached(Some(9)));
        assert_eq!(paging.finish().len(), 1);
        assert_eq!(paging.current(), Some(gap(2, 1, 4)), "a dropped frame extends the pages");
        assert!(!paging.hold(conversation(1), 11, &line));
    }

    #[test]
    fn too_many_held_frames_become_pages() {
        let mut paging = Paging::default();
        paging.begin(vec![gap(1, 1, 1)]);
        let line = Bytes::from_static(b"x");
        for seq in 2..=(MAX_PARKED as u64 + 2) {
            assert!(paging.hold(conversation(1), seq, &line));
        }
        assert_eq!(paging.current(), Some(gap(1, 1, MAX_PARKED as u64 + 2)));
        assert!(paging.hold(conversation(1), MAX_PARKED as u64 + 3, &line));
        assert_eq!(paging.finish().len(), 1);
    }
}
