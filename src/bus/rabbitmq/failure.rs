//! From errors of the client library to errors of the bus.

use std::error::Error;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use crate::bus::{BusError, BusErrorKind};

/// Says why a connection was not opened.
pub(super) fn not_opened(error: lapin::Error) -> BusError {
    let (kind, context) = match protocol(&error) {
        Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
            (BusErrorKind::Rejected, "RabbitMQ refused the user and password in bus.rabbitmq.url")
        }
        Some(AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)) => {
            (BusErrorKind::Rejected, "RabbitMQ refused the virtual host in bus.rabbitmq.url")
        }
        Some(AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED)) | None => {
            (BusErrorKind::Disconnected, "there is no connection to RabbitMQ")
        }
        Some(_) => (BusErrorKind::Rejected, "RabbitMQ refused the connection"),
    };
    BusError::new(kind, context).caused_by(error)
}

/// Says why something that a link needs was refused.
pub(super) fn refused(error: lapin::Error) -> BusError {
    let context = match protocol(&error) {
        Some(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)) => {
            "the user in bus.rabbitmq.url needs permission to configure, write and read switchboard.*"
        }
        Some(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)) => {
            "the exchange switchboard exists with other properties: delete it, for it must be direct and durable"
        }
        Some(AMQPErrorKind::Soft(_)) => "RabbitMQ refused a command",
        _ => return lost(error),
    };
    BusError::new(BusErrorKind::Rejected, context).caused_by(error)
}

/// Says why a link is lost. A refusal is among the reasons: it closes the channel on which it was given.
pub(super) fn lost(error: lapin::Error) -> BusError {
    BusError::new(BusErrorKind::Disconnected, "the connection to RabbitMQ was lost").caused_by(error)
}

/// A resource alarm holds publishers back; the broker says which.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Alarm(String);

/// Says that the broker takes no messages.
pub(super) fn blocked(alarm: String) -> BusError {
    BusError::new(BusErrorKind::Rejected, "RabbitMQ takes no messages until its alarm ends").caused_by(Alarm(alarm))
}

/// Returns the alarm, if that is what an error is about.
pub(super) fn alarm(error: &BusError) -> Option<&str> {
    error.source()?.downcast_ref().map(|Alarm(alarm)| alarm.as_str())
}

fn protocol(error: &lapin::Error) -> Option<&AMQPErrorKind> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.kind()),
        _ => None,
    }
}
