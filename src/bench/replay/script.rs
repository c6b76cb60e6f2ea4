use std::time::Duration;

use super::super::cast::Cast;
use crate::model::Name;
use crate::protocol::MAX_BODY_BYTES;

/// How long a text may become when it is written as JSON, so that its request stays below the longest line.
const MAX_ESCAPED: usize = 120 * 1024;

/// A step back of the clock by more than this many minutes is midnight, not disorder.
const MIDNIGHT: u32 = 12 * 60;

const DAY: u32 = 24 * 60;

/// How fast a log is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many messages in a second, evenly.
    Rate(f64),
    /// The log's own minutes, so many times as fast. What was said in one minute is spread over it.
    Speed(f64),
}

/// Who says what, and when after the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// The users.
    pub(super) names: Vec<Name>,
    /// What they say, in order.
    pub(super) lines: Vec<Cue>,
    /// Texts that were too long for one message.
    pub cut: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cue {
    pub(super) user: usize,
    pub(super) at: Duration,
    pub(super) text: String,
}

impl Script {
    /// Makes a script of at most `limit` lines of a log. A text that is too long for one message becomes several.
    pub fn new(cast: Cast, pace: Pace, limit: Option<usize>) -> Self {
        let mut script = Self { names: cast.names, lines: Vec::new(), cut: 0 };
        let mut minutes = Vec::new();
        for line in cast.lines.into_iter().take(limit.unwrap_or(usize::MAX)) {
            let pieces = pieces(line.text);
            script.cut += usize::from(pieces.len() > 1);
            for text in pieces {
                minutes.push(line.at);
                script.lines.push(Cue { user: line.user, at: Duration::ZERO, text });
            }
        }
        let speakers = script.lines.iter().map(|line| line.user + 1).max().unwrap_or(0);
        script.names.truncate(speakers);
        let times = match pace {
            Pace::Rate(rate) => (0..script.lines.len()).map(|place| place as f64 / rate).collect(),
            Pace::Speed(speed) => seconds(&minutes).into_iter().map(|second| second / speed).collect::<Vec<_>>(),
        };
        for (line, time) in script.lines.iter_mut().zip(times) {
            line.at = Duration::from_secs_f64(time);
        }
        script
    }

    /// Returns how many users speak.
    pub fn users(&self) -> usize {
        self.names.len()
    }

    /// Returns how many messages they send.
    pub fn messages(&self) -> usize {
        self.lines.len()
    }
}

/// Returns the seconds since the first line at which each line was said: the lines of a minute evenly over it.
fn seconds(minutes: &[Option<u32>]) -> Vec<f64> {
    let mut absolute = Vec::with_capacity(minutes.len());
    let (mut day, mut last) = (0, None::<u32>);
    for minute in minutes {
        // A line without a time, or before its predecessor's, is said with its predecessor.
        if let Some(minute) = *minute {
            if last.is_some_and(|last| last % DAY >= minute + MIDNIGHT) {
                day += DAY;
            }
            last = last.max(Some(day + minute));
        }
        absolute.push(last.unwrap_or_else(|| minutes.iter().flatten().next().copied().unwrap_or(0)));
    }
    let begin = absolute.first().copied().unwrap_or(0);
    let together = absolute.chunk_by(|a, b| a == b);
    let spread = together.flat_map(|group| {
        let share = 60.0 / group.len() as f64;
        group.iter().enumerate().map(move |(place, &minute)| f64::from(minute - begin) * 60.0 + place as f64 * share)
    });
    spread.collect()
}

/// Cuts a text into what fits into a message.
fn pieces(text: String) -> Vec<String> {
    if text.len() * 6 <= MAX_ESCAPED.min(MAX_BODY_BYTES * 6) {
        return vec![text];
    }
    let mut pieces = vec![String::new()];
    let mut escaped = 0;
    for character in text.chars() {
        let cost = match character {
            '"' | '\\' => 2,
            '\0'..='\u{1f}' => 6,
            other => other.len_utf8(),
        };
        let piece = pieces.last_mut().expect("there is always one");
        if piece.len() + character.len_utf8() > MAX_BODY_BYTES || escaped + cost > MAX_ESCAPED {
            pieces.push(character.to_string());
            escaped = cost;
        } else {
            piece.push(character);
            escaped += cost;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::super::irc::Log;
    use super::*;
    use crate::protocol::{MAX_CLIENT_LINE, Request, RequestBody, SendTarget};

    fn script(log: &str, pace: Pace, limit: Option<usize>) -> Script {
        Script::new(Cast::of(&Log::parse(log.as_bytes())), pace, limit)
    }

    #[test]
    fn a_rate_spreads_messages_evenly() {
        let script = script("<a> 1\n<b> 2\n<a> 3\n<c> 4", Pace::Rate(200.0), Some(3));
        let at: Vec<_> = script.lines.iter().map(|line| (line.user, line.at.as_millis())).collect();
        assert_eq!(at, [(0, 0), (1, 5), (0, 10)]);
        assert_eq!(script.users(), 2, "who says nothing before the limit is no user");
    }

    #[test]
    fn a_speed_follows_the_clock_of_the_log() {
        let log = "<a> before\n[23:58] <a> 1\n[23:59] <a> 2\n[23:59] <a> 3\n[23:58] <a> late\n[00:01] <a> 4";
        let script = script(log, Pace::Speed(60.0), None);
        let at: Vec<_> = script.lines.iter().map(|line| line.at.as_millis()).collect();
        assert_eq!(at, [0, 500, 1000, 1333, 1666, 3000]);
    }

    #[test]
    fn long_texts_become_messages_that_fit() {
        let key = crate::model::Key::new(&"k".repeat(64)).unwrap();
        let to = crate::model::UserId::new(crate::model::MAX_ID).unwrap();
        for text in ["é".repeat(100_000), "\u{1}".repeat(70_000), "\"\\".repeat(40_000), "a".repeat(65_537)] {
            let pieces = pieces(text.clone());
            assert!(pieces.len() > 1);
            assert_eq!(pieces.concat(), text);
            for body in pieces {
                assert!(body.len() <= MAX_BODY_BYTES);
                let body = RequestBody::Send { key: key.clone(), target: SendTarget::User { to }, body };
                assert!(Request { id: None, body }.to_line().len() < MAX_CLIENT_LINE - 100);
            }
        }
        assert_eq!(pieces("a".repeat(65_536)).len(), 1);
        assert_eq!(pieces(String::new()), [""]);
    }
}
