use bytes::{Buf, Bytes, BytesMut};

/// The longest line a client may send, newline included.
pub const MAX_CLIENT_LINE: usize = 128 * 1024;

/// The longest frame a server sends, newline included.
pub const MAX_SERVER_FRAME: usize = 1024 * 1024;

/// A line without a newline, or a message without end, is given up after this many times the longest line.
pub(crate) const ENDLESS_FACTOR: usize = 8;

/// What the codec found in the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line, without its newline. Never empty.
    Frame(Bytes),
    /// A line longer than allowed was skipped; the next one is read as usual.
    TooLong,
    /// A line is so long that its end is not worth waiting for. Nothing more comes out of the codec.
    Endless,
}

/// Cuts a stream of bytes into lines.
///
/// It holds at most one line and what was read behind it, and nothing at all between lines, so that an idle connection
/// costs no buffer.
#[derive(Debug)]
pub struct Codec {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no newline.
    scanned: usize,
    max_line: usize,
    /// How many bytes of a line that is too long have been thrown away.
    skipped: Option<usize>,
    endless: bool,
}

impl Codec {
    /// Makes a codec for lines of at most `max_line` bytes, newline included.
    pub fn new(max_line: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, max_line, skipped: None, endless: false }
    }

    /// Takes bytes as they came from the socket.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns how many bytes wait in the codec.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the next line, or `None` when more bytes are needed.
    pub fn next_line(&mut self) -> Option<Line> {
        while !self.endless {
            let newline = self.buffer[self.scanned..].iter().position(|&b| b == b'\n').map(|at| at + self.scanned);
            match (newline, self.skipped) {
                (Some(end), Some(_)) => {
                    self.consume(end + 1);
                    self.skipped = None;
                    return Some(Line::TooLong);
                }
                (Some(end), None) if end + 1 > self.max_line => {
                    self.consume(end + 1);
                    return Some(Line::TooLong);
                }
                (Some(end), None) => {
                    let mut line = self.buffer.split_to(end + 1);
                    self.consume(0);
                    line.truncate(end);
                    let line = trimmed(line.freeze());
                    if !line.is_empty() {
                        return Some(Line::Frame(line));
                    }
                }
                (None, Some(skipped)) => {
                    let skipped = skipped + self.buffer.len();
                    self.consume(self.buffer.len());
                    self.skipped = Some(skipped);
                    self.endless = skipped > self.max_line.saturating_mul(ENDLESS_FACTOR);
                    return self.endless.then_some(Line::Endless);
                }
                (None, None) if self.buffer.len() >= self.max_line => {
                    self.skipped = Some(0);
                }
                (None, None) => {
                    self.scanned = self.buffer.len();
                    return None;
                }
            }
        }
        None
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.scanned = 0;
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

/// Cuts carriage returns and blanks off both ends.
pub(crate) fn trimmed(line: Bytes) -> Bytes {
    let trimmed = line.trim_ascii();
    if trimmed.len() == line.len() { line } else { line.slice_ref(trimmed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(codec: &mut Codec, bytes: &[u8]) -> Vec<Line> {
        codec.extend(bytes);
        std::iter::from_fn(|| codec.next_line()).collect()
    }

    fn frame(text: &'static str) -> Line {
        Line::Frame(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_line_may_come_in_pieces() {
        let mut codec = Codec::new(16);
        assert_eq!(lines(&mut codec, b"{\"a\""), []);
        assert_eq!(lines(&mut codec, b":1}\r\n\n\r\n{}\n{"), [frame("{\"a\":1}"), frame("{}")]);
        assert_eq!(codec.buffered(), 1);
        assert_eq!(lines(&mut codec, b"}\n"), [frame("{}")]);
        assert_eq!(codec.buffer.capacity(), 0, "an idle codec holds no buffer");
    }

    #[test]
    fn the_longest_line_passes_and_one_byte_more_does_not() {
        let mut codec = Codec::new(4);
        assert_eq!(lines(&mut codec, b"abc\nabcd\nxyz\n"), [frame("abc"), Line::TooLong, frame("xyz")]);
        assert_eq!(lines(&mut codec, b"abcd"), []);
        assert_eq!(lines(&mut codec, b"efgh"), []);
        assert_eq!(lines(&mut codec, b"i\nxyz\n"), [Line::TooLong, frame("xyz")]);
    }

    #[test]
    fn a_line_without_end_is_given_up_and_holds_no_memory() {
        let mut codec = Codec::new(4);
        let mut seen = Vec::new();
        for _ in 0..20 {
            seen.extend(lines(&mut codec, b"aaaa"));
            assert!(codec.buffered() <= 4 || codec.endless);
        }
        assert_eq!(seen, [Line::Endless]);
    }
}
