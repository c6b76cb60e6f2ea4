//! What publishes: a batch goes to the client library message by message, and is done when the last of them is.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};

use super::clients::{Clients, PATIENCE, Set};
use super::delivery::{Pending, Ticket};
use super::{blocking, bus_error, topics};
use crate::bus::{BusError, Outgoing, Receipt, Subject};

/// The publishing side of a link.
#[derive(Default)]
pub(super) struct Publisher {
    /// Subjects known to have a topic. Kafka is asked about any other first: a message to a topic that does not exist
    /// would wait for one.
    known: RwLock<HashSet<Subject>>,
    /// Subjects that were known when their topics went away, which the client library remembers.
    gone: Mutex<HashSet<Subject>>,
}

/// Messages that failed, by their places in the batch.
type Failures = Vec<(usize, KafkaError)>;

impl Publisher {
    /// Publishes in order. A message to a subject without a topic is done at once: nobody can be subscribed to it.
    pub(super) async fn publish(&self, clients: &Clients, batch: Vec<Outgoing>) -> Vec<Result<Receipt, BusError>> {
        let mut failures = self.attempt(clients, &batch, 0..batch.len()).await;
        if failures.iter().any(|(_, error)| lacks_topic(error)) {
            // Topics have been removed since, and perhaps been made again by somebody who has subscribed.
            let (lacking, others): (Failures, _) = failures.into_iter().partition(|(_, error)| lacks_topic(error));
            let mut places: Vec<usize> = lacking.into_iter().map(|(place, _)| place).collect();
            places.sort_unstable();
            self.forget(places.iter().map(|place| &batch[*place].subject));
            failures = others;
            failures.extend(self.attempt(clients, &batch, places.into_iter()).await);
        }
        let mut results: Vec<_> = batch.iter().map(|_| Ok(Receipt { receivers: None })).collect();
        for (place, error) in failures {
            results[place] = Err(bus_error(error));
        }
        results
    }

    /// Publishes some messages of a batch, and waits for the broker's word on each.
    async fn attempt(
        &self,
        clients: &Clients,
        batch: &[Outgoing],
        places: impl Iterator<Item = usize> + Clone + Send,
    ) -> Failures {
        let unknown = self.unknown(batch, places.clone());
        let topics = if unknown.is_empty() { HashMap::new() } else { self.look_up(clients, unknown).await };
        let pending = Arc::new(Pending::default());
        let mut topic: (Option<&Subject>, String) = (None, String::new());
        for place in places {
            let Outgoing { subject, payload } = &batch[place];
            let ticket = Ticket::new(&pending, place);
            match topics.get(subject) {
                Some(Ok(false)) => {}
                Some(Err(error)) => ticket.settle(Err(error.clone())),
                Some(Ok(true)) | None => {
                    if topic.0 != Some(subject) {
                        topic = (Some(subject), topics::name_of(subject));
                    }
                    let record = BaseRecord::<(), [u8], _>::with_opaque_to(&topic.1, Box::new(ticket));
                    if let Err((error, record)) = clients.producer.send(record.partition(0).payload(payload)) {
                        record.delivery_opaque.settle(Err(error));
                    }
                }
            }
        }
        pending.all().await
    }

    /// Returns the subjects of which it is not known whether they have topics.
    fn unknown(&self, batch: &[Outgoing], places: impl Iterator<Item = usize>) -> HashSet<Subject> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut last = None;
        let mut unknown = HashSet::new();
        for subject in places.map(|place| &batch[place].subject) {
            if last != Some(subject) && !known.contains(subject) {
                unknown.insert(subject.clone());
            }
            last = Some(subject);
        }
        unknown
    }

    /// Asks which subjects have topics.
    async fn look_up(
        &self,
        clients: &Clients,
        subjects: HashSet<Subject>,
    ) -> HashMap<Subject, Result<bool, KafkaError>> {
        let subjects: Vec<Subject> = subjects.into_iter().collect();
        let answers = match topics::exist(&clients.admin, &subjects).await {
            Ok(answers) => answers,
            Err(error) => return subjects.into_iter().map(|subject| (subject, Err(error.clone()))).collect(),
        };
        let answers: HashMap<_, _> = subjects.into_iter().zip(answers).collect();
        let there: Vec<&Subject> =
            answers.iter().filter(|(_, answer)| matches!(answer, Ok(true))).map(|(subject, _)| subject).collect();
        let back: Vec<Subject> =
            there.iter().copied().filter(|subject| self.gone().remove(*subject)).cloned().collect();
        if !back.is_empty() {
            let set = clients.share();
            // The library goes on refusing a topic that it knows to be gone until it hears of it.
            drop(blocking(move || refresh(&set, &back)).await);
        }
        self.known.write().unwrap_or_else(PoisonError::into_inner).extend(there.into_iter().cloned());
        answers
    }

    fn forget<'a>(&self, subjects: impl Iterator<Item = &'a Subject>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for subject in subjects {
            if known.remove(subject) {
                self.gone().insert(subject.clone());
            }
        }
    }

    fn gone(&self) -> MutexGuard<'_, HashSet<Subject>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refresh(clients: &Set, subjects: &[Subject]) {
    for subject in subjects {
        // Should it fail, so will the messages.
        drop(clients.producer.client().fetch_metadata(Some(&topics::name_of(subject)), PATIENCE));
    }
}

fn lacks_topic(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::UnknownTopicId)
    )
}
