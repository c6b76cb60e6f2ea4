//! How fast a bus is, against the client library of its broker: the same messages, in the same run, in turns.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::bus::connect::{connect, connect_raw};
use crate::bus::raw::BatchPublisher;
use crate::bus::{BusConfig, BusError, BusErrorKind, BusEvent, BusKind, MessageBus, Outgoing, Subject};

/// How many messages may be under way: less than a subscription's queue holds, so that nothing is dropped.
const IN_FLIGHT: usize = 2048;

/// A run in which nothing arrives for this long is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is measured.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// How many tasks publish at once, on one connection.
    pub publishers: usize,
    /// How many messages each of them gives to a call of publish.
    pub batch: usize,
    /// The size of a message in bytes.
    pub payload: usize,
    /// How many messages a round has.
    pub messages: u64,
    /// How many rounds there are, of each kind.
    pub rounds: usize,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct BusReport {
    /// The broker.
    pub kind: BusKind,
    /// What was done.
    pub plan: Plan,
    /// Messages a second by the client library alone, a value for each round; none for a bus without a broker.
    pub raw: Vec<f64>,
    /// Messages a second through the bus.
    pub bus: Vec<f64>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BusBenchError {
    /// The broker cannot be used.
    #[error("{0} cannot be measured")]
    Bus(BusKind, #[source] BusError),
    /// Messages did not arrive.
    #[error("{arrived} of {sent} messages arrived, and nothing more for {PATIENCE:?}")]
    Lost {
        /// How many did.
        arrived: u64,
        /// How many were published.
        sent: u64,
    },
}

impl BusReport {
    /// Returns what the bus reaches of the client library's rate: the median of the rounds.
    pub fn ratio(&self) -> Option<f64> {
        (!self.raw.is_empty()).then(|| median(self.raw.iter().zip(&self.bus).map(|(raw, bus)| bus / raw)))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle]) / 2.0 } else { values[middle] }
}

/// Measures the bus of a config, and the client library of its broker, in turns.
pub async fn run(config: &BusConfig, plan: &Plan) -> Result<BusReport, BusBenchError> {
    let kind = config.kind;
    let failed = |error| BusBenchError::Bus(kind, error);
    // Nobody else is on these subjects, whatever else the broker is used for.
    let subject = |what: &str| Subject::new(&format!("bench.{:016x}.{what}", rand::random::<u64>()));
    let (raw_subject, bus_subject) =
        (subject("raw").expect("a valid subject"), subject("bus").expect("a valid subject"));
    let (raw_tally, bus_tally) = (Arc::new(Tally::default()), Arc::new(Tally::default()));

    let bus = connect(config).await.map_err(failed)?;
    connected(&*bus).await.map_err(failed)?;
    let mut subscription = bus.subscribe(&bus_subject).await.map_err(failed)?;
    let hearing = tokio::spawn({
        let tally = Arc::clone(&bus_tally);
        async move {
            while let Some(event) = subscription.next().await {
                if let BusEvent::Message(_) = event {
                    tally.heard();
                }
            }
        }
    });
    let heard = {
        let tally = Arc::clone(&raw_tally);
        Arc::new(move || tally.heard())
    };
    let raw: Option<Arc<dyn BatchPublisher>> =
        connect_raw(config, &raw_subject, heard).await.map_err(failed)?.map(Arc::from);
    let through: Arc<dyn BatchPublisher> = Arc::new(ThroughBus { bus: Arc::clone(&bus), subject: bus_subject });
    let mut report = BusReport { kind, plan: plan.clone(), raw: Vec::new(), bus: Vec::new() };
    // The first round warms up whatever is cold, and does not count.
    for round in 0..=plan.rounds {
        let mut alone = None;
        if let Some(raw) = &raw {
            alone = Some(measure(kind, plan, &raw_tally, raw).await?);
        }
        let rate = measure(kind, plan, &bus_tally, &through).await?;
        if round > 0 {
            report.raw.extend(alone);
            report.bus.push(rate);
        }
    }
    bus.close().await.map_err(failed)?;
    hearing.await.ok();
    Ok(report)
}

/// The bus, used as the client library is.
struct ThroughBus {
    bus: Arc<dyn MessageBus>,
    subject: Subject,
}

#[async_trait]
impl BatchPublisher for ThroughBus {
    async fn publish(&self, batch: &[Bytes]) -> Result<(), BusError> {
        let outgoing = |payload: &Bytes| Outgoing { subject: self.subject.clone(), payload: payload.clone() };
        let results = self.bus.publish(batch.iter().map(outgoing).collect()).await;
        results.into_iter().try_for_each(|result| result.map(drop))
    }
}

async fn connected(bus: &dyn MessageBus) -> Result<(), BusError> {
    let mut state = bus.state();
    let connecting = timeout(PATIENCE, state.wait_for(|state| state.is_connected())).await;
    let absent = || BusError::new(BusErrorKind::Disconnected, "no broker answers: start it, or name another URL");
    connecting.map_err(|_| absent())?.map(drop).map_err(|_| absent())
}

/// Counts what arrives, and lets as much go out again.
#[derive(Debug)]
struct Tally {
    room: Semaphore,
    arrived: AtomicU64,
    expected: AtomicU64,
    complete: Notify,
}

impl Default for Tally {
    fn default() -> Self {
        let (arrived, expected) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { room: Semaphore::new(IN_FLIGHT), arrived, expected, complete: Notify::new() }
    }
}

impl Tally {
    fn heard(&self) {
        self.room.add_permits(1);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.expected.load(Ordering::Acquire) {
            self.complete.notify_one();
        }
    }
}

/// Publishes the messages of one round and returns how many arrived in a second.
async fn measure(
    kind: BusKind,
    plan: &Plan,
    tally: &Arc<Tally>,
    publisher: &Arc<dyn BatchPublisher>,
) -> Result<f64, BusBenchError> {
    let batch: Arc<[Bytes]> = vec![Bytes::from(vec![b'x'; plan.payload]); plan.batch].into();
    let calls = plan.messages.div_ceil(plan.batch as u64);
    let before = tally.arrived.load(Ordering::Acquire);
    tally.expected.store(before + calls * plan.batch as u64, Ordering::Release);
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut publishers = JoinSet::new();
    for _ in 0..plan.publishers {
        let (next, tally) = (Arc::clone(&next), Arc::clone(tally));
        let (batch, publisher) = (Arc::clone(&batch), Arc::clone(publisher));
        publishers.spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < calls {
                let room = tally.room.acquire_many(batch.len() as u32).await.expect("nobody closes it");
                room.forget();
                publisher.publish(&batch).await?;
            }
            Ok::<(), BusError>(())
        });
    }
    let all = async {
        while let Some(ended) = publishers.join_next().await {
            ended.expect("no publisher panics").map_err(|error| BusBenchError::Bus(kind, error))?;
        }
        tally.complete.notified().await;
        Ok(())
    };
    tokio::pin!(all);
    loop {
        let seen = tally.arrived.load(Ordering::Acquire);
        match timeout(PATIENCE, &mut all).await {
            Ok(outcome) => {
                outcome?;
                return Ok((calls * plan.batch as u64) as f64 / start.elapsed().as_secs_f64());
            }
            Err(_) if tally.arrived.load(Ordering::Acquire) > seen => {}
            Err(_) => {
                let sent = next.load(Ordering::Acquire).min(calls) * plan.batch as u64;
                return Err(BusBenchError::Lost { arrived: seen - before, sent });
            }
        }
    }
}

impl fmt::Display for BusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { publishers, batch, payload, messages, .. } = &self.plan;
        writeln!(
            f,
            "{}: {messages} messages of {payload} bytes a round, {publishers} publishers, {batch} to a call, 1 subscriber",
            self.kind
        )?;
        let Some(ratio) = self.ratio() else {
            writeln!(f, "messages a second through the bus; there is no broker to compare with")?;
            return self.bus.iter().try_for_each(|rate| writeln!(f, "{rate:>10.0}"));
        };
        writeln!(f, "| round | client alone, msg/s | through the bus, msg/s | ratio |\n|---:|---:|---:|---:|")?;
        for (round, (raw, bus)) in self.raw.iter().zip(&self.bus).enumerate() {
            writeln!(f, "| {} | {raw:.0} | {bus:.0} | {:.0} % |", round + 1, 100.0 * bus / raw)?;
        }
        let (raw, bus) = (median(self.raw.iter().copied()), median(self.bus.iter().copied()));
        writeln!(f, "| median | {raw:.0} | {bus:.0} | {:.0} % |", 100.0 * ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Plan {
        Plan { publishers: 4, batch: 8, payload: 200, messages: 1_000, rounds: 3 }
    }

    #[tokio::test]
    async fn a_bus_without_a_broker_is_measured_alone() {
        let config = BusConfig { kind: BusKind::Memory, ..BusConfig::default() };
        let report = run(&config, &small()).await.unwrap();
        assert_eq!((report.bus.len(), report.ratio()), (3, None));
        assert!(report.bus.iter().all(|rate| *rate > 0.0));
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds() {
        let (raw, bus) = (vec![100.0, 100.0, 200.0], vec![90.0, 10.0, 160.0]);
        let report = BusReport { kind: BusKind::Redis, plan: small(), raw, bus };
        assert_eq!(report.ratio(), Some(0.8));
        let shown = report.to_string();
        assert!(
            shown.contains("| 2 | 100 | 10 | 10 % |") && shown.ends_with("| median | 100 | 90 | 80 % |\n"),
            "{shown}"
        );
        assert_eq!(median([4.0, 1.0, 3.0, 2.0].into_iter()), 2.5);
    }

    /// Loses the last message of the second call.
    struct Lossy {
        tally: Arc<Tally>,
        calls: AtomicU64,
    }

    #[async_trait]
    impl BatchPublisher for Lossy {
        async fn publish(&self, batch: &[Bytes]) -> Result<(), BusError> {
            let lost = u64::from(self.calls.fetch_add(1, Ordering::AcqRel) == 1);
            (0..batch.len() as u64 - lost).for_each(|_| self.tally.heard());
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn messages_that_do_not_arrive_are_counted() {
        let tally = Arc::new(Tally::default());
        let publisher: Arc<dyn BatchPublisher> =
            Arc::new(Lossy { tally: Arc::clone(&tally), calls: AtomicU64::new(0) });
        let error = measure(BusKind::Redis, &small(), &tally, &publisher).await.unwrap_err();
        assert!(matches!(error, BusBenchError::Lost { arrived: 999, sent: 1000 }), "{error}");
    }
}
