//! What a live RabbitMQ says of itself.

use std::io;

use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::address;
use super::failure::alarm;
use super::publisher::Publisher;
use crate::bus::config::RabbitmqConfig;
use crate::bus::supervisor::{Incoming, Table};
use crate::bus::{BusError, BusErrorKind, Inspection};

/// The first bytes of a client, which the server answers with what it is.
const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";
/// What stands before the server's properties: the frame's type and channel, its size, the method and the protocol's
/// version.
const FRAME_HEADER: usize = 7;
const BEFORE_PROPERTIES: usize = 6;
/// More than any server says of itself.
const LONGEST_START: usize = 64 * 1024;

/// The oldest version that knows the types of queues.
const OLDEST: (u32, u32) = (3, 8);

/// Asks for the version, and whether it takes messages.
pub(in crate::bus) async fn inspect(config: &RabbitmqConfig) -> Result<Inspection, BusError> {
    let uri = address::parse(&config.url)?;
    let properties = properties(&uri).await.map_err(|error| {
        BusError::new(BusErrorKind::Disconnected, "RabbitMQ does not say what it is").caused_by(error)
    })?;
    let text = |name: &str| match properties.inner().get(name) {
        Some(AMQPValue::LongString(text)) => Some(text.to_string()),
        _ => None,
    };
    let version = text("version");
    let mut hazards: Vec<String> = version.as_deref().and_then(judge).into_iter().collect();
    let incoming = Incoming::new(Table::new().into(), 0);
    match Publisher::open(&uri, incoming).await {
        Ok(publisher) => publisher.close().await?,
        Err(error) => match alarm(&error) {
            Some(alarm) => hazards.push(format!(
                "it takes no messages, because it is {alarm}: give it more, or raise vm_memory_high_watermark or lower \
                 disk_free_limit"
            )),
            None => return Err(error),
        },
    }
    let product = text("product").unwrap_or_else(|| "a broker that speaks AMQP 0-9-1".to_owned());
    Ok(Inspection { version: version.map(|version| format!("{product} {version}")), hazards })
}

/// Begins a handshake, for the client library does not tell what the server says in it.
async fn properties(uri: &AMQPUri) -> io::Result<FieldTable> {
    let mut stream = TcpStream::connect((uri.authority.host.as_str(), uri.authority.port)).await?;
    stream.write_all(PROTOCOL_HEADER).await?;
    let mut header = [0; FRAME_HEADER];
    stream.read_exact(&mut header).await?;
    let [_, _, _, size @ ..] = header;
    let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
    if size > LONGEST_START {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut start = vec![0; size];
    stream.read_exact(&mut start).await?;
    let table = start.get(BEFORE_PROPERTIES..).and_then(|rest| parse_field_table(rest).ok());
    table.map(|(_, properties)| properties).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn judge(version: &str) -> Option<String> {
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    let parsed: (u32, u32) = (numbers.next()?, numbers.next()?);
    (parsed < OLDEST).then(|| {
        let (major, minor) = OLDEST;
        format!("RabbitMQ {version} is too old: use {major}.{minor} or newer")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_too_old_is_a_hazard() {
        assert!(judge("3.7.28").is_some_and(|hazard| hazard.contains("3.7.28 is too old")));
        for version in ["3.8.0", "3.10.8", "4.3.0-rc.1", "unknown"] {
            assert_eq!(judge(version), None);
        }
    }
}
