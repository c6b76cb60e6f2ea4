use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Returns where an address that is listened on can be reached from this machine.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let host = match listen.ip() {
        IpAddr::V4(host) if host.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(host) if host.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        host => host,
    };
    SocketAddr::new(host, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        let at = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:7000"), "127.0.0.1:7000");
        assert_eq!(at("[::]:7000"), "[::1]:7000");
        assert_eq!(at("10.0.0.1:7000"), "10.0.0.1:7000");
    }
}
