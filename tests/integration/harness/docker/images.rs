//! The images of containers that tests start; the compose files are held to them.

/// Redis 6 or newer.
pub(crate) const REDIS: &str = "redis:7-alpine";
/// RabbitMQ, with its HTTP API.
pub(crate) const RABBITMQ: &str = "rabbitmq:4-management";
/// Kafka without ZooKeeper.
pub(crate) const KAFKA: &str = "apache/kafka:4.1.0";
/// ActiveMQ Classic, with its MQTT listener.
pub(crate) const ACTIVEMQ: &str = "apache/activemq-classic:6.1.7";
/// NATS; there is nothing in it but the server.
pub(crate) const NATS: &str = "nats:2";
/// Any other MQTT broker.
pub(crate) const MOSQUITTO: &str = "eclipse-mosquitto:2";
/// PostgreSQL.
pub(crate) const POSTGRES: &str = "postgres:17-alpine";
/// MariaDB.
pub(crate) const MARIADB: &str = "mariadb:11";
