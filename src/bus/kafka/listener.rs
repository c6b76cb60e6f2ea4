//! What listens: a thread that takes messages from the client library, and where in each topic it begins.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::alarm::Alarm;
use super::clients::{Clients, LOOK_EVERY, PATIENCE, Set};
use super::positions::Positions;
use super::{blocking, bus_error, is_passing, topics};
use crate::bus::queue::QUEUE_MESSAGES;
use crate::bus::supervisor::Incoming;
use crate::bus::{BusError, Subject};

/// How much may have come while a connection was away to be still delivered. More would not fit into the queue of a
/// subscriber, and hold up what is new.
const MOST_LATE: i64 = QUEUE_MESSAGES as i64;

/// How long the library may take for one question about a topic.
const ATTEMPT: Duration = Duration::from_secs(1);
/// How soon the leader of a new topic is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The reading side of a link.
pub(super) struct Listener {
    positions: Arc<Positions>,
}

impl Listener {
    /// Starts to take what comes.
    pub(super) fn start(
        clients: &Clients,
        incoming: Incoming,
        alarm: Alarm,
        positions: Arc<Positions>,
    ) -> Result<Self, BusError> {
        let receiver = Receiver { incoming, alarm, positions: Arc::clone(&positions) };
        clients.spawn("kafka-listen", move |set| receiver.take(&set.consumer))?;
        Ok(Self { positions })
    }

    /// Reads subjects whose topics are there: from where an earlier link left them, or from their ends.
    pub(super) async fn assign(&self, clients: &Clients, subjects: &[Subject]) -> Result<(), BusError> {
        let mut partitions = TopicPartitionList::with_capacity(subjects.len());
        let mut left = subjects.to_vec();
        let begun = Instant::now();
        while !left.is_empty() {
            let (set, positions) = (clients.share(), Arc::clone(&self.positions));
            let look = move || starts(&set, &positions, left);
            let (starts, not_yet) = blocking(look).await?.map_err(bus_error)?;
            for (subject, start) in starts {
                let start_at = Offset::Offset(start);
                partitions.add_partition_offset(&topics::name_of(&subject), 0, start_at).map_err(bus_error)?;
                self.positions.start(&subject, start);
            }
            left = match not_yet {
                Some((_, error)) if begun.elapsed() > PATIENCE => return Err(bus_error(error)),
                Some((subjects, _)) => subjects,
                None => Vec::new(),
            };
            if !left.is_empty() {
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
        // Every offset is a number, so nothing published from here on can come before the first one read.
        let set = clients.share();
        blocking(move || set.consumer.incremental_assign(&partitions)).await?.map_err(bus_error)
    }

    /// Stops reading subjects.
    pub(super) async fn unassign(&self, clients: &Clients, subjects: &[Subject]) -> Result<(), BusError> {
        let mut partitions = TopicPartitionList::with_capacity(subjects.len());
        for subject in subjects {
            partitions.add_partition(&topics::name_of(subject), 0);
        }
        self.positions.forget(subjects);
        let set = clients.share();
        blocking(move || set.consumer.incremental_unassign(&partitions)).await?.map_err(bus_error)
    }

    /// Returns a subject that is being read, if there is any.
    pub(super) fn any(&self) -> Option<Subject> {
        self.positions.any()
    }
}

/// Where subjects begin; and those that have no leader yet, with the reason for the last of them.
type Starts = (Vec<(Subject, i64)>, Option<(Vec<Subject>, KafkaError)>);

/// Finds out where to begin. It takes a moment until the leader of a new topic knows that it is.
fn starts(clients: &Set, positions: &Positions, subjects: Vec<Subject>) -> KafkaResult<Starts> {
    let (mut starts, mut not_yet) = (Vec::with_capacity(subjects.len()), None);
    for subject in subjects {
        match first_offset(clients, &topics::name_of(&subject), positions.left_at(&subject)) {
            Ok(start) => starts.push((subject, start)),
            Err(error) if error.rdkafka_error_code().is_some_and(is_not_yet) => {
                let (subjects, reason) = not_yet.get_or_insert_with(|| (Vec::new(), error.clone()));
                subjects.push(subject);
                *reason = error;
            }
            Err(error) => return Err(error),
        }
    }
    Ok((starts, not_yet))
}

fn is_not_yet(code: RDKafkaErrorCode) -> bool {
    is_passing(code) || code == RDKafkaErrorCode::OperationTimedOut
}

/// Returns where to begin with a topic: where an earlier link left it, or with the oldest message that is still kept;
/// at the end, if there is no earlier link, the topic is another one of the same name, or too much has come.
fn first_offset(clients: &Set, topic: &str, left_at: Option<i64>) -> KafkaResult<i64> {
    // The client that is to read the topic learns on this occasion where it is. Left to itself, it would ask for that
    // once, and again only after seconds.
    let metadata = clients.consumer.fetch_metadata(Some(topic), ATTEMPT)?;
    let partition = metadata.topics().first().and_then(|topic| topic.partitions().first());
    if partition.is_none_or(|partition| partition.leader() < 0) {
        return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable));
    }
    let (low, high) = clients.consumer.fetch_watermarks(topic, 0, ATTEMPT)?;
    let start = left_at.unwrap_or(high).max(low);
    Ok(if (0..=MOST_LATE).contains(&(high - start)) { start } else { high })
}

/// Runs on the thread that listens.
struct Receiver {
    incoming: Incoming,
    alarm: Alarm,
    positions: Arc<Positions>,
}

impl Receiver {
    fn take(&self, consumer: &BaseConsumer<Alarm>) {
        match consumer.poll(LOOK_EVERY) {
            Some(Ok(message)) => self.deliver(&message),
            Some(Err(error)) => self.alarm.raise(error, ""),
            None => {}
        }
    }

    fn deliver(&self, message: &BorrowedMessage<'_>) {
        // A message with a key only shows that a topic is in use.
        let Some(subject) = topics::subject_of(message.topic()).filter(|_| message.key().is_none()) else { return };
        let payload = Bytes::copy_from_slice(message.payload().unwrap_or_default());
        self.positions.pass(&subject, message.offset(), || self.incoming.deliver(&subject, payload));
    }
}
