//! Logs of IRC channels, as bots and clients write them, read byte by byte: not every byte of theirs is UTF-8.
//!
//! `[HH:MM] <nick> text`, `[HH:MM] * nick does`, `=== nick [host] has joined #channel`, `has left`, `has quit`, `=== a
//! is now known as b`,
//! `=== nick does` (older logs write actions so). The time may lack its brackets or have seconds; `***` and `-!-` stand
//! for `===` too.

use std::collections::HashSet;

/// How many numbers of skipped lines are kept.
const SHOWN: usize = 20;

/// A log, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// What happened, in order.
    pub lines: Vec<Line>,
    /// What was seen on the way.
    pub statistics: Statistics,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The number of its line in the file, from 1.
    pub number: usize,
    /// The minute of the day, where the line says it.
    pub at: Option<u32>,
    /// What happened.
    pub event: Event,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields say what they are")]
pub enum Event {
    /// Somebody said something; the text may be empty.
    Said { nick: String, text: String },
    /// Somebody did something; the text is what follows their nick.
    Action { nick: String, text: String },
    /// Somebody took another nick.
    Renamed { from: String, to: String },
    /// Somebody came.
    Joined { nick: String },
    /// Somebody left the channel or the network.
    Left { nick: String },
}

/// What a log consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Lines of the file, empty ones too.
    pub lines: usize,
    /// Lines with bytes that are not UTF-8, each replaced by U+FFFD.
    pub lossy: usize,
    /// Lines without anything on them.
    pub empty: usize,
    /// Lines of the channel's or the network's: modes, topics, notices.
    pub system: usize,
    /// Lines that are none of the known shapes.
    pub skipped: usize,
    /// The numbers of the first of those.
    pub skipped_lines: Vec<usize>,
}

/// A line before it is known who is a speaker.
enum Shape<'a> {
    Event(Event),
    /// `=== nick does`, if somebody of that nick is in the log, else a notice.
    Perhaps {
        nick: &'a str,
        text: &'a str,
    },
    System,
    Unknown,
}

impl Log {
    /// Reads a log.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut log = Self::default();
        let mut perhaps = Vec::new();
        let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let lines = body.split(|&byte| byte == b'\n').enumerate();
        for (number, raw) in lines.take_while(|_| !bytes.is_empty()).map(|(place, raw)| (place + 1, raw)) {
            log.statistics.lines += 1;
            let text = String::from_utf8_lossy(raw.strip_suffix(b"\r").unwrap_or(raw));
            log.statistics.lossy += usize::from(matches!(text, std::borrow::Cow::Owned(_)));
            // Some clients write a byte order mark into the first line.
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            if text.trim().is_empty() {
                log.statistics.empty += 1;
                continue;
            }
            let (at, rest) = time(text);
            match shape(rest) {
                Shape::Event(event) => log.lines.push(Line { number, at, event }),
                Shape::Perhaps { nick, text } => {
                    perhaps.push(log.lines.len());
                    let event = Event::Action { nick: nick.to_owned(), text: text.to_owned() };
                    log.lines.push(Line { number, at, event });
                }
                Shape::System => log.statistics.system += 1,
                Shape::Unknown => {
                    log.statistics.skipped += 1;
                    if log.statistics.skipped_lines.len() < SHOWN {
                        log.statistics.skipped_lines.push(number);
                    }
                }
            }
        }
        log.drop_notices(perhaps);
        log
    }

    /// Drops the candidates for actions whose first word is nobody's nick.
    fn drop_notices(&mut self, perhaps: Vec<usize>) {
        let candidates: HashSet<usize> = perhaps.into_iter().collect();
        let mut nicks = HashSet::new();
        for (place, line) in self.lines.iter().enumerate() {
            match &line.event {
                Event::Action { .. } if candidates.contains(&place) => {}
                Event::Renamed { from, to } => nicks.extend([from.to_lowercase(), to.to_lowercase()]),
                Event::Said { nick, .. }
                | Event::Action { nick, .. }
                | Event::Joined { nick }
                | Event::Left { nick } => {
                    nicks.insert(nick.to_lowercase());
                }
            }
        }
        let mut place = 0;
        let before = self.lines.len();
        self.lines.retain(|line| {
            let candidate = candidates.contains(&place);
            place += 1;
            !candidate || matches!(&line.event, Event::Action { nick, .. } if nicks.contains(&nick.to_lowercase()))
        });
        self.statistics.system += before - self.lines.len();
    }
}

/// Cuts the time off a line: `[09:03] `, `[09:03:59] ` or the same without brackets.
fn time(line: &str) -> (Option<u32>, &str) {
    let (stamp, rest) = match line.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((stamp, rest)) => (stamp, rest),
        None => line.split_once(' ').unwrap_or((line, "")),
    };
    let mut parts = stamp.split(':').map(|part| (part.len() == 2).then(|| part.parse::<u32>().ok()).flatten());
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Some(hour @ 0..24)), Some(Some(minute @ 0..60)), None | Some(Some(0..=60)), None) => {
            (Some(hour * 60 + minute), rest.strip_prefix(' ').unwrap_or(rest))
        }
        _ => (None, line),
    }
}

fn shape(rest: &str) -> Shape<'_> {
    if let Some(inner) = rest.strip_prefix('<') {
        let Some((nick, text)) = inner.split_once('>') else { return Shape::Unknown };
        let nick = nick.trim_start_matches([' ', '@', '+', '%', '&', '~']).trim_end();
        if nick.is_empty() {
            return Shape::Unknown;
        }
        let text = text.strip_prefix(' ').unwrap_or(text);
        return Shape::Event(Event::Said { nick: nick.to_owned(), text: text.to_owned() });
    }
    let trimmed = rest.trim_start();
    if let Some(notice) = ["=== ", "*** ", "-!- "].iter().find_map(|mark| trimmed.strip_prefix(mark)) {
        return notice_shape(notice);
    }
    if ["===", "***", "-!-"].contains(&trimmed.trim_end()) {
        return Shape::System;
    }
    match trimmed.strip_prefix("* ").map(split_nick) {
        Some((nick, text)) if !nick.is_empty() => {
            Shape::Event(Event::Action { nick: nick.to_owned(), text: text.to_owned() })
        }
        _ => Shape::Unknown,
    }
}

fn notice_shape(notice: &str) -> Shape<'_> {
    if let Some((from, to)) = notice.trim_end().split_once(" is now known as ")
        && !from.contains(char::is_whitespace)
        && !to.is_empty()
        && !to.contains(char::is_whitespace)
    {
        return Shape::Event(Event::Renamed { from: from.to_owned(), to: to.to_owned() });
    }
    let who = |end: usize| {
        // The host stands in brackets before the verb. Nicks may hold brackets themselves, but not blanks before them.
        let subject = notice[..end].trim_end();
        subject
            .rfind(" [")
            .or_else(|| subject.rfind(" ("))
            .map_or(subject, |host| subject[..host].trim_end())
            .to_owned()
    };
    for (verb, joined) in [(" has joined", true), (" has left", false), (" has quit", false)] {
        let found = notice.find(verb).filter(|&end| {
            let after = &notice[end + verb.len()..];
            !notice[..end].trim().is_empty() && (after.is_empty() || after.starts_with(' '))
        });
        // Without a host or a channel after it, it is more likely somebody telling what somebody has left.
        if let Some(end) = found
            && (notice[..end].trim_end().ends_with([']', ')']) || !notice[..end].trim().contains(' '))
        {
            let nick = who(end);
            return Shape::Event(if joined { Event::Joined { nick } } else { Event::Left { nick } });
        }
    }
    let (nick, text) = split_nick(notice);
    if nick.is_empty() || text.is_empty() || nick.contains('/') || nick.ends_with(':') {
        return Shape::System;
    }
    Shape::Perhaps { nick, text }
}

/// Cuts the first word off; the rest keeps its blanks but the first.
fn split_nick(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text.trim_end(), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(nick: &str, text: &str) -> Event {
        Event::Said { nick: nick.to_owned(), text: text.to_owned() }
    }

    fn action(nick: &str, text: &str) -> Event {
        Event::Action { nick: nick.to_owned(), text: text.to_owned() }
    }

    fn joined(nick: &str) -> Event {
        Event::Joined { nick: nick.to_owned() }
    }

    fn left(nick: &str) -> Event {
        Event::Left { nick: nick.to_owned() }
    }

    fn renamed(from: &str, to: &str) -> Event {
        Event::Renamed { from: from.to_owned(), to: to.to_owned() }
    }

    fn events(log: &str) -> Vec<Event> {
        Log::parse(log.as_bytes()).lines.into_iter().map(|line| line.event).collect()
    }

    #[test]
    fn each_known_shape_is_read() {
        for (line, event) in [
            ("[09:03] <mia> hello > there <x>", said("mia", "hello > there <x>")),
            ("[09:03] <mia>  two blanks ", said("mia", " two blanks ")),
            ("[09:03] <mia>", said("mia", "")),
            ("[09:03] <mia> ", said("mia", "")),
            ("[23:59:59] <@][op|x][> hi", said("][op|x][", "hi")),
            ("09:03 < mia> hi", said("mia", "hi")),
            ("<mia> hi", said("mia", "hi")),
            ("[04:48]  * mia sits and listens", action("mia", "sits and listens")),
            ("* mia", action("mia", "")),
            ("=== mia [n=m@host.example]  has joined #room", joined("mia")),
            ("=== [m] ia [n=m@host.example]  has joined #room", joined("[m] ia")),
            ("=== mia has joined #room", joined("mia")),
            ("=== mia [n=m@host.example]  has left #room [\"has joined\"]", left("mia")),
            ("-!- mia [m@host.example] has quit [Ping timeout]", left("mia")),
            ("*** mia (m@host.example) has quit (gone)", left("mia")),
            ("=== mia is now known as mia_away", renamed("mia", "mia_away")),
        ] {
            assert_eq!(events(line), [event], "{line}");
        }
    }

    #[test]
    fn times_are_minutes_of_the_day() {
        let at = |line: &str| Log::parse(line.as_bytes()).lines[0].at;
        assert_eq!(at("[00:00] <a> x"), Some(0));
        assert_eq!(at("[23:59:07] <a> x"), Some(23 * 60 + 59));
        assert_eq!(at("=== a has joined #b"), None);
        assert_eq!(time("[24:00] <a> x").0, None);
        assert_eq!(time("[1:2] <a> x").0, None);
    }

    #[test]
    fn a_notice_is_an_action_only_of_somebody_who_is_there() {
        let log = "=== mia wonders about kittens\n=== Topic for #room\n[09:00] <Mia> hi\n\
                   === mode/#room [+o mia]  by boss\n=== mia is now known as the queen\n===\n";
        let log = Log::parse(log.as_bytes());
        let found: Vec<_> = log.lines.iter().map(|line| (line.number, line.event.clone())).collect();
        assert_eq!(
            found,
            [
                (1, action("mia", "wonders about kittens")),
                (3, said("Mia", "hi")),
                (5, action("mia", "is now known as the queen"))
            ]
        );
        assert_eq!((log.statistics.system, log.statistics.skipped), (3, 0));
    }

    #[test]
    fn odd_bytes_are_replaced_and_counted() {
        let log = Log::parse(b"\xef\xbb\xbf[09:00] <m\xe9> caf\xe9\r\n\r\n[09:00] <b> \xff\xfe\x00\n");
        assert_eq!(log.lines[0].event, said("m\u{fffd}", "caf\u{fffd}"));
        assert_eq!(log.lines[1].event, said("b", "\u{fffd}\u{fffd}\0"));
        let Statistics { lines, lossy, empty, .. } = log.statistics;
        assert_eq!((lines, lossy, empty), (3, 2, 1));
    }

    #[test]
    fn what_is_no_line_of_a_log_is_counted_with_its_number() {
        let log = Log::parse(b"hello\n[09:00] <> x\n[09:00] <a> x\n[09:00] <unfinished\n[09:00] * \n[09:00]\n");
        assert_eq!(log.lines.len(), 1);
        assert_eq!((log.statistics.skipped, log.statistics.skipped_lines), (5, vec![1, 2, 4, 5, 6]));
        assert_eq!(Log::parse(b""), Log::default());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_log(bytes: Vec<u8>) {
            let log = Log::parse(&bytes);
            let Statistics { lines, empty, system, skipped, .. } = log.statistics;
            assert_eq!(lines, log.lines.len() + empty + system + skipped);
        }
    }
}
