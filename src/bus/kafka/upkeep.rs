//! Removes topics that nobody uses any more, such as those of nodes that are gone for good.
//!
//! Kafka does not tell whether a topic has readers, nor when it was used last. So every bus looks at all of our topics
//! now and then. One whose end has not moved for a long time, as this bus has seen it with its own clock, is removed. A
//! bus that reads a topic keeps it from that: should nothing have come since it looked last, it writes a mark itself,
//! which readers pass over. Who reads is thus seen by everybody twice before the time is over.
//!
//! Should a topic be removed all the same that somebody reads, then its reader is told so by Kafka, gives the link up,
//! and makes the topic anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::AdminOptions;
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseRecord, Producer};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info};

use super::blocking;
use super::clients::{PATIENCE, Set};
use super::delivery::{Pending, Ticket};
use super::positions::Positions;
use super::topics;

/// How long a topic lies idle before it is removed.
pub(super) const IDLE_AFTER: Duration = Duration::from_secs(600);
/// How often the topics are looked at in that time.
const LOOKS: u32 = 4;
/// The key of a mark. Messages have none.
const MARK: &str = "in use";

/// What a bus has seen of all topics, across its links.
#[derive(Debug)]
pub(super) struct Upkeep {
    idle_after: Duration,
    seen: Mutex<HashMap<String, Seen>>,
}

/// The end of a topic, and since when it has been there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    end: i64,
    since: Instant,
}

/// What is to be done about topics.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    /// Ours, and idle since the last look.
    mark: Vec<String>,
    /// Idle for too long, and not ours.
    remove: Vec<String>,
}

impl Upkeep {
    pub(super) fn new(idle_after: Duration) -> Self {
        Self { idle_after, seen: Mutex::default() }
    }

    /// Looks after the topics for as long as the link lives.
    pub(super) async fn run(self: Arc<Self>, clients: Arc<Set>, positions: Arc<Positions>) {
        let mut ticks = interval(self.idle_after / LOOKS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.look_after(&clients, &positions).await {
                debug!(%error, "kafka topics are not looked after");
            }
        }
    }

    async fn look_after(&self, clients: &Arc<Set>, positions: &Positions) -> KafkaResult<()> {
        let set = Arc::clone(clients);
        let Ok(ends) = blocking(move || ends(&set)).await else { return Ok(()) };
        let findings = self.judge(ends?, Instant::now(), |topic| {
            topics::subject_of(topic).is_some_and(|subject| positions.has(&subject))
        });
        let marks = Arc::new(Pending::default());
        for (place, topic) in findings.mark.iter().enumerate() {
            let record = BaseRecord::with_opaque_to(topic, Box::new(Ticket::new(&marks, place)));
            if let Err((error, record)) = clients.producer.send(record.partition(0).key(MARK).payload("")) {
                record.delivery_opaque.settle(Err(error));
            }
        }
        marks.all().await;
        if !findings.remove.is_empty() {
            let names: Vec<&str> = findings.remove.iter().map(String::as_str).collect();
            let options = AdminOptions::new().request_timeout(Some(PATIENCE));
            for topic in clients.admin.delete_topics(&names, &options).await?.into_iter().flatten() {
                info!(topic, "removed a kafka topic that nobody has used for long");
            }
        }
        Ok(())
    }

    /// Notes the ends of all topics that there are.
    fn judge(&self, ends: HashMap<String, i64>, now: Instant, is_ours: impl Fn(&str) -> bool) -> Findings {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut findings = Findings::default();
        seen.retain(|topic, _| ends.contains_key(topic));
        for (topic, end) in ends {
            match seen.get(&topic).copied() {
                Some(before) if before.end == end => {
                    if is_ours(&topic) {
                        findings.mark.push(topic);
                    } else if now - before.since >= self.idle_after {
                        findings.remove.push(topic);
                    }
                }
                _ => drop(seen.insert(topic, Seen { end, since: now })),
            }
        }
        findings
    }
}

/// Returns the ends of all topics of ours.
fn ends(clients: &Set) -> KafkaResult<HashMap<String, i64>> {
    let client = clients.producer.client();
    let metadata = client.fetch_metadata(None, PATIENCE)?;
    let names = metadata.topics().iter().map(|topic| topic.name()).filter(|name| topics::subject_of(name).is_some());
    // One that goes away meanwhile, or has no leader now, is left out.
    let end = |name: &str| client.fetch_watermarks(name, 0, PATIENCE).ok().map(|(_, high)| (name.to_owned(), high));
    Ok(names.filter_map(end).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_idle_when_its_end_has_not_moved_for_long() {
        let (upkeep, begun) = (Upkeep::new(Duration::from_secs(600)), Instant::now());
        let look = |seconds, end: i64, ours| {
            let ends = HashMap::from([("a".to_owned(), end)]);
            let findings = upkeep.judge(ends, begun + Duration::from_secs(seconds), |_| ours);
            (findings.mark.len(), findings.remove.len())
        };
        assert_eq!(look(0, 7, false), (0, 0));
        assert_eq!(look(599, 7, false), (0, 0));
        assert_eq!(look(600, 8, false), (0, 0), "it has moved");
        assert_eq!(look(1199, 8, false), (0, 0));
        assert_eq!(look(1200, 8, false), (0, 1));
        assert_eq!(look(1201, 8, true), (1, 0), "what is ours is not removed");
        assert_eq!(upkeep.judge(HashMap::new(), begun, |_| false), Findings::default());
        assert_eq!(look(2000, 8, false), (0, 0), "another one of the same name");
    }
}
