//! Where the broker is, and as whom to come, from `mqtt://[user:password@]host[:port]`.

use crate::bus::config::{BrokerUrl, BusConfig, BusKind};
use crate::bus::{BusError, BusErrorKind};

const DEFAULT_PORT: u16 = 1883;

/// The broker of one section of the config.
#[derive(Clone)]
pub(super) struct Address {
    /// As it was given, for people.
    pub(super) url: BrokerUrl,
    /// The key of the config that has it.
    pub(super) key: &'static str,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl Address {
    /// Takes the address of the kind of broker that the config names.
    pub(super) fn of(config: &BusConfig) -> Result<Self, BusError> {
        let (url, key) = match config.kind {
            BusKind::Activemq => (&config.activemq.url, "bus.activemq.url"),
            _ => (&config.mqtt.url, "bus.mqtt.url"),
        };
        Self::new(url, key)
            .map_err(|reason| BusError::new(BusErrorKind::Config, format!("{key} = \"{url}\": {reason}")))
    }

    fn new(url: &BrokerUrl, key: &'static str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "write mqtt://[user:password@]host[:port]";
        if url.expose().starts_with("mqtts://") {
            return Err("this version does not speak TLS to MQTT brokers; use mqtt://");
        }
        let rest = url.expose().strip_prefix("mqtt://").ok_or(EXPECTED)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, place) =
            rest.rsplit_once('@').map_or((None, rest), |(credentials, place)| (Some(credentials), place));
        let (host, port) = host_and_port(place).ok_or(EXPECTED)?;
        let (user, password) = match credentials.map(|text| text.split_once(':').map_or((text, None), split)) {
            Some((user, password)) => (Some(decoded(user)?), password.map(decoded).transpose()?),
            None => (None, None),
        };
        Ok(Self { url: url.clone(), key, host: host.to_owned(), port, user, password })
    }
}

fn split<'a>((user, password): (&'a str, &'a str)) -> (&'a str, Option<&'a str>) {
    (user, Some(password))
}

fn host_and_port(place: &str) -> Option<(&str, u16)> {
    // The colons of an IPv6 address stand in brackets.
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (place, DEFAULT_PORT),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let fits = !host.is_empty() && !host.contains(['/', '?', '#', ' ']) && (bracketed || !host.contains(':'));
    fits.then_some((host, port))
}

/// Takes the `%40` of a password that holds an `@`, and the like, for what they mean.
fn decoded(text: &str) -> Result<String, &'static str> {
    const BROKEN: &str = "in the user and the password, write % as %25";
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or(BROKEN)?;
        bytes.push(byte);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| BROKEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::config::{ActivemqConfig, MqttConfig};

    fn of_kind(kind: BusKind, url: &str) -> BusConfig {
        let url = BrokerUrl::new(url);
        let activemq = ActivemqConfig { url: url.clone(), ..ActivemqConfig::default() };
        BusConfig { kind, activemq, mqtt: MqttConfig { url, ..MqttConfig::default() }, ..BusConfig::default() }
    }

    #[test]
    fn addresses_have_defaults_and_credentials_may_be_escaped() {
        for (url, host, port, user, password) in [
            ("mqtt://h", "h", 1883, None, None),
            ("mqtt://h:1/", "h", 1, None, None),
            ("mqtt://[::1]:2", "[::1]", 2, None, None),
            ("mqtt://[::1]", "[::1]", 1883, None, None),
            ("mqtt://u@h", "h", 1883, Some("u"), None),
            ("mqtt://u:p@ss/w:ord@h:3", "h", 3, Some("u"), Some("p@ss/w:ord")),
            ("mqtt://u%40x:100%25%C3%A4@h", "h", 1883, Some("u@x"), Some("100%ä")),
        ] {
            let address = Address::of(&of_kind(BusKind::Mqtt, url)).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!((address.host.as_str(), address.port), (host, port), "{url}");
            assert_eq!((address.user.as_deref(), address.password.as_deref()), (user, password), "{url}");
        }
    }

    #[test]
    fn a_broken_url_is_an_error_that_names_its_key_and_hides_the_password() {
        for (url, hint) in [
            ("mqtt://u:secret@host:port", "mqtt://[user"),
            ("mqtt://u:secret@", "mqtt://[user"),
            ("mqtt://u:secret@::1", "mqtt://[user"),
            ("mqtt://u:secret@host/path", "mqtt://[user"),
            ("mqtts://u:secret@host", "does not speak TLS"),
            ("mqtt://u:secret%@host", "%25"),
            ("tcp://u:secret@host", "mqtt://[user"),
        ] {
            for (kind, key) in [(BusKind::Mqtt, "bus.mqtt.url"), (BusKind::Activemq, "bus.activemq.url")] {
                let error = Address::of(&of_kind(kind, url)).err().expect(url);
                assert_eq!(error.kind(), BusErrorKind::Config);
                let text = error.to_string();
                assert!(text.contains(key) && text.contains(hint) && !text.contains("secret"), "{text}");
            }
        }
    }
}
