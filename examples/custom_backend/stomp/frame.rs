//! STOMP 1.2 frames, and how they lie in the bytes: a command, headers, an empty line, a body, and a NUL.

use std::fmt::Display;

use bytes::{Buf, Bytes, BytesMut};

/// The longest command with headers that a broker may send, and its longest body. Ours are shorter.
const MAX_HEAD: usize = 16 * 1024;
const MAX_BODY: usize = 2 * 1024 * 1024;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) command: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// What came is no STOMP.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("what came is not STOMP 1.2: {0}")]
pub(crate) struct Garbled(&'static str);

impl Frame {
    pub(crate) fn new(command: &str) -> Self {
        Self { command: command.to_owned(), headers: Vec::new(), body: Bytes::new() }
    }

    pub(crate) fn with(mut self, header: &str, value: impl Display) -> Self {
        self.headers.push((header.to_owned(), value.to_string()));
        self
    }

    /// Adds a body, and its length: without one a body ends at its first NUL.
    pub(crate) fn body(self, body: Bytes) -> Self {
        let framed = self.with("content-length", body.len());
        Self { body, ..framed }
    }

    /// Returns a header; of a repeated one the first counts.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn write(&self, out: &mut BytesMut) {
        let mut head = format!("{}\n", self.command);
        for (name, value) in &self.headers {
            match self.is_escaped() {
                true => head += &format!("{}:{}\n", escape(name), escape(value)),
                false => head += &format!("{name}:{value}\n"),
            }
        }
        for part in [head.as_bytes(), b"\n", &self.body, b"\0"] {
            out.extend_from_slice(part);
        }
    }

    /// Takes the first frame out of what has been read; `None` while it is not complete.
    pub(crate) fn read(buffer: &mut BytesMut) -> Result<Option<Self>, Garbled> {
        // Line ends between frames are heart-beats.
        buffer.advance(buffer.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count());
        let (mut lines, mut at) = (Vec::new(), 0);
        loop {
            let Some(length) = buffer[at..].iter().position(|byte| *byte == b'\n') else {
                return if buffer.len() > MAX_HEAD { Err(Garbled("headers without an end")) } else { Ok(None) };
            };
            let line = &buffer[at..at + length];
            at += length + 1;
            match line.strip_suffix(b"\r").unwrap_or(line) {
                [] => break,
                line => lines.push(str::from_utf8(line).map_err(|_| Garbled("a header that is no text"))?),
            }
        }
        let mut frame = Self::new(lines.first().unwrap_or(&""));
        for line in lines.iter().skip(1) {
            let (name, value) = line.split_once(':').ok_or(Garbled("a header without a colon"))?;
            frame.headers.push(match frame.is_escaped() {
                true => (unescape(name)?, unescape(value)?),
                false => (name.to_owned(), value.to_owned()),
            });
        }
        let length = match frame.header("content-length") {
            Some(length) => Some(length.parse().map_err(|_| Garbled("a length that is no number"))?),
            None => buffer[at..].iter().position(|byte| *byte == 0),
        };
        if length.unwrap_or(buffer.len() - at) > MAX_BODY {
            return Err(Garbled("a body that is too long"));
        }
        let Some(end) = length.map(|length| at + length).filter(|end| *end < buffer.len()) else { return Ok(None) };
        if buffer[end] != 0 {
            return Err(Garbled("a body without a NUL behind it"));
        }
        frame.body = Bytes::copy_from_slice(&buffer[at..end]);
        buffer.advance(end + 1);
        Ok(Some(frame))
    }

    /// The two frames that begin a connection are as in STOMP 1.0, which had no escapes.
    fn is_escaped(&self) -> bool {
        !matches!(self.command.as_str(), "CONNECT" | "CONNECTED")
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\r', "\\r").replace('\n', "\\n").replace(':', "\\c")
}

fn unescape(text: &str) -> Result<String, Garbled> {
    let (mut plain, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(char) = chars.next() {
        plain.push(match (char, if char == '\\' { chars.next() } else { None }) {
            ('\\', Some('\\')) => '\\',
            ('\\', Some('r')) => '\r',
            ('\\', Some('n')) => '\n',
            ('\\', Some('c')) => ':',
            ('\\', _) => return Err(Garbled("an unknown escape")),
            (plain, _) => plain,
        });
    }
    Ok(plain)
}
