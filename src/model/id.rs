use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The largest id of a user or a conversation: 2^53 - 1, the largest integer that every JSON reader keeps exact.
pub const MAX_ID: u64 = (1 << 53) - 1;

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Makes an id of a number between 1 and [`MAX_ID`]; any other number is `None`.
            pub fn new(number: u64) -> Option<Self> {
                (1..=MAX_ID).contains(&number).then_some(Self(number))
            }

            /// Returns the number.
            pub fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = u64::deserialize(deserializer)?;
                Self::new(number).ok_or_else(|| serde::de::Error::custom("an id is an integer between 1 and 2^53 - 1"))
            }
        }
    };
}

numeric_id! {
    /// A user's id, given by the log at registration.
    UserId
}
numeric_id! {
    /// A conversation's id, given by the log when it is created.
    ConversationId
}

/// A node's name in the cluster: 1 to 40 characters of `[A-Za-z0-9_-]`, so that it can be a segment of a bus subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(Arc<str>);

/// Says why a text is no node id.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{0}` is no node id: use 1 to 40 characters of A-Z a-z 0-9 _ -")]
pub struct InvalidNodeId(String);

impl NodeId {
    /// Checks and takes a node's name.
    pub fn new(text: &str) -> Result<Self, InvalidNodeId> {
        let fits = (1..=40).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            Ok(Self(text.into()))
        } else {
            Err(InvalidNodeId(text.to_owned()))
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for NodeId {
    type Error = InvalidNodeId;

    fn try_from(text: String) -> Result<Self, InvalidNodeId> {
        Self::new(&text)
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> String {
        id.0.as_ref().to_owned()
    }
}
