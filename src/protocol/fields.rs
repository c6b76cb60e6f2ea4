//! What each type of request holds.

use serde::Deserialize;

use super::ErrorCode;
use super::request::{Login, MAX_BODY_BYTES, Password, RequestBody, SendTarget};
use crate::model::{ConversationId, Key, Seq, UserId};

/// Why a request of a known shape cannot be taken.
pub(super) type Refusal = (ErrorCode, String);

/// Reads the fields of a request of this type.
pub(super) fn parse(kind: &str, text: &str) -> Result<RequestBody, Refusal> {
    match kind {
        "send" => send(text),
        "received" => Ok({
            let Progress { conversation, seq } = read(kind, text)?;
            RequestBody::Received { conversation, seq }
        }),
        "read" => Ok({
            let Progress { conversation, seq } = read(kind, text)?;
            RequestBody::Read { conversation, seq }
        }),
        "ping" => Ok(RequestBody::Ping {}),
        "typing" => Ok(RequestBody::Typing { conversation: read::<InConversation>(kind, text)?.conversation }),
        "register" | "login" | "logout" | "password" => account(kind, text),
        "history" | "conversations" | "find_user" => lookup(kind, text),
        _ if kind.starts_with("group_") => group(kind, text),
        _ => people(kind, text),
    }
}

/// Says what is wrong and where, without the line number, which is always 1.
pub(super) fn place(error: &serde_json::Error) -> String {
    error.to_string().replace("line 1 column", "column")
}

#[derive(Deserialize)]
struct Progress {
    conversation: ConversationId,
    seq: Seq,
}

#[derive(Deserialize)]
struct InConversation {
    conversation: ConversationId,
}

#[derive(Deserialize)]
struct OfUser {
    user: UserId,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

fn send(text: &str) -> Result<RequestBody, Refusal> {
    #[derive(Deserialize)]
    struct Fields {
        key: Key,
        to: Option<UserId>,
        conversation: Option<ConversationId>,
        body: String,
    }
    let Fields { key, to, conversation, body } = read("send", text)?;
    let target = match (to, conversation) {
        (Some(to), None) => SendTarget::User { to },
        (None, Some(conversation)) => SendTarget::Conversation { conversation },
        _ => return Err(bad("`send` takes either `to` or `conversation`")),
    };
    if body.len() > MAX_BODY_BYTES {
        let message = format!("a body is at most {MAX_BODY_BYTES} bytes, this one is {}", body.len());
        return Err((ErrorCode::TooLarge, message));
    }
    Ok(RequestBody::Send { key, target, body })
}

fn account(kind: &str, text: &str) -> Result<RequestBody, Refusal> {
    Ok(match kind {
        "register" => {
            #[derive(Deserialize)]
            struct Fields {
                name: String,
                password: Password,
            }
            let Fields { name, password } = read(kind, text)?;
            RequestBody::Register { name, password }
        }
        "login" => {
            let login: Login = read(kind, text)?;
            match (&login.name, &login.password, &login.token) {
                (Some(_), Some(_), None) | (None, None, Some(_)) => RequestBody::Login(login),
                _ => return Err(bad("`login` takes either `name` and `password`, or `token`")),
            }
        }
        "logout" => {
            #[derive(Deserialize)]
            struct Fields {
                #[serde(default)]
                everywhere: Option<bool>,
            }
            RequestBody::Logout { everywhere: read::<Fields>(kind, text)?.everywhere.unwrap_or_default() }
        }
        _ => {
            #[derive(Deserialize)]
            struct Fields {
                old: Password,
                new: Password,
            }
            let Fields { old, new } = read(kind, text)?;
            RequestBody::Password { old, new }
        }
    })
}

fn lookup(kind: &str, text: &str) -> Result<RequestBody, Refusal> {
    Ok(match kind {
        "history" => {
            #[derive(Deserialize)]
            struct Fields {
                conversation: ConversationId,
                before: Option<Seq>,
                after: Option<Seq>,
                limit: Option<u64>,
            }
            let Fields { conversation, before, after, limit } = read(kind, text)?;
            if before.is_some() && after.is_some() {
                return Err(bad("`history` takes `before` or `after`, not both"));
            }
            RequestBody::History { conversation, before, after, limit }
        }
        "conversations" => {
            #[derive(Deserialize)]
            struct Fields {
                before: Option<ConversationId>,
                limit: Option<u64>,
            }
            let Fields { before, limit } = read(kind, text)?;
            RequestBody::Conversations { before, limit }
        }
        _ => RequestBody::FindUser { name: read::<Named>(kind, text)?.name },
    })
}

fn group(kind: &str, text: &str) -> Result<RequestBody, Refusal> {
    Ok(match kind {
        "group_create" => {
            #[derive(Deserialize)]
            struct Fields {
                name: String,
                description: Option<String>,
            }
            let Fields { name, description } = read(kind, text)?;
            RequestBody::GroupCreate { name, description }
        }
        "group_join" => RequestBody::GroupJoin { conversation: read::<InConversation>(kind, text)?.conversation },
        "group_leave" => RequestBody::GroupLeave { conversation: read::<InConversation>(kind, text)?.conversation },
        "group_remove" => {
            #[derive(Deserialize)]
            struct Fields {
                conversation: ConversationId,
                user: UserId,
            }
            let Fields { conversation, user } = read(kind, text)?;
            RequestBody::GroupRemove { conversation, user }
        }
        "group_find" => RequestBody::GroupFind { name: read::<Named>(kind, text)?.name },
        "group_members" => {
            #[derive(Deserialize)]
            struct Fields {
                conversation: ConversationId,
                after: Option<UserId>,
                limit: Option<u64>,
            }
            let Fields { conversation, after, limit } = read(kind, text)?;
            RequestBody::GroupMembers { conversation, after, limit }
        }
        _ => return Err(unknown(kind)),
    })
}

fn people(kind: &str, text: &str) -> Result<RequestBody, Refusal> {
    Ok(match kind {
        "friend_add" => RequestBody::FriendAdd { name: read::<Named>(kind, text)?.name },
        "friend_accept" => RequestBody::FriendAccept { user: read::<OfUser>(kind, text)?.user },
        "friend_remove" => RequestBody::FriendRemove { user: read::<OfUser>(kind, text)?.user },
        "friends" => RequestBody::Friends {},
        "block" => RequestBody::Block { user: read::<OfUser>(kind, text)?.user },
        "unblock" => RequestBody::Unblock { user: read::<OfUser>(kind, text)?.user },
        _ => return Err(unknown(kind)),
    })
}

fn read<'a, T: Deserialize<'a>>(kind: &str, text: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|error| bad(format!("`{kind}`: {}", place(&error))))
}

fn unknown(kind: &str) -> Refusal {
    let shown: String = kind.chars().take(40).collect();
    bad(format!("unknown type `{shown}`"))
}

fn bad(message: impl Into<String>) -> Refusal {
    (ErrorCode::BadFrame, message.into())
}
