//! Publishing with the server's word for it.

use tokio::sync::{mpsc, oneshot};

use super::answers::Published;
use super::ended;
use super::link::Wire;
use super::thread::LinkThread;
use crate::bus::{BusError, BusErrorKind, Outgoing, Receipt};

/// How many batches may wait before publishers wait too, and how many go out together.
const WAITING_BATCHES: usize = 512;
/// How many round trips may be under way.
const ROUND_TRIPS: usize = 8;

type Results = Vec<Result<Receipt, BusError>>;

/// The way to the task that publishes.
pub(super) struct Publishing(mpsc::Sender<Batch>);

struct Batch {
    messages: Vec<Outgoing>,
    results: oneshot::Sender<Results>,
}

impl Publishing {
    pub(super) fn start(thread: &LinkThread, wire: Wire) -> Self {
        let (batches, waiting) = mpsc::channel(WAITING_BATCHES);
        let (sent, unanswered) = mpsc::channel(ROUND_TRIPS);
        thread.start_task(publish(waiting, wire.clone(), sent));
        thread.start_task(settle(unanswered, wire));
        Self(batches)
    }

    /// Publishes a batch in order and waits for the server's word.
    pub(super) async fn publish(&self, messages: Vec<Outgoing>) -> Results {
        let count = messages.len();
        let (results, answer) = oneshot::channel();
        let unanswered = || (0..count).map(|_| Err(ended())).collect();
        if self.0.send(Batch { messages, results }).await.is_err() {
            return unanswered();
        }
        answer.await.unwrap_or_else(|_| unanswered())
    }
}

/// Batches that were sent, and the answer to the round trip behind them.
struct Sent {
    batches: Vec<Batch>,
    answer: Result<oneshot::Receiver<Published>, BusError>,
}

/// Sends what has come up, and a round trip behind it: the server deals with what it is sent in order, so when it answers
/// it has taken every message, and has told of those that it refuses and of those that nobody is there for.
async fn publish(mut waiting: mpsc::Receiver<Batch>, wire: Wire, sent: mpsc::Sender<Sent>) {
    let mut batches = Vec::new();
    while waiting.recv_many(&mut batches, WAITING_BATCHES).await > 0 {
        let messages: Vec<&Outgoing> = batches.iter().flat_map(|batch| &batch.messages).collect();
        let answer = send(&messages, &wire).await;
        if sent.send(Sent { batches: std::mem::take(&mut batches), answer }).await.is_err() {
            return;
        }
    }
}

/// Waits for the answers, and tells the publishers. One who has stopped waiting needs none.
async fn settle(mut sent: mpsc::Receiver<Sent>, wire: Wire) {
    while let Some(Sent { batches, answer }) = sent.recv().await {
        let told = match answer {
            Ok(answered) => answered.await.map_err(|_| wire.answers.reason()),
            Err(error) => Err(error),
        };
        let messages: Vec<&Outgoing> = batches.iter().flat_map(|batch| &batch.messages).collect();
        let unheard = told.as_ref().map_or(&[][..], |told| &told.unheard);
        let mut receipts = receipts(&messages, unheard).into_iter();
        for Batch { messages, results } in batches {
            let result = |(outgoing, receipt): (Outgoing, Receipt)| match &told {
                Err(error) => Err(BusError::new(error.kind(), error.to_string())),
                Ok(told) if told.refused.contains(outgoing.subject.as_str()) => Err(forbidden(&outgoing)),
                Ok(_) => Ok(receipt),
            };
            results.send(messages.into_iter().zip(&mut receipts).map(result).collect()).ok();
        }
    }
}

/// Sends messages. Of a run of them to one subject only the last asks whether anybody is there, which costs the server
/// as much as another message would.
async fn send(messages: &[&Outgoing], wire: &Wire) -> Result<oneshot::Receiver<Published>, BusError> {
    let mut number = 0;
    for run in messages.chunk_by(|one, next| one.subject == next.subject) {
        let subject = async_nats::Subject::from(run[0].subject.as_str());
        let (last, others) = run.split_last().expect("a run has messages");
        for outgoing in others {
            wire.send(subject.clone(), outgoing.payload.clone()).await?;
        }
        number += run.len();
        wire.send_asking(subject, last.payload.clone(), number - 1).await?;
    }
    wire.round_trip_behind_messages().await
}

/// Makes the receipts of messages, from the numbers of those that asked and that nobody was there for.
fn receipts(messages: &[&Outgoing], unheard: &[usize]) -> Vec<Receipt> {
    let mut receipts = vec![UNKNOWN; messages.len()];
    for &number in unheard {
        let Some(asked) = messages.get(number) else { continue };
        let run = messages[..=number].iter().rev().take_while(|outgoing| outgoing.subject == asked.subject).count();
        receipts[number + 1 - run..=number].fill(Receipt { receivers: Some(0) });
    }
    receipts
}

/// The server does not count receivers.
const UNKNOWN: Receipt = Receipt { receivers: None };

fn forbidden(outgoing: &Outgoing) -> BusError {
    let text = format!("NATS does not let the user of bus.nats.url publish to {}", outgoing.subject);
    BusError::new(BusErrorKind::Rejected, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Subject;

    #[test]
    fn a_run_of_messages_to_one_subject_is_told_by_its_last() {
        let outgoing = |subject: &str| Outgoing { subject: Subject::new(subject).unwrap(), payload: "x".into() };
        let messages = ["a", "a", "b", "a", "a", "a", "b"].map(outgoing);
        let messages: Vec<&Outgoing> = messages.iter().collect();
        let told = |unheard: Vec<usize>| -> Vec<usize> {
            let receipts = receipts(&messages, &unheard);
            (0..receipts.len()).filter(|place| receipts[*place].receivers == Some(0)).collect()
        };
        assert!(told(vec![]).is_empty());
        assert_eq!(told(vec![1]), [0, 1]);
        assert_eq!(told(vec![2, 5]), [2, 3, 4, 5]);
        assert_eq!(told(vec![6, 99]), [6]);
    }
}
