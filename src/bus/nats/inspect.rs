//! What a live NATS says of itself.

use std::net::IpAddr;

use async_nats::ServerInfo;

use super::{NatsBackend, suits};
use crate::bus::config::NatsConfig;
use crate::bus::{BusError, Inspection};

/// Reads what the server tells every client.
pub(in crate::bus) async fn inspect(config: &NatsConfig) -> Result<Inspection, BusError> {
    let (_thread, wire) = NatsBackend::new(config)?.open().await?;
    let server = wire.server_info();
    Ok(Inspection { version: Some(format!("NATS {}", server.version)), hazards: judge(&server) })
}

fn judge(server: &ServerInfo) -> Vec<String> {
    let mut hazards: Vec<String> = suits(server).err().map(|error| error.to_string()).into_iter().collect();
    if let Some(cluster) = &server.cluster {
        hazards.push(format!(
            "it is one of the cluster {cluster}, whose servers learn of a subscription a moment after the node that \
             made it, and miss what is published on them meanwhile: let bus.nats.url name the same servers in the same \
             order on every node, so that all nodes meet on one"
        ));
    }
    let reachable = !server.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if reachable && !server.auth_required {
        hazards.push(
            "it takes whoever reaches it for a node: give it an authorization block with a user and a password, and \
             name them in bus.nats.url"
                .to_owned(),
        );
    }
    hazards
}

#[cfg(test)]
mod tests {
    use super::super::MAX_PAYLOAD;
    use super::*;

    fn usual() -> ServerInfo {
        let host = "0.0.0.0".to_owned();
        ServerInfo { headers: true, auth_required: true, max_payload: MAX_PAYLOAD, host, ..ServerInfo::default() }
    }

    #[test]
    fn what_does_harm_is_a_hazard_with_what_to_set() {
        assert_eq!(judge(&usual()), Vec::<String>::new());
        let small = ServerInfo { max_payload: 65536, ..usual() };
        assert!(judge(&small)[0].contains("max_payload of NATS is 65536"));
        let old = ServerInfo { headers: false, version: "2.1.9".to_owned(), ..usual() };
        assert!(judge(&old)[0].contains("NATS 2.1.9"));
        let clustered = ServerInfo { cluster: Some("east".to_owned()), ..usual() };
        assert!(judge(&clustered)[0].contains("cluster east"));
        let open = ServerInfo { auth_required: false, ..usual() };
        assert!(judge(&open)[0].contains("authorization"));
        let local = ServerInfo { host: "127.0.0.1".to_owned(), ..open };
        assert_eq!(judge(&local), Vec::<String>::new());
    }
}
