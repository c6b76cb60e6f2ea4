use switchboard::bus::{Inspection, inspect};

use super::mqtt_traps::{mqtt_traps, within};
use crate::harness::activemq::{Activemq, ActivemqServer};
use crate::harness::broker::{Place, config_of};
use crate::harness::server::Program;

switchboard::bus_contract!(contract, Place::<Activemq>::that);

mqtt_traps!(ActivemqServer);

#[tokio::test]
async fn activemq_tells_nothing_of_itself() {
    let Some(server) = ActivemqServer::shared().await else { return };
    let config = config_of(Activemq::KIND, Activemq::KEY, &server.url());
    assert_eq!(within(inspect(&config)).await.unwrap(), Inspection::default());
}
