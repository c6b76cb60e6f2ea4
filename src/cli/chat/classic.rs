use super::command::{Command, usage};

/// Reads a command of the classic client, `name` or `name:ARGUMENTS`; `None`: it is none. A colon and a blank, as
/// people write them, make no command.
pub(super) fn parse(line: &str) -> Option<Result<Command, String>> {
    match line.trim() {
        "help" => return Some(Ok(Command::Help)),
        "loginout" => return Some(Ok(Command::Logout { everywhere: false })),
        _ => {}
    }
    let (name, arguments) = line.split_once(':').filter(|(_, rest)| !rest.starts_with(char::is_whitespace))?;
    let two = || arguments.split_once(':').filter(|(first, second)| !first.is_empty() && !second.is_empty());
    let one = || (!arguments.is_empty()).then(|| arguments.trim().to_owned());
    let (command, how) = match name {
        "chat" => {
            (two().map(|(to, text)| Command::Message { to: to.to_owned(), text: text.to_owned() }), "chat:ID:TEXT")
        }
        "groupchat" => {
            let command =
                |(group, text): (&str, &str)| Command::MessageGroup { group: group.to_owned(), text: text.to_owned() };
            (two().map(command), "groupchat:ID:TEXT")
        }
        "addfriend" => (one().map(Command::FriendAdd), "addfriend:ID"),
        "addgroup" => (one().map(Command::Join), "addgroup:ID"),
        "creategroup" => {
            let (name, description) = arguments.split_once(':').unwrap_or((arguments, ""));
            let description = (!description.is_empty()).then(|| description.to_owned());
            let command = (!name.is_empty()).then(|| Command::Create { name: name.to_owned(), description });
            (command, "creategroup:NAME:DESCRIPTION")
        }
        _ => return None,
    };
    Some(command.ok_or_else(|| usage(how)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classic_commands_are_understood() {
        let text = str::to_owned;
        for (line, command) in [
            ("help", Command::Help),
            ("loginout", Command::Logout { everywhere: false }),
            ("chat:8:hi: there", Command::Message { to: text("8"), text: text("hi: there") }),
            ("groupchat:5:hi", Command::MessageGroup { group: text("5"), text: text("hi") }),
            ("addfriend:8", Command::FriendAdd(text("8"))),
            ("addgroup:5", Command::Join(text("5"))),
            (
                "creategroup:tea:at five: sharp",
                Command::Create { name: text("tea"), description: Some(text("at five: sharp")) },
            ),
            ("creategroup:tea", Command::Create { name: text("tea"), description: None }),
        ] {
            assert_eq!(parse(line), Some(Ok(command)), "{line}");
        }
        assert_eq!(parse("chat:8"), Some(Err("use it so: chat:ID:TEXT".to_owned())));
        assert_eq!(parse("addgroup:"), Some(Err("use it so: addgroup:ID".to_owned())));
    }

    #[test]
    fn what_people_write_is_no_command() {
        for line in ["chat: who is there?", "help me", "http://example.org", "note:this", ""] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
