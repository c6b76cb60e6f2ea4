use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::{Event, Observer};

/// Where a client's events go.
pub(crate) enum Sink {
    /// To a bounded queue. What one frame produced beyond its room waits in the backlog; no further frame is read until
    /// that is empty.
    Queue { queue: mpsc::Sender<Event>, backlog: VecDeque<Event> },
    /// Into a callback.
    Direct(Box<dyn Observer>),
}

impl Sink {
    pub(crate) fn queue(queue: mpsc::Sender<Event>) -> Self {
        Self::Queue { queue, backlog: VecDeque::new() }
    }

    /// Hands an event out.
    pub(crate) fn event(&mut self, event: Event) {
        match self {
            Self::Direct(observer) => observer.event(event),
            Self::Queue { backlog, .. } if !backlog.is_empty() => backlog.push_back(event),
            Self::Queue { queue, backlog } => match queue.try_send(event) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(event)) => backlog.push_back(event),
            },
        }
    }

    /// Tells whether frames must wait.
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self, Self::Queue { backlog, .. } if !backlog.is_empty())
    }

    /// Waits for room and moves one event into it; for ever when nothing waits. Cancel-safe.
    pub(crate) async fn make_room(&mut self) {
        let Self::Queue { queue, backlog } = self else { return std::future::pending().await };
        if backlog.is_empty() {
            return std::future::pending().await;
        }
        match queue.reserve().await {
            Ok(permit) => {
                if let Some(event) = backlog.pop_front() {
                    permit.send(event);
                }
            }
            // Nobody listens any more.
            Err(_) => backlog.clear(),
        }
    }
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Queue { backlog, .. } => write!(f, "Queue({} waiting)", backlog.len()),
            Self::Direct(_) => f.write_str("Direct"),
        }
    }
}
