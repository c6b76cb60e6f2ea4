use std::fmt;

use serde::{Deserialize, Serialize};

/// Where the balancer reaches a node: `host:port`, the host a name, an IPv4 address or an IPv6 address in brackets.
///
/// The characters are restricted to those of names and addresses, so that one can stand in a balancer's config as it
/// is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeAddress(String);

/// Says why a text is no node address.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{0}` is no address of a node: write host:port, such as 127.0.0.1:6000 or [::1]:6000")]
pub struct InvalidNodeAddress(String);

impl NodeAddress {
    /// Checks and takes an address.
    pub fn new(text: &str) -> Result<Self, InvalidNodeAddress> {
        let fits = text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port));
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidNodeAddress(text.to_owned())) }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    (1..=253).contains(&host.len())
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for NodeAddress {
    type Error = InvalidNodeAddress;

    fn try_from(text: String) -> Result<Self, InvalidNodeAddress> {
        Self::new(&text)
    }
}

impl From<NodeAddress> for String {
    fn from(address: NodeAddress) -> String {
        address.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_and_a_port_are_an_address() {
        for good in ["127.0.0.1:6000", "node-a.chat.example:1", "[::1]:65535"] {
            assert!(NodeAddress::new(good).is_ok(), "{good:?}");
        }
        for bad in
            ["", ":6000", "a:", "a:0", "a:65536", "a:+1", "::1:6000", "[::1:6000", "a;b:1", "a b:1", "a{:1", "$a:1"]
        {
            assert!(NodeAddress::new(bad).is_err(), "{bad:?}");
        }
    }
}
