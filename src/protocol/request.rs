use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ErrorCode, fields};
use crate::model::{ConversationId, Key, Seq, UserId};

/// The longest body of a message, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// The client's mark on a request, a JSON string or number, echoed in the reply to the letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// Makes an id of a number.
    pub fn number(number: u64) -> Self {
        Self(number.to_string().into())
    }

    /// Returns the id as JSON.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    fn from_raw(raw: &RawValue) -> Result<Option<Self>, &'static str> {
        match raw.get().as_bytes().first() {
            Some(b'"' | b'-' | b'0'..=b'9') => Ok(Some(Self(raw.get().into()))),
            _ if raw.get() == "null" => Ok(None),
            _ => Err("`id` is a string or a number"),
        }
    }
}

impl Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            value @ (serde_json::Value::String(_) | serde_json::Value::Number(_)) => Ok(Self(value.to_string().into())),
            _ => Err(serde::de::Error::custom("an id is a string or a number")),
        }
    }
}

/// A request and its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Echoed in the reply.
    pub id: Option<RequestId>,
    /// What is asked.
    pub body: RequestBody,
}

/// What a client may ask.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RequestBody {
    /// Makes an account.
    Register {
        /// The wanted name, not yet checked.
        name: String,
        /// 8 to 1024 bytes, not yet checked.
        password: Password,
    },
    /// Starts a session.
    Login(Login),
    /// Appends a message.
    Send {
        /// Unique per user for ever.
        key: Key,
        /// A user or a conversation.
        #[serde(flatten)]
        target: SendTarget,
        /// The text.
        body: String,
    },
    /// Confirms that everything up to `seq` has arrived.
    Received {
        /// The conversation.
        conversation: ConversationId,
        /// Cumulative.
        seq: Seq,
    },
    /// Asks for entries of a conversation.
    History {
        /// The conversation.
        conversation: ConversationId,
        /// Entries below this seq.
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<Seq>,
        /// Entries above this seq.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<Seq>,
        /// How many; 50 when absent, at most 200.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
    },
    /// Asks for a page of the list of conversations.
    Conversations {
        /// Those after this one in the list (most recently changed first).
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<ConversationId>,
        /// How many; at most 200.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
    },
    /// Makes a group.
    GroupCreate {
        /// Its name.
        name: String,
        /// What it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<String>,
    },
    /// Becomes a member.
    GroupJoin {
        /// The group.
        conversation: ConversationId,
    },
    /// Ceases to be a member.
    GroupLeave {
        /// The group.
        conversation: ConversationId,
    },
    /// Confirms that everything up to `seq` has been read.
    Read {
        /// The conversation.
        conversation: ConversationId,
        /// Cumulative.
        seq: Seq,
    },
    /// Makes somebody else cease to be a member; the owner's.
    GroupRemove {
        /// The group.
        conversation: ConversationId,
        /// Who has to go.
        user: UserId,
    },
    /// Looks for groups.
    GroupFind {
        /// What their names begin with, whatever its case.
        name: String,
    },
    /// Asks who is a member.
    GroupMembers {
        /// The group.
        conversation: ConversationId,
        /// Those with a higher id.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<UserId>,
        /// How many; at most 200.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
    },
    /// Looks for a user.
    FindUser {
        /// Their name, whatever its case.
        name: String,
    },
    /// Asks a user to be a friend, or agrees when they have asked.
    FriendAdd {
        /// Their name.
        name: String,
    },
    /// Agrees to be a friend.
    FriendAccept {
        /// Who has asked.
        user: UserId,
    },
    /// Ends a friendship, or declines one.
    FriendRemove {
        /// The other one.
        user: UserId,
    },
    /// Asks for the friends and for who wants to be one.
    Friends {},
    /// Refuses a user's messages from now on.
    Block {
        /// That user.
        user: UserId,
    },
    /// Takes a user's messages again.
    Unblock {
        /// That user.
        user: UserId,
    },
    /// Tells the others that this user writes. Not stored.
    Typing {
        /// Where.
        conversation: ConversationId,
    },
    /// Changes the password.
    Password {
        /// The one that holds.
        old: Password,
        /// The one that shall hold.
        new: Password,
    },
    /// Shows a sign of life.
    Ping {},
    /// Ends the session.
    Logout {
        /// Ends the user's other sessions too, and every token.
        #[serde(default, skip_serializing_if = "is_false")]
        everywhere: bool,
    },
}

fn is_false(value: &bool) -> bool {
    !value
}

/// How a client proves who it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Login {
    /// The user's name, with `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// A token from an earlier `welcome`, instead of name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Password>,
    /// What the device calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Per conversation, the last seq that this device has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub since: BTreeMap<ConversationId, Seq>,
}

/// A secret that no log ever shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Takes a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// Returns the secret.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SendTarget {
    /// To a user: their direct conversation with the sender.
    User {
        /// That user.
        to: UserId,
    },
    /// To a conversation.
    Conversation {
        /// That conversation.
        conversation: ConversationId,
    },
}

/// A line that is no request, with all that is needed to answer it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The request's id, when it could be read.
    pub id: Option<RequestId>,
    /// The request's key, when it could be read.
    pub key: Option<Key>,
    /// `bad_frame` or `too_large`.
    pub code: ErrorCode,
    /// What is wrong and where.
    pub message: String,
}

impl Malformed {
    /// Makes the answer to a line of which nothing could be read.
    pub fn line(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { id: None, key: None, code, message: message.into() }
    }
}

/// What every request has, read first, so that an error can name the request even when the rest is broken.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
}

impl Request {
    /// Reads a request from a line without its newline.
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let bad = |message: String| Malformed::line(ErrorCode::BadFrame, message);
        let text = std::str::from_utf8(line).map_err(|e| bad(format!("not UTF-8 at byte {}", e.valid_up_to())))?;
        if !text.starts_with('{') {
            return Err(bad("a frame is one JSON object on a line".to_owned()));
        }
        let head: Head<'_> =
            serde_json::from_str(text).map_err(|e| bad(format!("not a JSON object: {}", fields::place(&e))))?;
        let id = match head.id.map(RequestId::from_raw).transpose() {
            Ok(id) => id.flatten(),
            Err(message) => return Err(bad(message.to_owned())),
        };
        let key = head.key.and_then(|raw| serde_json::from_str::<Key>(raw.get()).ok());
        let kind: Option<Cow<'_, str>> =
            head.kind.and_then(|raw| serde_json::from_str::<Text<'_>>(raw.get()).ok()).map(|text| text.0);
        match kind {
            None => Err("every frame has a `type`, a string".to_owned()).map_err(|m| (ErrorCode::BadFrame, m)),
            Some(kind) => fields::parse(&kind, text),
        }
        .map(|body| Request { id: id.clone(), body })
        .map_err(|(code, message)| Malformed { id, key, code, message })
    }

    /// Writes the request as a line with its newline.
    pub fn to_line(&self) -> Bytes {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            id: &'a Option<RequestId>,
            #[serde(flatten)]
            body: &'a RequestBody,
        }
        let mut line = serde_json::to_vec(&Line { id: &self.id, body: &self.body })
            .expect("strings and integers always serialize");
        line.push(b'\n');
        line.into()
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> Malformed {
        Request::parse(line.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_request_survives_its_own_line() {
        for line in [
            r#"{"id":1,"type":"send","key":"k-1","to":8,"body":"hi \u0000 \"there\""}"#,
            r#"{"id":"a\u00e9","type":"send","key":"k-1","conversation":3,"body":""}"#,
            r#"{"type":"login","token":"t","since":{"3":4,"9007199254740991":0}}"#,
            r#"{"type":"history","conversation":3,"before":7,"limit":10}"#,
        ] {
            let request = Request::parse(line.as_bytes()).unwrap();
            assert_eq!(Request::parse(request.to_line().trim_ascii_end()).unwrap(), request, "{line}");
        }
    }

    #[test]
    fn the_id_is_echoed_to_the_letter() {
        for id in ["1", "-1.50e3", r#""x\u0041""#, "123456789012345678901234567890"] {
            let request = Request::parse(format!(r#"{{"type":"ping","id":{id}}}"#).as_bytes()).unwrap();
            assert_eq!(request.id.unwrap().as_json(), id);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, message) in [
            ("hello", "a frame is one JSON object on a line"),
            ("[\"send\"]", "a frame is one JSON object on a line"),
            ("{\"type\":\"ping\"", "not a JSON object: EOF while parsing an object at column 14"),
            ("{}", "every frame has a `type`, a string"),
            (r#"{"type":7}"#, "every frame has a `type`, a string"),
            (r#"{"type":"dance"}"#, "unknown type `dance`"),
            (r#"{"type":"ping","id":[1]}"#, "`id` is a string or a number"),
            (r#"{"type":"send","key":"k","to":8}"#, "`send`: missing field `body` at column 32"),
            (r#"{"type":"send","key":"k","body":"b"}"#, "`send` takes either `to` or `conversation`"),
            (
                r#"{"type":"send","key":"k","body":"b","to":0}"#,
                "`send`: an id is an integer between 1 and 2^53 - 1 at column 43",
            ),
            (r#"{"type":"login","name":"a"}"#, "`login` takes either `name` and `password`, or `token`"),
        ] {
            let malformed = refused(line);
            assert_eq!((malformed.code, malformed.message.as_str()), (ErrorCode::BadFrame, message), "{line}");
        }
    }

    #[test]
    fn an_error_names_its_request_even_when_the_rest_is_broken() {
        let malformed = refused(r#"{"type":"send","id":9,"key":"k-7","to":"x","body":"b"}"#);
        assert_eq!(malformed.id, Some(RequestId::number(9)));
        assert_eq!(malformed.key, Key::new("k-7").ok());
    }

    #[test]
    fn a_body_over_its_limit_is_too_large() {
        let line = |bytes: usize| format!(r#"{{"type":"send","key":"k","to":8,"body":"{}"}}"#, "a".repeat(bytes));
        assert!(Request::parse(line(MAX_BODY_BYTES).as_bytes()).is_ok());
        assert_eq!(refused(&line(MAX_BODY_BYTES + 1)).code, ErrorCode::TooLarge);
    }

    #[test]
    fn unknown_fields_are_ignored_whatever_they_hold() {
        assert!(Request::parse(br#"{"type":"ping","name":{"deep":[1,2]},"to":null,"before":"x"}"#).is_ok());
    }

    #[test]
    fn no_log_shows_a_password() {
        let request = Request::parse(br#"{"type":"login","name":"a","password":"hunter22"}"#).unwrap();
        assert!(!format!("{request:?}").contains("hunter22"));
    }
}
