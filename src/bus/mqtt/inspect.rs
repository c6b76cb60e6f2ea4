//! What a live broker says of itself, as far as MQTT has a way: Mosquitto and some others publish it below `$SYS`, and
//! ActiveMQ says nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::address::Address;
use super::connection::{Connection, Happening};
use crate::bus::config::BusConfig;
use crate::bus::{BusError, Inspection};

const VERSION: &str = "$SYS/broker/version";
const DROPPED: &str = "$SYS/broker/publish/messages/dropped";

/// Asks for the version, and for how much has been dropped.
pub(in crate::bus) async fn inspect(config: &BusConfig) -> Result<Inspection, BusError> {
    let told: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    let telling = Arc::clone(&told);
    let connection = Connection::open(&Address::of(config)?, move |happening| {
        if let Happening::Message { topic, payload, .. } = happening {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            telling.lock().unwrap_or_else(PoisonError::into_inner).insert(text(&topic), text(&payload));
        }
    })
    .await?;
    // A broker keeps what it last said there for whoever subscribes. It is on its way before the answer to whatever is
    // asked afterwards. Who may not subscribe is told nothing.
    connection.subscribe(&[VERSION.to_owned(), DROPPED.to_owned()]).await?;
    connection.ping().await?;
    connection.close().await?;
    let told = told.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(judge(&told))
}

fn judge(told: &HashMap<String, String>) -> Inspection {
    let dropped = told.get(DROPPED).and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
    let hazard = format!(
        "it has dropped {dropped} messages since its start, of any of its clients, because one did not keep up: set \
         max_queued_messages to 100000 or more (Mosquitto's default is 1000), and see which node is short of CPU"
    );
    Inspection {
        version: told.get(VERSION).map(|version| capitalized(version.trim())),
        hazards: (dropped > 0).then_some(hazard).into_iter().collect(),
    }
}

/// `mosquitto version 2.0.11` is the name and version of a program.
fn capitalized(version: &str) -> String {
    version
        .strip_prefix("mosquitto version ")
        .map_or_else(|| version.to_owned(), |number| format!("Mosquitto {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(told: &[(&str, &str)]) -> Inspection {
        judge(&told.iter().map(|(topic, text)| ((*topic).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn drops_are_a_hazard_and_a_broker_that_says_nothing_has_none() {
        assert_eq!(judged(&[]), Inspection::default());
        let sound = judged(&[(VERSION, "mosquitto version 2.0.11"), (DROPPED, "0")]);
        assert_eq!(sound, Inspection { version: Some("Mosquitto 2.0.11".to_owned()), hazards: Vec::new() });
        assert_eq!(judged(&[(VERSION, "5.8.0")]).version.as_deref(), Some("5.8.0"));
        let hazards = judged(&[(DROPPED, "17")]).hazards;
        assert!(hazards[0].contains("17 messages") && hazards[0].contains("max_queued_messages"), "{hazards:?}");
    }
}
