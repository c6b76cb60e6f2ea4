//! How the client library and the topics are set.

use rdkafka::ClientConfig;

use crate::bus::config::BrokerUrl;
use crate::bus::{BusError, BusErrorKind};

/// The largest payload. Kafka's own default for a topic is a little less, so topics are created with a larger one.
pub(super) const MAX_PAYLOAD: usize = 1024 * 1024;
/// The largest record, with all that Kafka puts around a payload.
const MAX_RECORD: &str = "1310720";
/// How long a topic keeps a message: longer than a broker is away for a restart.
pub(super) const RETENTION_MS: &str = "60000";

/// What a topic is created with. Messages are removed by whole segments, of which the last is in use: it has to end for
/// its messages to go.
pub(super) const TOPIC: [(&str, &str); 7] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", RETENTION_MS),
    ("segment.ms", RETENTION_MS),
    ("retention.bytes", "268435456"),
    ("segment.bytes", "33554432"),
    ("max.message.bytes", MAX_RECORD),
    // Retention goes by the broker's clock, whatever the nodes' clocks say.
    ("message.timestamp.type", "LogAppendTime"),
];

/// Checks and tidies `bus.kafka.brokers`.
pub(super) fn brokers(given: &str) -> Result<String, BusError> {
    let addresses: Vec<&str> = given.split(',').map(str::trim).collect();
    match addresses.iter().find(|address| !is_address(address)) {
        None => Ok(addresses.join(",")),
        Some(address) => {
            let (given, address) = (BrokerUrl::new(given), BrokerUrl::new(*address));
            let text = format!(
                "bus.kafka.brokers = \"{given}\": \"{address}\" is no address; write host:port, several joined by commas"
            );
            Err(BusError::new(BusErrorKind::Config, text))
        }
    }
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let six = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fits = match six {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(plain),
    };
    host_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// What all our clients have in common. They reconnect by themselves, which cannot be turned off; it is put off until
/// the link, which breaks with the first connection that does, has been given up.
pub(super) fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", "switchboard")
        .set("socket.connection.setup.timeout.ms", "2500")
        .set("socket.timeout.ms", "3000")
        .set("reconnect.backoff.ms", "2000")
        .set("reconnect.backoff.max.ms", "10000")
        .set("allow.auto.create.topics", "false")
        .set("enable.metrics.push", "false");
    config
}

/// What publishes. Retries of several requests in flight would change the order of messages, as would a leader that
/// moves, were the broker not told to watch the sequence: that is what `enable.idempotence` does.
pub(super) fn producer(brokers: &str) -> ClientConfig {
    let mut config = client(brokers);
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "0")
        .set("message.timeout.ms", "5000")
        .set("request.timeout.ms", "3000")
        .set("message.max.bytes", MAX_RECORD)
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "262144")
        .set("retry.backoff.ms", "50")
        // A broker may hear of a new topic a moment after the one that was asked about it.
        .set("topic.metadata.propagation.max.ms", "2000");
    config
}

/// What listens. A group has to be named for partitions to be assigned, though nothing is asked of it.
pub(super) fn consumer(brokers: &str) -> ClientConfig {
    let mut config = client(brokers);
    config
        .set("group.id", "switchboard")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A position that is no longer there must not become a silent leap.
        .set("auto.offset.reset", "error")
        // An answer comes at once when there are messages. This is how long anything else on the connection, and a new
        // subscription, may have to wait for the end of a request that finds none.
        .set("fetch.wait.max.ms", "25")
        .set("fetch.error.backoff.ms", "50")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.max.messages.kbytes", "16384");
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports() {
        assert_eq!(brokers("a:1, b-2.example:9092,[::1]:3").unwrap(), "a:1,b-2.example:9092,[::1]:3");
        for bad in ["", "a", "a:", "a:0", "a:65536", ":1", "a:1,", "a:1,,b:2", "kafka://a:1", "a b:1", "::1:9092"] {
            let error = brokers(bad).unwrap_err();
            assert_eq!(error.kind(), BusErrorKind::Config);
            assert!(
                error.to_string().contains("bus.kafka.brokers") && error.to_string().contains("host:port"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_password_among_the_addresses_is_not_shown() {
        for given in ["kafka://user:secret@host:1", "user:secret@host:1", "a:1,user:secret@host:1"] {
            let error = format!("{:?}", brokers(given).unwrap_err());
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_library_knows_our_settings() {
        for config in [client("a:1"), producer("a:1"), consumer("a:1")] {
            config.create_native_config().unwrap();
        }
    }
}
