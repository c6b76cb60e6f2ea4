//! From `bus.rabbitmq.url` to what the client library takes.

use lapin::uri::AMQPUri;

use crate::bus::config::BrokerUrl;
use crate::bus::{BusError, BusErrorKind};

/// Seconds. The broker cuts off a node from which it has heard nothing for twice as long, and drops what waits for it.
const HEARTBEAT: u16 = 10;

/// Bytes. For each of its two buffers the client library sets 32 frames aside, at every attempt to connect.
const FRAME: u32 = 32 * 1024;

const EXPECTED: &str = "write amqp://[user:password@]host[:port][/vhost]";

/// Checks a URL.
pub(super) fn parse(url: &BrokerUrl) -> Result<AMQPUri, BusError> {
    let broken = |reason: &str| BusError::new(BusErrorKind::Config, format!("bus.rabbitmq.url = \"{url}\": {reason}"));
    if url.expose().starts_with("amqps://") {
        return Err(broken("this version does not speak TLS to RabbitMQ; use amqp://"));
    }
    let Some(rest) = url.expose().strip_prefix("amqp://") else {
        return Err(broken(EXPECTED));
    };
    // The parser's own errors may hold the password.
    let mut uri: AMQPUri = url.expose().parse().map_err(|_| broken(EXPECTED))?;
    // It takes localhost for what it does not know: no host at all, and every IPv6 address.
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, _)) => uri.authority.host = address.to_owned(),
        None if host.is_empty() || host.starts_with(':') => return Err(broken(EXPECTED)),
        None => {}
    }
    if uri.vhost.is_empty() {
        return Err(broken("it names no virtual host; leave the last slash out, or write /%2f, for the default one"));
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    uri.query.frame_max.get_or_insert(FRAME);
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        let error = parse(&BrokerUrl::new(url)).unwrap_err();
        assert_eq!(error.kind(), BusErrorKind::Config);
        let text = format!("{error:?} {error}");
        assert!(!text.contains("secret") && text.contains("bus.rabbitmq.url"), "{text}");
        text
    }

    #[test]
    fn broken_urls_are_told_without_the_password() {
        assert!(refused("amqps://u:secret@host").contains("does not speak TLS"));
        assert!(refused("amqp://u:secret@host/").contains("/%2f"));
        for url in ["http://u:secret@host", "amqp://u:secret@host:port", "amqp://u:secret@", "amqp://u:secret@:5672"] {
            assert!(refused(url).contains("amqp://[user"), "{url}");
        }
    }

    #[test]
    fn what_is_left_out_is_the_default() {
        let uri = parse(&BrokerUrl::new("amqp://host")).unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()), ("host", 5672, "/"));
        assert_eq!(uri.query.heartbeat, Some(HEARTBEAT));
        let uri = parse(&BrokerUrl::new("amqp://u:p%40ss@h:1/v%2fh?heartbeat=2")).unwrap();
        assert_eq!((uri.authority.userinfo.password.as_str(), uri.vhost.as_str()), ("p@ss", "v/h"));
        assert_eq!((uri.authority.port, uri.query.heartbeat), (1, Some(2)));
    }

    #[test]
    fn an_ipv6_address_is_not_taken_for_localhost() {
        let uri = parse(&BrokerUrl::new("amqp://u:p@[fd00::5]:1234/v")).unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.authority.port), ("fd00::5", 1234));
    }
}
