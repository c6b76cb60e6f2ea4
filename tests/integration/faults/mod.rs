//! What breaks is broken here, under traffic: brokers, nodes, databases and readers. Nothing that was acknowledged is
//! lost, comes twice, or comes out of order.

mod broker;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod database;
mod drain;
mod node;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod redis;
mod rolling;
mod slow;
mod traffic;
