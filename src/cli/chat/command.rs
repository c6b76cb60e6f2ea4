use crate::model::ConversationId;

/// What `/help` prints.
pub(super) const HELP: &str = "\
/msg NAME-OR-ID TEXT          a direct message to a user
/to TARGET                    where plain lines go: a user's name or id, a group's name, or #ID
/create NAME [DESCRIPTION]    a new group; quote a name that has blanks: \"my group\"
/join ID  /leave ID           become, or cease to be, a member of a group
/list                         your conversations
/history ID [N]               the last N messages of a conversation
/help  /quit
Anything else is a message; begin it with // if its first character is a slash.";

/// A line of input, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Nothing,
    Say(String),
    Message { to: String, text: String },
    Target(String),
    Create { name: String, description: Option<String> },
    Join(ConversationId),
    Leave(ConversationId),
    List,
    History { conversation: ConversationId, limit: Option<u64> },
    Help,
    Quit,
}

impl Command {
    /// Reads a line of input; an error says how the command is used.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let Some(rest) = line.strip_prefix('/') else {
            return Ok(if line.trim().is_empty() { Self::Nothing } else { Self::Say(line.to_owned()) });
        };
        if rest.starts_with('/') {
            return Ok(Self::Say(rest.to_owned()));
        }
        let (name, arguments) = word(rest);
        let usage = |usage: &str| format!("use it so: {usage}");
        let only_id = |how: &str| match word(arguments) {
            (id, "") => conversation(id).ok_or_else(|| usage(how)),
            _ => Err(usage(how)),
        };
        match name {
            "msg" => match word(arguments) {
                ("", _) | (_, "") => Err(usage("/msg NAME-OR-ID TEXT")),
                (to, text) => Ok(Self::Message { to: to.to_owned(), text: text.to_owned() }),
            },
            "to" if arguments.is_empty() => Err(usage("/to TARGET")),
            "to" => Ok(Self::Target(unquoted(arguments).to_owned())),
            "create" => {
                let (name, description) = match arguments.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                    Some((name, rest)) => (name, rest.trim()),
                    None => word(arguments),
                };
                if name.is_empty() {
                    return Err(usage("/create NAME [DESCRIPTION]"));
                }
                let description = (!description.is_empty()).then(|| description.to_owned());
                Ok(Self::Create { name: name.to_owned(), description })
            }
            "join" => only_id("/join ID").map(Self::Join),
            "leave" => only_id("/leave ID").map(Self::Leave),
            "list" => Ok(Self::List),
            "history" => {
                let wrong = || usage("/history ID [N]");
                let (id, limit) = word(arguments);
                let conversation = conversation(id).ok_or_else(wrong)?;
                let limit = (!limit.is_empty()).then(|| limit.parse().map_err(|_| wrong())).transpose()?;
                Ok(Self::History { conversation, limit })
            }
            "help" => Ok(Self::Help),
            "quit" | "exit" => Ok(Self::Quit),
            other => Err(format!("there is no command /{other}; /help lists them")),
        }
    }
}

/// Reads `#3` or `3`.
pub(super) fn conversation(text: &str) -> Option<ConversationId> {
    text.strip_prefix('#').unwrap_or(text).parse().ok().and_then(ConversationId::new)
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

/// Cuts the first word off, and the blanks on both ends of the rest.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace).map_or((text, ""), |(word, rest)| (word, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood() {
        let id = |number| ConversationId::new(number).unwrap();
        let text = str::to_owned;
        for (line, command) in [
            ("hello /there", Command::Say(text("hello /there"))),
            ("//slash", Command::Say(text("/slash"))),
            ("  ", Command::Nothing),
            ("/msg bob  hi  there", Command::Message { to: text("bob"), text: text("hi  there") }),
            ("/to \"my group\"", Command::Target(text("my group"))),
            ("/create tea", Command::Create { name: text("tea"), description: None }),
            (
                "/create \"tea time\" at five",
                Command::Create { name: text("tea time"), description: Some(text("at five")) },
            ),
            ("/join #7", Command::Join(id(7))),
            ("/leave 7 ", Command::Leave(id(7))),
            ("/history 7 20", Command::History { conversation: id(7), limit: Some(20) }),
            ("/history 7", Command::History { conversation: id(7), limit: None }),
            ("/quit", Command::Quit),
        ] {
            assert_eq!(Command::parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn a_wrong_command_says_how_it_is_used() {
        for (line, help) in [
            ("/msg bob", "use it so: /msg NAME-OR-ID TEXT"),
            ("/join tea", "use it so: /join ID"),
            ("/join 0", "use it so: /join ID"),
            ("/leave", "use it so: /leave ID"),
            ("/history 7 x", "use it so: /history ID [N]"),
            ("/create", "use it so: /create NAME [DESCRIPTION]"),
            ("/dance", "there is no command /dance; /help lists them"),
        ] {
            assert_eq!(Command::parse(line), Err(help.to_owned()), "{line}");
        }
    }
}
