//! How frames lie in a stream of bytes: what differs between TCP and WebSocket.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::protocol::{CloseReason, Codec, ErrorCode, Line, MAX_CLIENT_LINE, Malformed, Request};

/// What a client's bytes have come to.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// A frame of so many bytes, which may be a request.
    Frame(usize, Result<Request, Malformed>),
    /// A frame is so long that its end is not worth waiting for. Nothing more comes.
    Endless,
    /// The client, or what it does to the framing, has ended the connection. Nothing more comes.
    Over,
}

/// Bytes for the socket, and what is paid back to the outbox when they are written.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// How many bytes of the outbox they stand for; fewer or more than there are bytes.
    pub(super) owes: usize,
}

impl Piece {
    /// Makes a piece that the outbox knows nothing of.
    pub(super) fn aside(bytes: Bytes) -> Self {
        Self { bytes, owes: 0 }
    }
}

/// Takes frames out of the bytes of a client, and puts those of the outbox into bytes.
///
/// It holds at most one frame of a client and what was read behind it, and nothing at all between frames.
pub(super) trait Framing {
    /// Takes bytes as they came from the socket.
    fn extend(&mut self, bytes: &[u8]);

    /// Returns what comes next, or `None` when more bytes are needed.
    fn next(&mut self) -> Option<Heard>;

    /// Queues a frame of the outbox, which ends in a newline.
    fn wrap(&self, frame: Bytes, unsent: &mut VecDeque<Piece>);

    /// Returns what the framing itself has to say. At most one thing waits; a newer one replaces it.
    fn aside(&mut self) -> Option<Bytes>;

    /// Returns what comes behind the last frame, once.
    fn farewell(&mut self, reason: CloseReason) -> Option<Bytes>;

    /// Tells whether [`farewell`](Self::farewell) is still to be said.
    fn owes_farewell(&self) -> bool;
}

/// A frame is a line.
#[derive(Debug)]
pub(super) struct Lines {
    codec: Codec,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { codec: Codec::new(MAX_CLIENT_LINE) }
    }
}

impl Framing for Lines {
    fn extend(&mut self, bytes: &[u8]) {
        self.codec.extend(bytes);
    }

    fn next(&mut self) -> Option<Heard> {
        Some(match self.codec.next_line()? {
            Line::Endless => Heard::Endless,
            Line::TooLong => {
                let message = format!("a line is at most {MAX_CLIENT_LINE} bytes long with its newline");
                Heard::Frame(0, Err(Malformed::line(ErrorCode::TooLarge, message)))
            }
            Line::Frame(line) => Heard::Frame(line.len(), Request::parse(&line)),
        })
    }

    fn wrap(&self, frame: Bytes, unsent: &mut VecDeque<Piece>) {
        let owes = frame.len();
        unsent.push_back(Piece { bytes: frame, owes });
    }

    fn aside(&mut self) -> Option<Bytes> {
        None
    }

    fn farewell(&mut self, _: CloseReason) -> Option<Bytes> {
        None
    }

    fn owes_farewell(&self) -> bool {
        false
    }
}
