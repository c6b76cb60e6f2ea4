use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

/// One step of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Limit {
        name: String,
        value: String,
    },
    Fill {
        name: String,
        count: usize,
    },
    Connect {
        client: String,
        node: usize,
    },
    Say {
        client: String,
        text: String,
    },
    /// The next frames of a client, in any order.
    Hear {
        client: String,
        frames: Vec<String>,
    },
    End {
        client: String,
        code: u16,
    },
    Quit {
        client: String,
    },
    Broker {
        up: bool,
    },
    Stop {
        node: usize,
    },
    Drain {
        node: usize,
    },
}

/// A step and the number of its line.
pub(super) type Numbered = (usize, Step);

/// Returns where the scripts are.
pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire")
}

/// Reads a script.
pub(super) fn read(name: &str) -> Vec<Numbered> {
    let path = folder().join(format!("{name}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&text).unwrap_or_else(|problem| panic!("{name}: {problem}"))
}

fn parse(text: &str) -> Result<Vec<Numbered>, String> {
    let lines: Vec<(usize, String)> = text.lines().enumerate().map(|(at, line)| (at + 1, line.to_owned())).collect();
    let mut steps: Vec<Numbered> = Vec::new();
    let mut open = None;
    for (number, line) in unrolled(lines)? {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        for text in spelled_out(line) {
            let any_order = text.split_once("<? ").filter(|(client, _)| is_name(client));
            let step = match any_order {
                Some((client, frame)) => Step::Hear { client: client.to_owned(), frames: vec![frame.to_owned()] },
                None => step(&text).ok_or_else(|| format!("line {number} says nothing known: {text}"))?,
            };
            match (steps.last_mut(), &step, any_order) {
                (Some((_, Step::Hear { client, frames })), Step::Hear { frames: more, .. }, Some((same, _)))
                    if open.as_deref() == Some(same) && client == same =>
                {
                    frames.extend(more.iter().cloned());
                }
                _ => steps.push((number, step)),
            }
            open = any_order.map(|(client, _)| client.to_owned());
        }
    }
    Ok(steps)
}

/// Repeats what stands between `each` and `done`.
fn unrolled(lines: Vec<(usize, String)>) -> Result<Vec<(usize, String)>, String> {
    let (mut lines, mut unrolled) = (VecDeque::from(lines), Vec::new());
    while let Some((number, line)) = lines.pop_front() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["each", variable, from, to] = words[..] else {
            unrolled.push((number, line));
            continue;
        };
        let end = lines.iter().position(|(_, line)| line.trim() == "done");
        let block: Vec<_> = lines.drain(..end.ok_or_else(|| format!("line {number}: no `done`"))?).collect();
        lines.pop_front();
        let (from, to) = (from.parse::<u64>(), to.parse::<u64>());
        let (Ok(from), Ok(to)) = (from, to) else { return Err(format!("line {number}: from where to where?")) };
        for n in from..=to {
            let named = |line: &str| line.replace(&format!("<{variable}>"), &n.to_string());
            unrolled.extend(block.iter().map(|(number, line)| (*number, named(line))));
        }
    }
    Ok(unrolled)
}

/// Puts the lines for `user` and `device` that these stand for.
fn spelled_out(line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["user", name, "on", node] => [
            format!("connect {name} on {node}"),
            format!(r#"{name}> {{"type":"register","name":"{name}","password":"correct horse"}}"#),
            format!(r#"{name}< {{"type":"registered","user":${name}}}"#),
            format!(r#"{name}> {{"type":"login","name":"{name}","password":"correct horse"}}"#),
            format!(
                r#"{name}< {{"type":"welcome","user":${name},"name":"{name}","session":$_,"node":"node-{node}","token":${name}_token,"friends":[],"conversations":[]}}"#
            ),
            format!(r#"{name}< {{"type":"caught_up","more":[]}}"#),
        ]
        .into(),
        ["device", name, "of", user, "on", node] => [
            format!("connect {name} on {node}"),
            format!(r#"{name}> {{"type":"login","token":${user}_token}}"#),
            format!(r#"{name}< {{"type":"welcome","user":${user},"name":"{user}","node":"node-{node}",...}}"#),
            format!(r#"{name}< {{"type":"caught_up","more":[]}}"#),
        ]
        .into(),
        _ => vec![line.to_owned()],
    }
}

fn step(line: &str) -> Option<Step> {
    let words: Vec<&str> = line.split_whitespace().collect();
    Some(match words[..] {
        ["limits", name, value] => Step::Limit { name: name.to_owned(), value: value.to_owned() },
        ["fill", name, count] => Step::Fill { name: name.to_owned(), count: count.parse().ok()? },
        ["connect", client, "on", node] => Step::Connect { client: client.to_owned(), node: node.parse().ok()? },
        ["broker", "cut"] => Step::Broker { up: false },
        ["broker", "heal"] => Step::Broker { up: true },
        ["stop", node] => Step::Stop { node: node.parse().ok()? },
        ["drain", node] => Step::Drain { node: node.parse().ok()? },
        [client, "quits"] if is_name(client) => Step::Quit { client: client.to_owned() },
        _ => {
            let (client, text) = line.split_once(' ')?;
            let client_of = |mark| client.strip_suffix(mark).filter(|name| is_name(name)).map(str::to_owned);
            if let Some(client) = client_of('>') {
                Step::Say { client, text: text.to_owned() }
            } else if let Some(code) = text.strip_prefix("end ") {
                Step::End { client: client_of('<')?, code: code.parse().ok()? }
            } else {
                Step::Hear { client: client_of('<')?, frames: vec![text.to_owned()] }
            }
        }
    })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[test]
fn lines_become_steps() {
    let say = |client: &str, text: &str| Step::Say { client: client.to_owned(), text: text.to_owned() };
    let hear = |client: &str, frames: &[&str]| Step::Hear {
        client: client.to_owned(),
        frames: frames.iter().map(|frame| (*frame).to_owned()).collect(),
    };
    let text = "# Nothing.\n\neach n 1 2\na> {\"n\":<n>}\ndone\na< {}\na<? {\"x\":1}\na<? {\"y\":1}\nb<? {}\na<? {}\na< {}\n\
                a quits\nb< end 4100";
    let steps: Vec<Step> = parse(text).unwrap().into_iter().map(|(_, step)| step).collect();
    let expected = [
        say("a", "{\"n\":1}"),
        say("a", "{\"n\":2}"),
        hear("a", &["{}"]),
        hear("a", &["{\"x\":1}", "{\"y\":1}"]),
        hear("b", &["{}"]),
        hear("a", &["{}"]),
        hear("a", &["{}"]),
        Step::Quit { client: "a".to_owned() },
        Step::End { client: "b".to_owned(), code: 4100 },
    ];
    assert_eq!(steps, expected);
    for wrong in ["nonsense", "a< ", "each n 1 2", "stop now", "a! {}"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
