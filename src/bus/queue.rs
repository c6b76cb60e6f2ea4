//! The queue between a backend's receive path and one subscriber.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::subscription::BusEvent;

/// How many messages wait for one subscriber before further ones are dropped.
pub(super) const QUEUE_MESSAGES: usize = 4096;

/// A bounded queue that is filled without waiting. When it is full, messages are dropped and counted, and the
/// subscriber finds `Lost` behind the messages that fitted; everything is dropped until it has read that far, then
/// `Resumed` follows.
///
/// `Lost` and `Resumed` take no place of a message. They alternate, and two pairs never stand side by side, so there
/// are at most twice as many of them as messages.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    filled: Notify,
    shared: AtomicBool,
    abandoned: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    events: VecDeque<BusEvent>,
    messages: usize,
    /// Whether everything published arrives, as far as the connection is concerned.
    link_up: bool,
    /// Whether messages are being dropped until the subscriber has emptied the queue.
    overflowed: bool,
    /// Whether the last of `Lost` and `Resumed` was `Lost`.
    lost: bool,
    closed: bool,
    dropped: u64,
}

impl Queue {
    /// Makes a queue. Without a link its first event is `Lost`.
    pub(super) fn new(link_up: bool) -> Self {
        let events = if link_up { VecDeque::new() } else { VecDeque::from([BusEvent::Lost]) };
        Self {
            inner: Mutex::new(Inner {
                events,
                messages: 0,
                link_up,
                overflowed: false,
                lost: !link_up,
                closed: false,
                dropped: 0,
            }),
            filled: Notify::new(),
            shared: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        }
    }

    /// Notes that more than one subject fills it.
    pub(super) fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    /// Notes that nobody reads it any more. Tells whether more than one subject fills it.
    pub(super) fn abandon(&self) -> bool {
        self.abandoned.store(true, Ordering::Relaxed);
        self.shared.load(Ordering::Relaxed)
    }

    /// Tells whether nobody reads it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Adds a message, or drops and counts it. Tells whether this drop began an overflow. Never blocks for longer than
    /// another call here.
    pub(super) fn push(&self, payload: Bytes) -> bool {
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        if inner.overflowed {
            inner.dropped += 1;
            return false;
        }
        if inner.messages == QUEUE_MESSAGES {
            inner.overflowed = true;
            inner.dropped += 1;
            if !inner.lost {
                inner.lost = true;
                inner.events.push_back(BusEvent::Lost);
            }
            return true;
        }
        inner.messages += 1;
        self.append(inner, BusEvent::Message(payload));
        false
    }

    /// Notes that the connection is lost.
    pub(super) fn link_lost(&self) {
        let mut inner = self.lock();
        inner.link_up = false;
        if inner.lost || inner.closed {
            return;
        }
        inner.lost = true;
        if inner.events.back() == Some(&BusEvent::Resumed) {
            // The subscriber has not read it yet and it is no longer true.
            inner.events.pop_back();
        } else {
            self.append(inner, BusEvent::Lost);
        }
    }

    /// Notes that every subscription is effective again.
    pub(super) fn link_resumed(&self) {
        let mut inner = self.lock();
        inner.link_up = true;
        if inner.lost && !inner.overflowed && !inner.closed {
            inner.lost = false;
            self.append(inner, BusEvent::Resumed);
        }
    }

    /// Ends the queue: what is in it can still be read.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Returns how many messages were dropped because the queue was full.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Waits for the next event; `None` after [`close`](Self::close). One reader at a time. Cancel-safe.
    pub(super) async fn next(&self) -> Option<BusEvent> {
        loop {
            // A reader that is always behind must still let the other tasks of its thread run.
            tokio::task::coop::consume_budget().await;
            {
                let mut inner = self.lock();
                if let Some(event) = inner.pop() {
                    return Some(event);
                }
                if inner.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Only the event that ends emptiness wakes the reader, for it waits only when it has found the queue empty.
    fn append(&self, mut inner: MutexGuard<'_, Inner>, event: BusEvent) {
        let was_empty = inner.events.is_empty();
        inner.events.push_back(event);
        drop(inner);
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn pop(&mut self) -> Option<BusEvent> {
        let event = self.events.pop_front()?;
        if matches!(event, BusEvent::Message(_)) {
            self.messages -= 1;
        }
        if self.overflowed && self.events.is_empty() {
            self.overflowed = false;
            if self.link_up && !self.closed {
                self.lost = false;
                self.events.push_back(BusEvent::Resumed);
            }
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn payload(n: usize) -> Bytes {
        Bytes::from(n.to_string())
    }

    fn read_all(queue: &Queue) -> Vec<BusEvent> {
        std::iter::from_fn(|| queue.next().now_or_never().flatten()).collect()
    }

    #[test]
    fn overflow_surfaces_as_lost_behind_what_fitted_and_resumed_once_it_is_read() {
        let queue = Queue::new(true);
        for n in 0..QUEUE_MESSAGES + 10 {
            queue.push(payload(n));
        }
        let events = read_all(&queue);
        assert_eq!(events.len(), QUEUE_MESSAGES + 2);
        assert_eq!(events[QUEUE_MESSAGES - 1], BusEvent::Message(payload(QUEUE_MESSAGES - 1)));
        assert_eq!(events[QUEUE_MESSAGES..], [BusEvent::Lost, BusEvent::Resumed]);
        assert_eq!(queue.dropped(), 10);
        queue.push(payload(1));
        assert_eq!(read_all(&queue), [BusEvent::Message(payload(1))]);
    }

    #[test]
    fn nothing_slips_in_between_a_drop_and_its_lost() {
        let queue = Queue::new(true);
        for n in 0..=QUEUE_MESSAGES {
            queue.push(payload(n));
        }
        assert!(queue.next().now_or_never().is_some());
        queue.push(payload(0));
        assert_eq!(queue.dropped(), 2, "a place is free, but the drop before it has not surfaced yet");
    }

    #[test]
    fn a_loss_of_the_link_during_an_overflow_is_not_resumed_before_the_link_is() {
        let queue = Queue::new(true);
        for n in 0..=QUEUE_MESSAGES {
            queue.push(payload(n));
        }
        queue.link_lost();
        assert_eq!(read_all(&queue).last(), Some(&BusEvent::Lost));
        queue.link_resumed();
        assert_eq!(read_all(&queue), [BusEvent::Resumed]);
    }

    #[test]
    fn a_link_that_is_back_does_not_resume_an_overflow_that_was_not_read() {
        let queue = Queue::new(true);
        for n in 0..=QUEUE_MESSAGES {
            queue.push(payload(n));
        }
        queue.link_lost();
        queue.link_resumed();
        queue.push(payload(0));
        assert_eq!(queue.dropped(), 2);
        assert_eq!(read_all(&queue)[QUEUE_MESSAGES..], [BusEvent::Lost, BusEvent::Resumed]);
    }

    #[test]
    fn a_full_queue_takes_lost_and_resumed() {
        let queue = Queue::new(true);
        for n in 0..QUEUE_MESSAGES {
            queue.push(payload(n));
        }
        queue.link_lost();
        queue.link_resumed();
        assert_eq!(read_all(&queue)[QUEUE_MESSAGES..], [BusEvent::Lost, BusEvent::Resumed]);
    }

    #[test]
    fn a_flapping_link_does_not_grow_the_queue() {
        let queue = Queue::new(true);
        for _ in 0..1000 {
            queue.link_lost();
            queue.link_resumed();
        }
        assert_eq!(read_all(&queue), [BusEvent::Lost, BusEvent::Resumed]);
        queue.link_lost();
        queue.link_resumed();
        queue.link_lost();
        assert_eq!(read_all(&queue), [BusEvent::Lost]);
    }

    #[test]
    fn messages_keep_their_place_around_a_loss() {
        let queue = Queue::new(false);
        queue.push(payload(1));
        queue.link_resumed();
        queue.push(payload(2));
        queue.close();
        queue.push(payload(3));
        let expected =
            [BusEvent::Lost, BusEvent::Message(payload(1)), BusEvent::Resumed, BusEvent::Message(payload(2))];
        assert_eq!(read_all(&queue), expected);
        assert_eq!(queue.next().now_or_never(), Some(None));
    }

    #[tokio::test]
    async fn a_waiting_reader_wakes() {
        let queue = std::sync::Arc::new(Queue::new(true));
        let reader = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.push(payload(7));
        assert_eq!(reader.await.unwrap(), Some(BusEvent::Message(payload(7))));
    }
}
