use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::json;
use super::voice::{Saying, Voice};
use crate::client::{ClientError, Disconnect, Event, Events};
use crate::protocol::{CloseReason, ServerFrame};

/// Says what happens; returns why the client ended. `read` is told when there may be something that the user has read.
///
/// It never asks anything itself: whoever reads the events must not wait for the client.
pub(super) async fn listen(
    mut events: Events,
    voice: Voice,
    read: Arc<Notify>,
    caught_up: oneshot::Sender<()>,
) -> ClientError {
    let mut caught_up = Some(caught_up);
    let mut away: Option<Disconnect> = None;
    while let Some(event) = events.next().await {
        let ready = matches!(event, Event::CaughtUp);
        match event {
            Event::Closed(error) => {
                last_word(&voice, &error).await;
                return error;
            }
            Event::Disconnected { why, retry_in } => {
                // Failed attempts follow each other within seconds; only what is new about them is worth a line.
                let news = away.as_ref() != Some(&why);
                let retry_ms = retry_in.as_millis().try_into().unwrap_or(u64::MAX);
                voice.say(Saying::Disconnected { why: why.clone(), retry_ms, news }).await;
                away = Some(why);
            }
            event => {
                if matches!(event, Event::Welcome(_)) && away.take().is_some() {
                    voice.note("* connected again").await;
                }
                if let Some(frame) = json::frame(event) {
                    voice.say(Saying::Frame(frame)).await;
                }
                read.notify_one();
            }
        }
        if ready {
            caught_up.take().map(|caught_up| caught_up.send(()));
        }
    }
    ClientError::Closed
}

/// Tells whether the client ended because its user wanted it.
pub(super) fn is_wanted(error: &ClientError) -> bool {
    match error {
        ClientError::Closed => true,
        ClientError::Ended(close) => close.code == CloseReason::Logout.code(),
        _ => false,
    }
}

/// Says why the client ended, unless its user wanted it.
async fn last_word(voice: &Voice, error: &ClientError) {
    match error {
        error if is_wanted(error) => {}
        ClientError::Ended(close) => {
            voice.say(Saying::Frame(ServerFrame::Closing { id: None, close: close.clone() })).await;
        }
        other => voice.say(Saying::Failed { problem: other.clone().into(), id: None, key: None }).await,
    }
}
