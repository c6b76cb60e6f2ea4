//! What a live Redis says of itself.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError};

use super::{RedisBackend, bus_error};
use crate::bus::config::BrokerUrl;
use crate::bus::{BusError, Inspection};

/// What Redis ships with, below which a node that is held up for a moment is cut off: bytes at once, and bytes that
/// wait for a minute.
const HARD_LIMIT: u64 = 32 * 1024 * 1024;
const SOFT_LIMIT: u64 = 8 * 1024 * 1024;

/// Each node has two connections, and a rolling restart as many again.
const FEW_CLIENTS: u64 = 100;

/// Asks for the version and for the settings that matter.
pub(in crate::bus) async fn inspect(url: &BrokerUrl) -> Result<Inspection, BusError> {
    let client = RedisBackend::new(url)?.client;
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let connecting = client.get_multiplexed_async_connection_with_config(&config).await;
    let mut connection = connecting.map_err(bus_error)?;
    let server: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await.map_err(bus_error)?;
    let line = |name: &str| server.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let mut hazards = Vec::new();
    if line("redis_mode") == Some("cluster") {
        hazards.push(
            "it is a Redis Cluster, whose members pass every message on to all others: a single Redis, with a replica \
             and Sentinel, carries as much"
                .to_owned(),
        );
    }
    match settings(&mut connection).await {
        Ok(settings) => hazards.extend(judge(&settings)),
        Err(error) => hazards.push(format!(
            "its settings cannot be read ({error}): let the user run CONFIG GET, or check client-output-buffer-limit \
             and maxclients yourself"
        )),
    }
    Ok(Inspection { version: line("redis_version").map(|version| format!("Redis {version}")), hazards })
}

async fn settings(connection: &mut MultiplexedConnection) -> Result<HashMap<String, String>, RedisError> {
    let names = ["client-output-buffer-limit", "maxclients"];
    redis::cmd("CONFIG").arg("GET").arg(&names).query_async(connection).await
}

fn judge(settings: &HashMap<String, String>) -> Vec<String> {
    let mut hazards = Vec::new();
    let limits = settings.get("client-output-buffer-limit").and_then(|text| pubsub_limits(text));
    if let Some((hard, soft)) = limits {
        let advice = "set client-output-buffer-limit to \"pubsub 32mb 8mb 60\" or more";
        if hard == 0 && soft == 0 {
            hazards.push(format!(
                "client-output-buffer-limit has no bound for pubsub, so that a node that stops reading fills the \
                 broker's memory: {advice}"
            ));
        } else if (1..HARD_LIMIT).contains(&hard) || (1..SOFT_LIMIT).contains(&soft) {
            hazards.push(format!(
                "client-output-buffer-limit cuts off a subscriber for which {hard} bytes wait, or {soft} for a while: \
                 {advice}"
            ));
        }
    }
    let clients = settings.get("maxclients").and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    if clients < FEW_CLIENTS {
        hazards.push(format!("maxclients is {clients}, and every node needs two connections: set it to 10000"));
    }
    hazards
}

/// Takes the hard and the soft limit from `normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`.
fn pubsub_limits(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_whitespace().skip_while(|word| *word != "pubsub").skip(1);
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(limit: &str, clients: &str) -> Vec<String> {
        let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        judge(&HashMap::from([named("client-output-buffer-limit", limit), named("maxclients", clients)]))
    }

    #[test]
    fn limits_that_cut_nodes_off_or_none_at_all_are_hazards() {
        let usual = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        assert_eq!(judged(usual, "10000"), Vec::<String>::new());
        assert!(judged("normal 0 0 0 pubsub 1048576 0 0", "10000")[0].contains("1048576 bytes"));
        assert!(judged("pubsub 0 0 0", "10000")[0].contains("no bound"));
        assert!(judged(usual, "12")[0].contains("maxclients is 12"));
        assert_eq!(judge(&HashMap::new()), Vec::<String>::new());
    }
}
