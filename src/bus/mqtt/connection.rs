//! The client library behind a few calls: one connection, which ends at its first error and never comes back.

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing, Packet,
    PublishOptions, QoS, StateError, SubscribeFilterInput, SubscribeReasonCode, mqttbytes,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::MAX_PAYLOAD;
use super::address::Address;
use crate::bus::{BusError, BusErrorKind};

/// What a packet has besides its payload: a topic of at most 120 bytes, lengths and an id.
const HEADER_ROOM: usize = 1024;
/// How many publishes may wait for their PUBACK; those behind them wait to be sent.
const IN_FLIGHT: u16 = 1024;
/// How many requests may wait for the connection's task before callers wait too.
const WAITING_REQUESTS: usize = 1024;
/// How many of them are written to the socket together.
const REQUEST_BATCH: usize = 128;
/// After one and a half times these seconds without a packet from us, the broker cuts the connection, and forgets what
/// it has queued for it. We ping each second, so this hits only a node that stands still, and tells it so.
const KEEP_ALIVE_SECONDS: u16 = 3;
/// A topic that is nobody's: no subject has an exclamation mark.
const PING_TOPIC: &str = "switchboard/ping!";

/// What a connection tells its owner, on the connection's own task: nothing may wait there.
pub(super) enum Happening {
    /// A message arrived.
    Message {
        /// On which topic.
        topic: Bytes,
        /// What.
        payload: Bytes,
        /// The broker had kept it from before we subscribed.
        retained: bool,
    },
    /// The connection is no more. Nothing comes after this.
    Broken(BusError),
}

/// A connection to a broker, with a session that ends with it. Dropping it closes it.
pub(super) struct Connection {
    client: AsyncClient,
    ended: CancellationToken,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    /// Connects, and waits for the broker's welcome.
    pub(super) async fn open(
        address: &Address,
        happened: impl FnMut(Happening) + Send + 'static,
    ) -> Result<Self, BusError> {
        let (client, mut events) = client(address)?;
        // The first poll connects.
        events.poll().await.map_err(|error| refusal(error, address.key))?;
        let ended = CancellationToken::new();
        let driver = tokio::spawn(drive(events, happened, ended.clone()));
        Ok(Self { client, ended, _driver: AbortOnDropHandle::new(driver) })
    }

    /// Subscribes to topics and tells of each whether the broker has granted it.
    ///
    /// With QoS 0, whatever the publisher has: the connection's own flow control holds the broker back when we are
    /// slow. With QoS 1 Mosquitto has at most 20 messages on the way to us and drops what it cannot queue behind them,
    /// and what it resends after a break belongs to a session that is gone.
    pub(super) async fn subscribe(&self, topics: &[String]) -> Result<Vec<bool>, BusError> {
        let filters = topics.iter().map(|topic| SubscribeFilterInput::new(topic.as_str(), QoS::AtMostOnce));
        let notice = self.client.subscribe_many_tracked(filters).await.map_err(ended)?;
        let answer = notice.wait_async().await.map_err(ended)?;
        Ok(answer.return_codes.iter().map(|code| !matches!(code, SubscribeReasonCode::Failure)).collect())
    }

    /// Ends subscriptions.
    pub(super) async fn unsubscribe(&self, topics: &[String]) -> Result<(), BusError> {
        let notice = self.client.unsubscribe_many_tracked(topics.iter().map(String::as_str)).await.map_err(ended)?;
        notice.wait_async().await.map_err(ended)?;
        Ok(())
    }

    /// Publishes in order, and returns what came of each: confirmed by the broker's PUBACK (QoS 1), or else written to
    /// the socket (QoS 0).
    pub(super) async fn publish(
        &self,
        messages: impl ExactSizeIterator<Item = (String, Bytes)>,
        confirmed: bool,
    ) -> Vec<Result<(), BusError>> {
        let options = PublishOptions::new(if confirmed { QoS::AtLeastOnce } else { QoS::AtMostOnce });
        let mut notices = Vec::with_capacity(messages.len());
        for (topic, payload) in messages {
            notices.push(self.client.publish_tracked(topic, payload, options).await);
        }
        let mut results = Vec::with_capacity(notices.len());
        for notice in notices {
            results.push(match notice {
                Ok(notice) => notice.wait_async().await.map(|_| ()).map_err(ended),
                Err(error) => Err(ended(error)),
            });
        }
        results
    }

    /// Waits for an answer of the broker. The library's own PINGREQ cannot be awaited; UNSUBSCRIBE of a topic that is
    /// not subscribed is answered by every broker, needs no right, and leaves nothing behind.
    pub(super) async fn ping(&self) -> Result<(), BusError> {
        self.unsubscribe(&[PING_TOPIC.to_owned()]).await
    }

    /// Takes leave of the broker.
    pub(super) async fn close(&self) -> Result<(), BusError> {
        self.client.disconnect().await.map_err(ended)?;
        self.ended.cancelled().await;
        Ok(())
    }
}

/// Makes the library's client, without those of its defaults that do harm: packets of 10 KiB at most, Nagle's algorithm, which
/// holds small packets back for 40 ms, and a system call for each publish.
pub(super) fn client(address: &Address) -> Result<(AsyncClient, EventLoop), BusError> {
    // An id of its own for each connection: a broker cuts the one that has it already. Up to 23 letters and digits are
    // what every broker takes.
    let id = format!("switchboard{:012x}", rand::random::<u64>() >> 16);
    let mut options = MqttOptions::new(id, (address.host.as_str(), address.port));
    match (&address.user, &address.password) {
        (Some(user), Some(password)) => options.set_credentials(user, Bytes::from(password.clone())),
        (Some(user), None) => options.set_username(user),
        (None, _) => &mut options,
    };
    options
        .set_clean_session(true)
        .set_keep_alive(KEEP_ALIVE_SECONDS)
        .set_max_packet_size(MAX_PAYLOAD + HEADER_ROOM, MAX_PAYLOAD + HEADER_ROOM)
        .set_inflight(IN_FLIGHT)
        .set_request_channel_capacity(WAITING_REQUESTS)
        .set_max_request_batch(REQUEST_BATCH);
    let broken =
        |error| BusError::new(BusErrorKind::Config, format!("{} cannot be used", address.key)).caused_by(error);
    let (client, mut events) = AsyncClient::builder(options).try_build().map_err(|error| broken(Box::new(error)))?;
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    events.set_network_options(network);
    Ok((client, events))
}

/// Drives a connection to its end. It is never polled again after an error, for then it would connect anew, without its
/// subscriptions, and send what was left.
async fn drive(mut events: EventLoop, mut happened: impl FnMut(Happening) + Send, ended: CancellationToken) {
    let _ended = ended.drop_guard();
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(message))) => happened(Happening::Message {
                topic: message.topic,
                payload: message.payload,
                retained: message.retain,
            }),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(error) => return happened(Happening::Broken(bus_error(error))),
        }
    }
}

/// A call found the connection's task gone.
pub(super) fn ended(error: impl std::error::Error + Send + Sync + 'static) -> BusError {
    BusError::new(BusErrorKind::Disconnected, "the connection to the broker ended").caused_by(error)
}

/// Says why there is no connection; `key` of the config has the address.
pub(super) fn refusal(error: ConnectionError, key: &str) -> BusError {
    use ConnectReturnCode::{BadUserNamePassword, NotAuthorized, RefusedProtocolVersion};
    use mqttbytes::Error::{InvalidConnectReturnCode, PayloadSizeIncorrect};

    let context = match &error {
        // A broker that has only MQTT 5 may answer as MQTT 5 has it.
        ConnectionError::ConnectionRefused(RefusedProtocolVersion)
        | ConnectionError::MqttState(StateError::Deserialization(InvalidConnectReturnCode(_) | PayloadSizeIncorrect)) => {
            "the broker refuses MQTT 3.1.1, the version that the bus speaks: allow it on this listener".to_owned()
        }
        ConnectionError::ConnectionRefused(BadUserNamePassword | NotAuthorized) => {
            format!("the broker refused the user and password in {key}")
        }
        ConnectionError::ConnectionRefused(_) => "the broker refused a connection".to_owned(),
        _ => return bus_error(error),
    };
    BusError::new(BusErrorKind::Rejected, context).caused_by(error)
}

fn bus_error(error: ConnectionError) -> BusError {
    let (kind, context) = match &error {
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => {
            (BusErrorKind::Timeout, "the broker did not answer in time")
        }
        _ => (BusErrorKind::Disconnected, "there is no connection to the broker"),
    };
    BusError::new(kind, context).caused_by(error)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::bus::Subject;
    use crate::bus::config::{BrokerUrl, BusConfig, BusKind, MqttConfig};

    /// Connects to a server that answers the first packet with one of its own, and ends. Returns what came of it and
    /// what the server was sent.
    async fn answered_with(answer: &'static [u8]) -> (Result<Connection, BusError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = BrokerUrl::new(format!("mqtt://user:secret@{}", listener.local_addr().unwrap()));
        let mqtt = MqttConfig { url, ..MqttConfig::default() };
        let address = Address::of(&BusConfig { kind: BusKind::Mqtt, mqtt, ..BusConfig::default() }).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut said = vec![0; 256];
            let length = stream.read(&mut said).await.unwrap();
            stream.write_all(answer).await.unwrap();
            said.truncate(length);
            said
        };
        tokio::join!(Connection::open(&address, |_| {}), serve)
    }

    #[test]
    fn a_ping_ends_nobodys_subscription() {
        assert!(Subject::new(&PING_TOPIC.replace('/', ".")).is_err());
    }

    #[tokio::test]
    async fn a_broker_that_refuses_our_version_of_mqtt_is_told_so() {
        // MQTT 3.1.1: unacceptable protocol version. MQTT 5: unsupported protocol version, without properties.
        for answer in [b"\x20\x02\x00\x01".as_slice(), b"\x20\x02\x00\x84", b"\x20\x03\x00\x84\x00"] {
            let error = answered_with(answer).await.0.err().unwrap();
            assert_eq!(error.kind(), BusErrorKind::Rejected, "{answer:?}: {error:?}");
            assert!(error.to_string().contains("refuses MQTT 3.1.1"), "{answer:?}: {error:?}");
        }
    }

    #[tokio::test]
    async fn a_wrong_password_is_told_so_and_not_shown() {
        for answer in [b"\x20\x02\x00\x04", b"\x20\x02\x00\x05"] {
            let (connected, said) = answered_with(answer).await;
            assert!(String::from_utf8_lossy(&said).contains("secret"), "it was sent");
            let error = connected.err().unwrap();
            assert_eq!(error.kind(), BusErrorKind::Rejected);
            assert!(error.to_string().contains("bus.mqtt.url"), "{error:?}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn every_connection_has_a_clean_session_a_short_keepalive_and_an_id_of_its_own() {
        let mut ids = std::collections::HashSet::new();
        for _ in 0..2 {
            let (_, said) = answered_with(b"\x20\x02\x00\x00").await;
            // Behind the fixed header: the protocol's name and level, flags, keepalive, and the id.
            let (flags, keep_alive, id) = (said[9], &said[10..12], &said[14..14 + usize::from(said[13])]);
            assert_eq!((flags & 0b10, keep_alive), (0b10, [0, 3].as_slice()));
            assert!(id.len() <= 23 && id.iter().all(u8::is_ascii_alphanumeric), "{id:?}");
            assert!(ids.insert(id.to_vec()), "two connections with one id cut each other off");
        }
    }
}
