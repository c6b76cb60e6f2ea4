use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::protocol::{Codec, Line, MAX_SERVER_FRAME, Request, ServerFrame};

/// How long a server may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How much is read at once. The buffer lives on the stack while it is needed, so an idle connection holds none.
const READ_AT_ONCE: usize = 16 * 1024;

/// A framed socket: requests out, frames in. No login, no retry, no memory of what was said.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    codec: Codec,
    out: Vec<u8>,
    /// How much of `out` the socket has taken.
    written: usize,
}

impl Connection {
    /// Connects to `HOST:PORT`.
    pub async fn connect(server: &str) -> io::Result<Self> {
        let stream = timeout(CONNECT_WITHIN, TcpStream::connect(server))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("{server} did not accept in time")))??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, codec: Codec::new(MAX_SERVER_FRAME), out: Vec::new(), written: 0 })
    }

    /// Writes a request to the end.
    pub async fn send(&mut self, request: &Request) -> io::Result<()> {
        self.out.extend_from_slice(&request.to_line());
        self.flush().await
    }

    /// Waits for the next frame; `None`: the server closed the connection. Frames of a type that this version does not
    /// know are passed over. Cancel-safe.
    pub async fn next(&mut self) -> io::Result<Option<ServerFrame>> {
        while let Some(line) = self.next_line().await? {
            if let Some(frame) = parse(&line)? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Waits for the next line; `None`: the server closed the connection. Cancel-safe.
    pub async fn next_line(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(line) = self.buffered_line()? {
                return Ok(Some(line));
            }
            self.stream.readable().await?;
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Returns the next line that has already been read.
    pub(crate) fn buffered_line(&mut self) -> io::Result<Option<Bytes>> {
        match self.codec.next_line() {
            Some(Line::Frame(line)) => Ok(Some(line)),
            Some(Line::TooLong | Line::Endless) => Err(garbled("a frame is longer than 1 MiB")),
            None => Ok(None),
        }
    }

    /// Returns the bytes that are to be written.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Returns how many bytes wait to be written.
    pub(crate) fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    /// Waits until the socket may be read (if `read`) or written (if anything is to be written). Cancel-safe.
    pub(crate) async fn ready(&self, read: bool) -> io::Result<tokio::io::Ready> {
        let interest = match (read, self.unwritten() > 0) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => return std::future::pending().await,
        };
        self.stream.ready(interest).await
    }

    /// Reads what the socket has, up to a bound; `false`: the server closed the connection.
    pub(crate) fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; READ_AT_ONCE];
        loop {
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.codec.extend(&chunk[..count]);
                    if count < READ_AT_ONCE || self.codec.buffered() >= 4 * READ_AT_ONCE {
                        return Ok(true);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Writes as much as the socket takes now.
    pub(crate) fn try_flush(&mut self) -> io::Result<()> {
        while self.unwritten() > 0 {
            match self.stream.try_write(&self.out[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.written > 0 {
            // An idle connection holds no buffer.
            self.out = Vec::new();
            self.written = 0;
        }
        Ok(())
    }

    /// Writes everything.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        loop {
            self.try_flush()?;
            if self.unwritten() == 0 {
                return Ok(());
            }
            self.stream.writable().await?;
        }
    }
}

/// Reads a frame; `None`: a type that this version does not know, which a newer server may send.
pub(crate) fn parse(line: &[u8]) -> io::Result<Option<ServerFrame>> {
    match ServerFrame::parse(line) {
        Ok(frame) => Ok(Some(frame)),
        Err(_) if serde_json::from_slice::<Typed<'_>>(line).is_ok() => Ok(None),
        Err(e) => Err(garbled(e)),
    }
}

#[derive(serde::Deserialize)]
#[allow(dead_code, reason = "only whether it is there matters")]
struct Typed<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
}

pub(crate) fn garbled(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
