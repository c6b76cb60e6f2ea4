//! One connection: bytes stop here.
//!
//! One task owns the socket and does everything for it: it reads, runs at most one request that takes time, and writes.
//! The reader never waits for the writer. An idle connection holds no buffer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Buf;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Duration, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::dialogue::Dialogue;
use super::framing::{Framing, Heard, Lines, Piece};
use crate::protocol::CloseReason;
use crate::server::core::Core;

/// Read at once.
const READ_BYTES: usize = 16 * 1024;

/// Written at once.
const WRITE_FRAMES: usize = 64;
const WRITE_BYTES: usize = 256 * 1024;

/// How long a client may take to close its side when the server has closed its own.
const LET_GO: Duration = Duration::from_secs(5);

thread_local! {
    /// Lent to whichever connection reads on this thread, so that none holds a buffer of its own.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Serves a TCP connection until either side closes it, or nobody has logged in when the node stops. The token is given
/// back when nothing more is written.
pub(super) async fn run(core: Arc<Core>, stream: TcpStream, stop: CancellationToken, serving: TaskTrackerToken) {
    serve(core, stream, Lines::new(), stop, serving).await;
}

/// Serves a connection with any framing.
pub(super) async fn serve<F: Framing>(
    core: Arc<Core>,
    stream: TcpStream,
    framing: F,
    stop: CancellationToken,
    serving: TaskTrackerToken,
) {
    let (dialogue, unsent) = (Dialogue::new(core, stop), VecDeque::new());
    let connection = Connection { dialogue, stream, framing, unsent, over: false, _serving: serving };
    if let Some(stream) = connection.serve().await {
        let_go(stream).await;
    }
}

/// Closes a connection on which everything is written. What the client still sends is thrown away: a socket that closes
/// with bytes unread resets the connection, and the last frames are lost on their way.
async fn let_go(mut stream: TcpStream) {
    let reading = async {
        stream.shutdown().await?;
        loop {
            stream.readable().await?;
            match SCRATCH.with_borrow_mut(|scratch| stream.try_read(scratch)) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    };
    match timeout(LET_GO, reading).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client went before it had read the end"),
        Err(_) => tracing::debug!("a client does not close its side"),
    }
}

struct Connection<F> {
    dialogue: Dialogue,
    stream: TcpStream,
    framing: F,
    unsent: VecDeque<Piece>,
    /// The client has ended the connection, or made it unreadable.
    over: bool,
    /// The last field: it is given back when the session is over.
    _serving: TaskTrackerToken,
}

enum Woken {
    Readable,
    Writable,
    Other,
    Time,
}

impl<F: Framing> Connection<F> {
    /// Runs until there is nothing more to do. Returns the stream when all of it was done, so that it can be closed in
    /// order; the session is over by then.
    async fn serve(mut self) -> Option<TcpStream> {
        loop {
            self.take_frames();
            while self.dialogue.step() {
                self.take_frames();
            }
            if self.write().is_err() {
                return None;
            }
            if self.over || self.dialogue.is_over(self.has_unsent()) {
                return Some(self.stream);
            }
            if self.dialogue.may_step() {
                // Writing has made room for what had to wait, and nothing else would come back to it.
                continue;
            }
            let unsent = self.has_unsent();
            let (deadline, reads) = (self.dialogue.deadline(unsent), self.dialogue.reads());
            let outbox = Arc::clone(self.dialogue.outbox());
            let woken = tokio::select! {
                biased;
                () = self.dialogue.stirred() => Woken::Other,
                () = outbox.changed() => Woken::Other,
                ready = self.stream.writable(), if unsent => if ready.is_ok() { Woken::Writable } else { return None },
                ready = self.stream.readable(), if reads => if ready.is_ok() { Woken::Readable } else { return None },
                () = sleep_until(deadline) => Woken::Time,
            };
            match woken {
                Woken::Readable => {
                    if self.read().is_err() {
                        return None;
                    }
                }
                Woken::Writable | Woken::Other => {}
                Woken::Time => {
                    if self.dialogue.check_time(unsent) {
                        return None;
                    }
                }
            }
        }
    }

    /// Takes frames out of the bytes, as many as may wait.
    fn take_frames(&mut self) {
        while self.dialogue.has_room() {
            match self.framing.next() {
                None => return,
                Some(Heard::Frame(bytes, request)) => self.dialogue.offer(bytes, request),
                Some(Heard::Endless) => return self.dialogue.outbox().close(CloseReason::TooLarge, 0, None),
                Some(Heard::Over) => {
                    self.over = true;
                    return;
                }
            }
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let read = SCRATCH.with_borrow_mut(|scratch| {
            let read = self.stream.try_read(scratch);
            if let Ok(count) = read {
                self.framing.extend(&scratch[..count]);
            }
            read
        });
        match read {
            Ok(0) => self.dialogue.ended(),
            Ok(_) => self.dialogue.heard(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes what is queued until the socket takes no more. Frames that wait together leave in one write.
    fn write(&mut self) -> io::Result<()> {
        loop {
            self.fill();
            if self.unsent.is_empty() {
                if self.unsent.capacity() > WRITE_FRAMES {
                    self.unsent = VecDeque::new();
                }
                self.dialogue.written();
                return Ok(());
            }
            let mut slices = [IoSlice::new(&[]); WRITE_FRAMES];
            let count = self.unsent.len().min(WRITE_FRAMES);
            for (slice, piece) in slices.iter_mut().zip(&self.unsent) {
                *slice = IoSlice::new(&piece.bytes);
            }
            match self.stream.try_write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    let paid = self.forget(written);
                    self.dialogue.outbox().written(paid);
                    self.dialogue.written();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what waits to be written, behind what is unsent.
    fn fill(&mut self) {
        let Self { dialogue, framing, unsent, .. } = self;
        if unsent.len() >= WRITE_FRAMES {
            return;
        }
        unsent.extend(framing.aside().map(Piece::aside));
        let outbox = dialogue.outbox();
        outbox.take_each(WRITE_FRAMES - unsent.len(), WRITE_BYTES, |frame| framing.wrap(frame, unsent));
        if outbox.is_sealed()
            && outbox.is_drained()
            && let Some(reason) = outbox.closing()
        {
            unsent.extend(framing.farewell(reason).map(Piece::aside));
        }
    }

    fn has_unsent(&self) -> bool {
        !self.unsent.is_empty() || self.framing.owes_farewell() && self.dialogue.outbox().is_sealed()
    }

    /// Drops what is written, and returns what that pays back to the outbox.
    fn forget(&mut self, mut written: usize) -> usize {
        let mut paid = 0;
        while let Some(piece) = self.unsent.front_mut() {
            if piece.bytes.len() > written {
                piece.bytes.advance(written);
                let part = written.min(piece.owes);
                piece.owes -= part;
                return paid + part;
            }
            written -= piece.bytes.len();
            paid += piece.owes;
            self.unsent.pop_front();
        }
        paid
    }
}
