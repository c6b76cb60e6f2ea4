//! What the program says about itself: its log on standard error, and its metrics.
//!
//! Every metric has its name here and nowhere else, with its kind, unit and meaning. Labels take their values from
//! small fixed sets.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Sessions that are logged in.
pub const SESSIONS: &str = "switchboard_sessions";
/// Logins that succeeded.
pub const LOGINS: &str = "switchboard_logins_total";
/// Sessions that ended, by [`REASON`].
pub const SESSIONS_CLOSED: &str = "switchboard_sessions_closed_total";
/// Outboxes that overflowed, so that their session has to catch up from the log.
pub const OUTBOX_OVERFLOWS: &str = "switchboard_outbox_overflows_total";
/// Messages committed to the log.
pub const MESSAGES_APPENDED: &str = "switchboard_messages_appended_total";
/// Messages per commit.
pub const APPEND_BATCH: &str = "switchboard_append_batch_messages";
/// Time of one commit.
pub const APPEND_SECONDS: &str = "switchboard_append_seconds";
/// Messages that wait for the appender.
pub const APPEND_QUEUE: &str = "switchboard_append_queue_messages";
/// Messages put into the outboxes of local sessions.
pub const DELIVERIES: &str = "switchboard_deliveries_total";
/// Envelopes that the bus accepted.
pub const ENVELOPES_PUBLISHED: &str = "switchboard_envelopes_published_total";
/// Envelopes that the bus did not accept, or that reached nobody.
pub const ENVELOPES_FAILED: &str = "switchboard_envelopes_failed_total";
/// Envelopes that arrived and could not be read.
pub const ENVELOPES_MALFORMED: &str = "switchboard_envelopes_malformed_total";
/// Calls to publish in which at least one envelope failed.
pub const PUBLISH_FAILURES: &str = "switchboard_publish_failures_total";
/// Holes in timelines that had to be fetched from the log.
pub const TIMELINE_HOLES: &str = "switchboard_timeline_holes_total";
/// Sweeps of the log, by [`REASON`].
pub const SWEEPS: &str = "switchboard_sweeps_total";
/// Conversations that only the audit found behind the log.
pub const AUDIT_REPAIRED: &str = "switchboard_audit_repaired_total";
/// Entries deleted because they were older than the log keeps them.
pub const ENTRIES_PRUNED: &str = "switchboard_entries_pruned_total";
/// Whether the bus is connected.
pub const BUS_CONNECTED: &str = "switchboard_bus_connected";
/// Subjects of users and groups that the node hears on the bus.
pub const BUS_SUBJECTS: &str = "switchboard_bus_subjects";
/// Messages that a subscription dropped because its reader did not keep up.
pub const BUS_DROPPED: &str = "switchboard_bus_dropped_messages_total";

/// The label that says why: a close reason's name, or what started a sweep.
pub const REASON: &str = "reason";

/// How often [`Metrics::upkeep`] drains what histograms have collected.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

const BATCH_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
const SECONDS_BUCKETS: [f64; 12] =
    [0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2.0];

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging or metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("the environment variable {variable} is no log filter; write levels, such as info,switchboard=debug")]
    Filter {
        /// The variable that holds it.
        variable: &'static str,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The variable is not UTF-8.
    #[error("the environment variable {0} is not UTF-8")]
    NotText(&'static str),
    /// The histograms' buckets are refused.
    #[error("cannot set up the metrics")]
    Metrics(#[from] BuildError),
}

/// What is logged unless somebody says otherwise. The brokers' client libraries are silent: what they say at every attempt
/// to connect, the bus says once, in its own words.
const DEFAULT_FILTER: &str = "warn,switchboard=info,async_nats=off,lapin=off,rumqttc=off";

/// Sends log lines to standard error, filtered by `SWITCHBOARD_LOG`, else by `RUST_LOG`, else
/// `warn,switchboard=info` without the brokers' client libraries. Does nothing when this process logs already.
pub fn init_log(format: LogFormat) -> Result<(), TelemetryError> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter()?).with_writer(std::io::stderr);
    let outcome = match format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if outcome.is_err() {
        tracing::debug!("logging was set up already");
    }
    Ok(())
}

fn filter() -> Result<EnvFilter, TelemetryError> {
    // Whatever is asked for: a message that RabbitMQ had nobody for is logged with its body.
    let bodies = "lapin::returned_messages=off".parse().expect("it is a directive");
    Ok(asked_for()?.add_directive(bodies))
}

fn asked_for() -> Result<EnvFilter, TelemetryError> {
    for variable in ["SWITCHBOARD_LOG", "RUST_LOG"] {
        match std::env::var(variable) {
            Ok(text) if !text.is_empty() => {
                return EnvFilter::try_new(text).map_err(|source| TelemetryError::Filter { variable, source });
            }
            Err(std::env::VarError::NotUnicode(_)) => return Err(TelemetryError::NotText(variable)),
            Ok(_) | Err(std::env::VarError::NotPresent) => {}
        }
    }
    Ok(EnvFilter::new(DEFAULT_FILTER))
}

/// The process's metrics.
#[derive(Debug, Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Makes this process record metrics. Called again it returns the same ones.
    pub fn install() -> Result<Self, TelemetryError> {
        static INSTALLED: OnceLock<Metrics> = OnceLock::new();
        if let Some(installed) = INSTALLED.get() {
            return Ok(installed.clone());
        }
        let recorder = recorder()?;
        let metrics = Metrics(recorder.handle());
        let installed = INSTALLED.get_or_init(|| {
            // A recorder that the host program installed before keeps the metrics; ours then renders nothing.
            if metrics::set_global_recorder(recorder).is_ok() {
                describe();
            }
            metrics
        });
        Ok(installed.clone())
    }

    /// Writes every metric in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps the memory of histograms bounded, every 5 s, for ever. Cancel-safe.
    pub async fn upkeep(&self) {
        let mut ticks = tokio::time::interval(UPKEEP_EVERY);
        loop {
            ticks.tick().await;
            self.0.run_upkeep();
        }
    }
}

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(APPEND_BATCH.to_owned()), &BATCH_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(APPEND_SECONDS.to_owned()), &SECONDS_BUCKETS)?
        .build_recorder();
    Ok(recorder)
}

fn describe() {
    describe_gauge!(SESSIONS, Unit::Count, "Sessions that are logged in");
    describe_counter!(LOGINS, Unit::Count, "Logins that succeeded");
    describe_counter!(SESSIONS_CLOSED, Unit::Count, "Sessions that ended, by reason");
    describe_counter!(OUTBOX_OVERFLOWS, Unit::Count, "Outboxes that overflowed; their session catches up from the log");
    describe_counter!(MESSAGES_APPENDED, Unit::Count, "Messages committed to the log");
    describe_histogram!(APPEND_BATCH, Unit::Count, "Messages per commit");
    describe_histogram!(APPEND_SECONDS, Unit::Seconds, "Time of one commit");
    describe_gauge!(APPEND_QUEUE, Unit::Count, "Messages that wait for the appender");
    describe_counter!(DELIVERIES, Unit::Count, "Messages put into the outboxes of local sessions");
    describe_counter!(ENVELOPES_PUBLISHED, Unit::Count, "Envelopes that the bus accepted");
    describe_counter!(ENVELOPES_FAILED, Unit::Count, "Envelopes that the bus did not accept, or that reached nobody");
    describe_counter!(ENVELOPES_MALFORMED, Unit::Count, "Envelopes that arrived and could not be read");
    describe_counter!(PUBLISH_FAILURES, Unit::Count, "Publish calls in which at least one envelope failed");
    describe_counter!(TIMELINE_HOLES, Unit::Count, "Holes in timelines that had to be fetched from the log");
    describe_counter!(SWEEPS, Unit::Count, "Sweeps of the log, by reason");
    describe_counter!(AUDIT_REPAIRED, Unit::Count, "Conversations that only the audit found behind the log");
    describe_counter!(ENTRIES_PRUNED, Unit::Count, "Entries deleted because they were older than the log keeps them");
    describe_gauge!(BUS_CONNECTED, Unit::Count, "1 while the bus is connected, else 0");
    describe_gauge!(BUS_SUBJECTS, Unit::Count, "Subjects of users and groups that the node hears on the bus");
    describe_counter!(BUS_DROPPED, Unit::Count, "Messages dropped because a subscription's reader did not keep up");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every constant of this file that names a metric, read from its source.
    fn names() -> Vec<&'static str> {
        let source = include_str!("telemetry.rs");
        source
            .lines()
            .filter(|l| l.starts_with("pub const "))
            .filter_map(|l| l.split('"').nth(1))
            .filter(|n| *n != REASON)
            .collect()
    }

    #[test]
    fn every_metric_is_described() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            for name in names() {
                // A metric is rendered once it has a value; all kinds of it share one description.
                metrics::counter!(name).increment(1);
            }
        });
        let text = handle.render();
        assert!(names().len() >= 18);
        for name in names() {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} is not described in\n{text}");
        }
    }

    #[test]
    fn bodies_of_messages_stay_out_of_the_log() {
        assert!(filter().unwrap().to_string().contains("lapin::returned_messages=off"));
    }

    #[test]
    fn metric_names_follow_one_pattern() {
        for name in names() {
            assert!(name.starts_with("switchboard_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        }
    }

    #[test]
    fn histograms_have_buckets() {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || metrics::histogram!(APPEND_SECONDS).record(0.003));
        assert!(handle.render().contains("switchboard_append_seconds_bucket{le=\"0.004\"} 1"), "{}", handle.render());
    }
}
