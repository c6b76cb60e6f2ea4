//! Who is who in a chat log: nicks come, change and return, users stay.

use std::collections::{HashMap, HashSet};

use super::irc::{Event, Log};
use crate::model::{MAX_NAME_CHARS, Name};

/// Everybody who says something in a log, and what they say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cast {
    /// The users' names, in the order in which they first speak.
    pub names: Vec<Name>,
    /// Everything that is said, in order.
    pub lines: Vec<Spoken>,
}

/// One thing that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spoken {
    /// Who, as an index into the names.
    pub user: usize,
    /// The minute of the day, where known.
    pub at: Option<u32>,
    /// The text; of an action `* ` and what was done.
    pub text: String,
}

/// Follows nicks through a log.
///
/// A rename keeps its user, however long the chain and whether or not it leads back. A nick that is taken over by a
/// rename belongs to the one who took it: on IRC nobody else can have it at that moment, so its former holder is gone,
/// whatever the log shows. A nick that nobody holds goes to whom it belonged last, or else to the user who is named
/// after it, unless that one is present under another nick; then it is somebody new. Nicks that fold to the same name
/// are one.
#[derive(Debug, Default)]
struct Nicks {
    people: Vec<Person>,
    /// Who holds a nick now.
    holders: HashMap<String, usize>,
    /// Who held a nick last, and who was first to have it.
    last: HashMap<String, usize>,
    first: HashMap<String, usize>,
}

#[derive(Debug, Default)]
struct Person {
    /// The nick held now.
    nick: Option<String>,
    /// The place among the names, once they have spoken.
    user: Option<usize>,
}

impl Cast {
    /// Finds out who says what. Joins and parts only tell who holds which nick.
    pub fn of(log: &Log) -> Self {
        let mut cast = Self::default();
        let mut nicks = Nicks::default();
        let mut taken = HashSet::new();
        for line in &log.lines {
            let (nick, text) = match &line.event {
                Event::Said { nick, text } => (nick, text.clone()),
                Event::Action { nick, text } => (nick, format!("* {text}")),
                Event::Renamed { from, to } => {
                    nicks.rename(&fold(from), fold(to));
                    continue;
                }
                Event::Joined { nick } => {
                    nicks.person(&fold(nick));
                    continue;
                }
                Event::Left { nick } => {
                    nicks.leave(&fold(nick));
                    continue;
                }
            };
            let person = nicks.person(&fold(nick));
            let user = *nicks.people[person].user.get_or_insert_with(|| {
                cast.names.push(free_name(nick, &mut taken));
                cast.names.len() - 1
            });
            cast.lines.push(Spoken { user, at: line.at, text });
        }
        cast
    }
}

impl Nicks {
    fn person(&mut self, nick: &str) -> usize {
        if let Some(&holder) = self.holders.get(nick) {
            return holder;
        }
        let known = [self.last.get(nick), self.first.get(nick)];
        let returned = known.into_iter().flatten().find(|&&person| self.people[person].nick.is_none()).copied();
        let person = returned.unwrap_or_else(|| {
            self.people.push(Person::default());
            self.people.len() - 1
        });
        self.hold(person, nick.to_owned());
        person
    }

    fn rename(&mut self, from: &str, to: String) {
        let person = self.person(from);
        self.leave(from);
        self.leave(&to);
        self.hold(person, to);
    }

    fn leave(&mut self, nick: &str) {
        if let Some(person) = self.holders.remove(nick) {
            self.people[person].nick = None;
        }
    }

    fn hold(&mut self, person: usize, nick: String) {
        self.people[person].nick = Some(nick.clone());
        self.first.entry(nick.clone()).or_insert(person);
        self.last.insert(nick.clone(), person);
        self.holders.insert(nick, person);
    }
}

fn fold(nick: &str) -> String {
    Name::new(nick).map_or_else(|_| nick.to_lowercase(), |name| name.fold())
}

/// Makes a name of a nick: what a name may not hold becomes `_`, what is too long is cut, and what is taken gets a
/// number.
fn free_name(nick: &str, taken: &mut HashSet<String>) -> Name {
    for attempt in 1_u64.. {
        let suffix = if attempt == 1 { String::new() } else { format!("~{attempt}") };
        // Normalizing may make one character many, so the room is found by trying.
        for room in (1..=MAX_NAME_CHARS - suffix.len()).rev() {
            let plain = nick.chars().map(|c| if c.is_whitespace() || c.is_control() { '_' } else { c });
            let text: String = plain.take(room).chain(suffix.chars()).collect();
            match Name::new(&text) {
                Ok(name) if taken.insert(name.fold()) => return name,
                Ok(_) => break,
                Err(_) => {}
            }
        }
        if attempt == 2
            && Name::new(nick).is_err()
            && nick.chars().next().is_none_or(|c| Name::new(&c.to_string()).is_err())
        {
            return free_name("somebody", taken);
        }
    }
    unreachable!("one of 2^64 numbers is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns who says each line of a log.
    fn speakers(log: &str) -> Vec<String> {
        let cast = Cast::of(&Log::parse(log.as_bytes()));
        cast.lines.iter().map(|line| cast.names[line.user].to_string()).collect()
    }

    #[test]
    fn a_rename_keeps_its_user_through_chains_and_back() {
        let log =
            "<a> 1\n=== a is now known as b\n<b> 2\n=== b is now known as c\n<c> 3\n=== c is now known as a\n<a> 4";
        assert_eq!(speakers(log), ["a"; 4]);
    }

    #[test]
    fn a_nick_left_behind_by_a_rename_is_somebody_else_while_its_user_is_there() {
        let log = "<a> 1\n=== a is now known as b\n<a> 2\n<b> 3\n=== b is now known as c\n<a> 4\n<c> 5";
        assert_eq!(speakers(log), ["a", "a~2", "a", "a~2", "a"]);
    }

    #[test]
    fn a_nick_taken_over_belongs_to_who_took_it_and_returns_to_its_user() {
        let log = "<a> 1\n<b> 2\n=== b is now known as a\n<a> 3\n=== a is now known as b\n<a> 4\n<b> 5";
        assert_eq!(speakers(log), ["a", "b", "b", "a", "b"]);
    }

    #[test]
    fn who_leaves_and_returns_is_the_same_user() {
        let log =
            "<a> 1\n=== a is now known as b\n=== b has quit [x]\n<a> 2\n=== a has left #r\n=== b has joined #r\n<b> 3";
        assert_eq!(speakers(log), ["a"; 3]);
    }

    #[test]
    fn a_user_is_named_when_they_first_speak_and_the_silent_are_none() {
        let log = "=== c has joined #r\n=== x is now known as y\n<y> 1\n=== y is now known as z\n<z> 2";
        assert_eq!(Cast::of(&Log::parse(log.as_bytes())).names, [Name::new("y").unwrap()]);
        assert_eq!(speakers(log), ["y"; 2]);
    }

    #[test]
    fn nicks_that_differ_in_case_are_one_user() {
        assert_eq!(speakers("<Mia> 1\n<mIA> 2\n=== MIA is now known as mia\n<mia> 3"), ["Mia"; 3]);
    }

    #[test]
    fn nicks_that_are_no_names_become_names() {
        let long = "x".repeat(40);
        let log = format!("<a b> 1\n<a\tb> 2\n<{long}1> 3\n<{long}2> 4\n<\u{fdfa}> 5\n<\u{fdfa}\u{fdfa}> 6");
        let names = speakers(&log);
        assert_eq!(names[..2], ["a_b", "a_b~2"]);
        assert_eq!((names[2].len(), names[3].as_str()), (32, format!("{}~2", "x".repeat(30)).as_str()));
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 6, "{names:?}");
    }

    #[test]
    fn an_action_is_said_with_a_star() {
        let cast = Cast::of(&Log::parse(b"[10:00] * mia waves"));
        assert_eq!(cast.lines, [Spoken { user: 0, at: Some(600), text: "* waves".to_owned() }]);
    }
}
