//! Asks a node for a small page over HTTP.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;

/// How long a node may take to answer.
const WITHIN: Duration = Duration::from_secs(2);

/// More than any page that is asked for.
const LARGEST: u64 = 64 * 1024;

/// A page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Fetches a small page.
pub(crate) async fn get(address: impl ToSocketAddrs + Display, path: &str) -> io::Result<Answer> {
    let asking = async {
        let mut stream = TcpStream::connect(&address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LARGEST).read_to_end(&mut answer).await?;
        read(&String::from_utf8_lossy(&answer))
    };
    timeout(WITHIN, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn read(answer: &str) -> io::Result<Answer> {
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(unreadable)?;
    let mut words = head.split(' ');
    if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err(unreadable());
    }
    let status = words.next().and_then(|status| status.parse().ok()).ok_or_else(unreadable)?;
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = read("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n").unwrap();
        assert_eq!(answer, Answer { status: 200, body: "ok\n".to_owned() });
        for bad in ["", "HTTP/1.1 200 OK", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 fine\r\n\r\n"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
