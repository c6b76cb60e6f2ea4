//! WebSocket: a frame is a text message.
//!
//! The frames are read and written here and not by a library, so that a WebSocket is served by the same task as a TCP
//! connection, with the same bounds, and a message goes to every socket from the same bytes.

use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::connection;
use super::framing::{Framing, Heard, Piece};
use crate::protocol::{CloseReason, ENDLESS_FACTOR, ErrorCode, MAX_CLIENT_LINE, Malformed, Request, trimmed};
use crate::server::core::Core;

#[cfg(test)]
mod tests;

/// The longest message, in bytes. One that is longer is skipped; at so many times the length it is given up.
const MAX_MESSAGE: u64 = MAX_CLIENT_LINE as u64;
const ENDLESS_MESSAGE: u64 = MAX_MESSAGE * ENDLESS_FACTOR as u64;

/// The longest payload of a control frame.
const MAX_CONTROL: u64 = 125;

/// Serves a WebSocket once its HTTP connection has become one, as a TCP connection is served.
pub(crate) async fn run(core: Arc<Core>, upgrade: OnUpgrade, stop: CancellationToken, serving: TaskTrackerToken) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "a client went before its websocket began"),
    };
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(Parts { io, read_buf, .. }) => {
            let mut messages = Messages::new();
            messages.extend(&read_buf);
            connection::serve(core, io.into_inner(), messages, stop, serving).await;
        }
        Err(_) => tracing::error!("a websocket came over something that is no TCP connection"),
    }
}

/// A frame is a text message.
#[derive(Debug)]
pub(super) struct Messages {
    buffer: BytesMut,
    /// The frame whose payload is being read.
    frame: Option<Incoming>,
    message: Option<Message>,
    control: Vec<u8>,
    aside: Option<Bytes>,
    owes_farewell: bool,
    over: bool,
}

/// A frame of which only the payload is still to come.
#[derive(Debug)]
struct Incoming {
    opcode: OpCode,
    is_final: bool,
    mask: [u8; 4],
    left: u64,
}

/// A message of one or more frames.
#[derive(Debug)]
struct Message {
    is_text: bool,
    /// Nothing of a message that is binary or too long is kept.
    bytes: BytesMut,
    /// What its frames so far have announced.
    length: u64,
}

impl Messages {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            frame: None,
            message: None,
            control: Vec::new(),
            aside: None,
            owes_farewell: true,
            over: false,
        }
    }

    /// Takes a frame's header. Returns the end of the connection when there cannot be such a frame here.
    fn begin(&mut self, header: &FrameHeader, length: u64) -> Option<Heard> {
        let FrameHeader { is_final, rsv1, rsv2, rsv3, opcode, mask } = *header;
        let Some(mask) = mask.filter(|_| !(rsv1 || rsv2 || rsv3)) else {
            return Some(self.broken(CloseCode::Protocol));
        };
        match (opcode, &mut self.message) {
            (OpCode::Control(_), _) if is_final && length <= MAX_CONTROL => {}
            (OpCode::Data(Data::Continue), Some(message)) => message.length = message.length.saturating_add(length),
            (OpCode::Data(Data::Text | Data::Binary), message @ None) => {
                let is_text = opcode == OpCode::Data(Data::Text);
                *message = Some(Message { is_text, bytes: BytesMut::new(), length });
            }
            _ => return Some(self.broken(CloseCode::Protocol)),
        }
        if let Some(message) = &mut self.message
            && message.length > MAX_MESSAGE
        {
            message.bytes = BytesMut::new();
            if message.length > ENDLESS_MESSAGE {
                self.over = true;
                return Some(Heard::Endless);
            }
        }
        self.frame = Some(Incoming { opcode, is_final, mask, left: length });
        None
    }

    /// Takes what there is of a frame's payload. `None`: there is more to come.
    fn take_payload(&mut self) -> Option<Incoming> {
        let frame = self.frame.as_mut()?;
        let count = self.buffer.len().min(usize::try_from(frame.left).unwrap_or(usize::MAX));
        let mut part = self.buffer.split_to(count);
        for (at, byte) in part.iter_mut().enumerate() {
            *byte ^= frame.mask[at % 4];
        }
        frame.mask.rotate_left(count % 4);
        frame.left -= count as u64;
        match (frame.opcode, &mut self.message) {
            (OpCode::Control(_), _) => self.control.extend_from_slice(&part),
            (OpCode::Data(_), Some(message)) if message.is_text && message.length <= MAX_MESSAGE => {
                message.bytes.extend_from_slice(&part);
            }
            (OpCode::Data(_), _) => {}
        }
        self.release();
        self.frame.take_if(|frame| frame.left == 0)
    }

    /// Makes of a frame that is complete what it means, if it means anything.
    fn complete(&mut self, frame: &Incoming) -> Option<Heard> {
        if let OpCode::Control(control) = frame.opcode {
            let payload = std::mem::take(&mut self.control);
            return match control {
                Control::Ping => {
                    self.aside = Some(whole(Control::Pong, &payload));
                    None
                }
                Control::Close => Some(self.closed(&payload)),
                Control::Pong | Control::Reserved(_) => None,
            };
        }
        let Message { is_text, bytes, length } = self.message.take_if(|_| frame.is_final)?;
        if length > MAX_MESSAGE {
            let message = format!("a message is at most {MAX_MESSAGE} bytes long");
            return Some(Heard::Frame(0, Err(Malformed::line(ErrorCode::TooLarge, message))));
        }
        if !is_text {
            let message = "a frame is a text message, this one is binary";
            return Some(Heard::Frame(0, Err(Malformed::line(ErrorCode::BadFrame, message))));
        }
        if std::str::from_utf8(&bytes).is_err() {
            return Some(self.broken(CloseCode::Invalid));
        }
        let text = trimmed(bytes.freeze());
        (!text.is_empty()).then(|| Heard::Frame(text.len(), Request::parse(&text)))
    }

    /// Answers the client's close frame with its code.
    fn closed(&mut self, payload: &[u8]) -> Heard {
        let code = match payload {
            [] => None,
            &[high, low, ..] => Some(CloseCode::from(u16::from_be_bytes([high, low]))),
            [_] => Some(CloseCode::Protocol),
        };
        self.part(code.map(|code| if code.is_allowed() { code } else { CloseCode::Protocol }), "");
        Heard::Over
    }

    /// Ends a connection on which nothing more can be understood.
    fn broken(&mut self, code: CloseCode) -> Heard {
        self.part(Some(code), "");
        Heard::Over
    }

    fn part(&mut self, code: Option<CloseCode>, reason: &str) {
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend(u16::from(code).to_be_bytes());
            payload.extend(reason.as_bytes());
        }
        self.aside = Some(whole(Control::Close, &payload));
        self.owes_farewell = false;
        self.over = true;
    }

    /// Gives the memory back when nothing waits.
    fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

impl Framing for Messages {
    fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Option<Heard> {
        while !self.over {
            if self.frame.is_none() {
                let mut cursor = Cursor::new(&self.buffer);
                let header = FrameHeader::parse(&mut cursor);
                let bytes = cursor.position() as usize;
                match header {
                    Ok(None) => return None,
                    Err(_) => return Some(self.broken(CloseCode::Protocol)),
                    Ok(Some((header, length))) => {
                        self.buffer.advance(bytes);
                        if let Some(end) = self.begin(&header, length) {
                            return Some(end);
                        }
                    }
                }
            }
            let frame = self.take_payload()?;
            if let Some(heard) = self.complete(&frame) {
                return Some(heard);
            }
        }
        None
    }

    fn wrap(&self, mut frame: Bytes, unsent: &mut VecDeque<Piece>) {
        let owes = frame.len();
        frame.truncate(frame.trim_ascii_end().len());
        unsent.push_back(Piece::aside(header(OpCode::Data(Data::Text), frame.len()).into()));
        unsent.push_back(Piece { bytes: frame, owes });
    }

    fn aside(&mut self) -> Option<Bytes> {
        self.aside.take()
    }

    fn farewell(&mut self, reason: CloseReason) -> Option<Bytes> {
        if !self.owes_farewell {
            return None;
        }
        self.part(Some(CloseCode::from(reason.code())), reason.as_str());
        self.aside.take()
    }

    fn owes_farewell(&self) -> bool {
        self.owes_farewell
    }
}

fn header(opcode: OpCode, length: usize) -> Vec<u8> {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let mut bytes = Vec::with_capacity(header.len(length as u64));
    header.format(length as u64, &mut bytes).expect("a vector takes any bytes");
    bytes
}

/// Makes a control frame.
fn whole(control: Control, payload: &[u8]) -> Bytes {
    let mut bytes = header(OpCode::Control(control), payload.len());
    bytes.extend_from_slice(payload);
    bytes.into()
}
