//! The bus on real brokers.

#[cfg(feature = "mqtt")]
mod activemq;
#[cfg(feature = "mqtt")]
mod custom;
#[cfg(any(feature = "redis", feature = "rabbitmq", feature = "kafka", feature = "mqtt", feature = "nats"))]
mod docker;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(feature = "mqtt")]
mod mqtt_traps;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
#[cfg(feature = "redis")]
mod redis;
