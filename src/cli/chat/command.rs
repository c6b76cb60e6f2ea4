use super::classic;
use crate::model::ConversationId;

/// What `/help` prints.
pub(super) const HELP: &str = "\
/msg NAME-OR-ID TEXT               a direct message to a user
/to TARGET                         where plain lines go: a user's name or id, a group's name, or #ID
/list                              your conversations and what is unread
/history ID [N]                    the last N messages of a conversation
/friends                           your friends, and who wants to be one
/friend add|accept|remove NAME     ask, agree, end or decline
/block NAME   /unblock NAME        refuse a user's messages, or take them again
/find NAME    /who                 look for a user; who you are and which friends are online
/create NAME [DESCRIPTION]         a new group; quote a name that has blanks: \"my group\"
/join ID-OR-NAME                   become a member of a group
/leave [GROUP]                     cease to be one
/members [GROUP]                   who is a member of a group
/kick NAME [GROUP]                 remove a member from a group that you own
/groups PREFIX                     groups whose names begin so
/password                          change your password
/say TEXT                          a message that looks like a command
/help   /quit   /logout [everywhere]
Anything else is a message; begin it with // if its first character is a slash.
The classic client's commands: help   chat:ID:TEXT   groupchat:ID:TEXT   addfriend:ID   addgroup:ID
  creategroup:NAME:DESCRIPTION   loginout";

/// A line of input, understood. Names are not looked up yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Nothing,
    Say(String),
    Message { to: String, text: String },
    MessageGroup { group: String, text: String },
    Target(String),
    List,
    History { place: String, limit: Option<u64> },
    Friends,
    FriendAdd(String),
    FriendAccept(String),
    FriendRemove(String),
    Block(String),
    Unblock(String),
    Find(String),
    Who,
    Create { name: String, description: Option<String> },
    Join(String),
    Leave(Option<String>),
    Members(Option<String>),
    Kick { name: String, group: Option<String> },
    Groups(String),
    Password,
    Help,
    Quit,
    Logout { everywhere: bool },
}

impl Command {
    /// Reads a line of input; an error says how the command is used.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let Some(rest) = line.strip_prefix('/') else {
            return match classic::parse(line) {
                Some(command) => command,
                None if line.trim().is_empty() => Ok(Self::Nothing),
                None => Ok(Self::Say(line.to_owned())),
            };
        };
        if rest.starts_with('/') {
            return Ok(Self::Say(rest.to_owned()));
        }
        let (name, arguments) = word(rest);
        match name {
            "msg" => match word(arguments) {
                ("", _) | (_, "") => Err(usage("/msg NAME-OR-ID TEXT")),
                (to, text) => Ok(Self::Message { to: to.to_owned(), text: text.to_owned() }),
            },
            "say" => one(arguments, "/say TEXT").map(Self::Say),
            "to" => one(arguments, "/to TARGET").map(Self::Target),
            "list" => Ok(Self::List),
            "history" => {
                let wrong = || usage("/history ID [N]");
                let (place, limit) = quoted(arguments);
                let limit = (!limit.is_empty()).then(|| limit.parse().map_err(|_| wrong())).transpose()?;
                if place.is_empty() { Err(wrong()) } else { Ok(Self::History { place, limit }) }
            }
            "friends" => Ok(Self::Friends),
            "friend" => friend(arguments),
            "block" => one(arguments, "/block NAME").map(Self::Block),
            "unblock" => one(arguments, "/unblock NAME").map(Self::Unblock),
            "find" => one(arguments, "/find NAME").map(Self::Find),
            "who" => Ok(Self::Who),
            "create" | "join" | "leave" | "members" | "kick" | "groups" => group(name, arguments),
            "password" if arguments.is_empty() => Ok(Self::Password),
            "password" => Err(usage("/password, without the passwords: they are asked for")),
            "help" => Ok(Self::Help),
            "quit" | "exit" => Ok(Self::Quit),
            "logout" => match arguments {
                "" => Ok(Self::Logout { everywhere: false }),
                "everywhere" => Ok(Self::Logout { everywhere: true }),
                _ => Err(usage("/logout [everywhere]")),
            },
            other => Err(format!("there is no command /{other}; /help lists them")),
        }
    }
}

fn friend(arguments: &str) -> Result<Command, String> {
    let (what, name) = word(arguments);
    let name = one(name, "/friend add|accept|remove NAME");
    match what {
        "add" => name.map(Command::FriendAdd),
        "accept" => name.map(Command::FriendAccept),
        "remove" => name.map(Command::FriendRemove),
        _ => Err(usage("/friend add|accept|remove NAME")),
    }
}

fn group(command: &str, arguments: &str) -> Result<Command, String> {
    let optional = |text: &str| (!text.is_empty()).then(|| unquoted(text).to_owned());
    match command {
        "create" => {
            let (name, description) = quoted(arguments);
            if name.is_empty() {
                return Err(usage("/create NAME [DESCRIPTION]"));
            }
            Ok(Command::Create { name, description: (!description.is_empty()).then(|| description.to_owned()) })
        }
        "join" => one(arguments, "/join ID-OR-NAME").map(Command::Join),
        "leave" => Ok(Command::Leave(optional(arguments))),
        "members" => Ok(Command::Members(optional(arguments))),
        "kick" => match word(arguments) {
            ("", _) => Err(usage("/kick NAME [GROUP]")),
            (name, group) => Ok(Command::Kick { name: name.to_owned(), group: optional(group) }),
        },
        _ => one(arguments, "/groups PREFIX").map(Command::Groups),
    }
}

/// Reads `#3` or `3`.
pub(super) fn conversation(text: &str) -> Option<ConversationId> {
    text.strip_prefix('#').unwrap_or(text).parse().ok().and_then(ConversationId::new)
}

/// Says how a command is used.
pub(super) fn usage(usage: &str) -> String {
    format!("use it so: {usage}")
}

fn one(arguments: &str, how: &str) -> Result<String, String> {
    if arguments.is_empty() { Err(usage(how)) } else { Ok(unquoted(arguments).to_owned()) }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

/// Cuts the first word, or what is quoted, off, and the blanks on both ends of the rest.
fn quoted(text: &str) -> (String, &str) {
    let (first, rest) = match text.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        Some((first, rest)) => (first, rest.trim()),
        None => word(text),
    };
    (first.to_owned(), rest)
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
        let text = str::to_owned;
        for (line, command) in [
            ("hello /there", Command::Say(text("hello /there"))),
            ("//slash", Command::Say(text("/slash"))),
            ("/say help", Command::Say(text("help"))),
            ("  ", Command::Nothing),
            ("/msg bob  hi  there", Command::Message { to: text("bob"), text: text("hi  there") }),
            ("/to \"my group\"", Command::Target(text("my group"))),
            ("/create tea", Command::Create { name: text("tea"), description: None }),
            (
                "/create \"tea time\" at five",
                Command::Create { name: text("tea time"), description: Some(text("at five")) },
            ),
            ("/join #7", Command::Join(text("#7"))),
            ("/join tea time", Command::Join(text("tea time"))),
            ("/leave", Command::Leave(None)),
            ("/leave 7 ", Command::Leave(Some(text("7")))),
            ("/members tea", Command::Members(Some(text("tea")))),
            ("/kick bob", Command::Kick { name: text("bob"), group: None }),
            ("/kick bob #7", Command::Kick { name: text("bob"), group: Some(text("#7")) }),
            ("/groups te", Command::Groups(text("te"))),
            ("/history 7 20", Command::History { place: text("7"), limit: Some(20) }),
            ("/history tea", Command::History { place: text("tea"), limit: None }),
            ("/friend add bob", Command::FriendAdd(text("bob"))),
            ("/friend accept bob", Command::FriendAccept(text("bob"))),
            ("/friend remove bob", Command::FriendRemove(text("bob"))),
            ("/friends", Command::Friends),
            ("/block bob", Command::Block(text("bob"))),
            ("/unblock bob", Command::Unblock(text("bob"))),
            ("/find bob", Command::Find(text("bob"))),
            ("/who", Command::Who),
            ("/password", Command::Password),
            ("/logout", Command::Logout { everywhere: false }),
            ("/logout everywhere", Command::Logout { everywhere: true }),
            ("/quit", Command::Quit),
        ] {
            assert_eq!(Command::parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn a_wrong_command_says_how_it_is_used() {
        for (line, help) in [
            ("/msg bob", "use it so: /msg NAME-OR-ID TEXT"),
            ("/join", "use it so: /join ID-OR-NAME"),
            ("/kick", "use it so: /kick NAME [GROUP]"),
            ("/friend bob", "use it so: /friend add|accept|remove NAME"),
            ("/friend add", "use it so: /friend add|accept|remove NAME"),
            ("/history 7 x", "use it so: /history ID [N]"),
            ("/create", "use it so: /create NAME [DESCRIPTION]"),
            ("/logout now", "use it so: /logout [everywhere]"),
            ("/password secret", "use it so: /password, without the passwords: they are asked for"),
            ("/dance", "there is no command /dance; /help lists them"),
        ] {
            assert_eq!(Command::parse(line), Err(help.to_owned()), "{line}");
        }
    }

    #[test]
    fn every_command_is_in_the_help() {
        for name in ["msg", "to", "list", "history", "friends", "block", "unblock", "find", "who", "create", "join"]
            .into_iter()
            .chain(["leave", "members", "kick", "groups", "password", "say", "help", "quit", "logout", "friend add"])
        {
            assert!(HELP.contains(&format!("/{name}")), "{name}");
        }
    }
}
