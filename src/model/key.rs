use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 64;

/// A client's name for one message: 1 to 64 bytes, unique per user for ever. A resend carries the same key and gets the
/// first seq.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(Arc<str>);

/// Says why a text is no key.
#[derive(Debug, Clone, thiserror::Error)]
#[error("a key is 1 to 64 bytes long, this one is {0}")]
pub struct InvalidKey(usize);

impl Key {
    /// Checks and takes a key.
    pub fn new(text: &str) -> Result<Self, InvalidKey> {
        if (1..=MAX_KEY_BYTES).contains(&text.len()) { Ok(Self(text.into())) } else { Err(InvalidKey(text.len())) }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Key {
    type Error = InvalidKey;

    fn try_from(text: String) -> Result<Self, InvalidKey> {
        Self::new(&text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.0.as_ref().to_owned()
    }
}
