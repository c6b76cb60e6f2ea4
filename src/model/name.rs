use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use unicase::UniCase;
use unicode_normalization::UnicodeNormalization;

/// The longest name, in characters after normalization.
pub const MAX_NAME_CHARS: usize = 32;

/// A user's name: 1 to 32 characters after Unicode NFKC, none of them a space or a control character. Two names that
/// fold to the same text are the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Says why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No character is left.
    #[error("a name has at least one character")]
    Empty,
    /// More than 32 characters.
    #[error("a name has at most 32 characters, this one has {0}")]
    TooLong(usize),
    /// A space or a control character.
    #[error("a name has no space and no control character, this one has U+{0:04X}")]
    Forbidden(u32),
}

impl Name {
    /// Normalizes (NFKC), checks and takes a name.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        // A longer input cannot come down to 32 characters; refusing it first bounds the work of normalizing.
        if text.len() > MAX_NAME_CHARS * 64 {
            return Err(InvalidName::TooLong(text.chars().count()));
        }
        let normal: String = text.nfkc().collect();
        if let Some(bad) = normal.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(InvalidName::Forbidden(bad.into()));
        }
        match normal.chars().count() {
            0 => Err(InvalidName::Empty),
            1..=MAX_NAME_CHARS => Ok(Self(normal.into())),
            long => Err(InvalidName::TooLong(long)),
        }
    }

    /// Returns the name as its user writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the text by which names are compared.
    pub fn fold(&self) -> String {
        fold(self.as_str())
    }
}

/// Returns the text by which names of users and groups are compared: normalized (NFKC), case folded, then normalized
/// again, because folding can undo NFKC.
pub(super) fn fold(text: &str) -> String {
    let normal: String = text.nfkc().collect();
    UniCase::unicode(normal).to_folded_case().nfkc().collect()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn irc_nicks_are_names() {
        for nick in ["][x|y][", "bob^", "{o_o}", "`tick`", "nick-2"] {
            assert_eq!(Name::new(nick).unwrap().as_str(), nick);
        }
    }

    #[test]
    fn names_are_normalized_and_folded() {
        assert_eq!(Name::new("ﬁsh").unwrap().as_str(), "fish");
        assert_eq!(Name::new("STRASSE").unwrap().fold(), Name::new("straße").unwrap().fold());
        assert_ne!(Name::new("alice").unwrap().fold(), Name::new("alicé").unwrap().fold());
    }

    #[test]
    fn spaces_controls_and_lengths_are_refused() {
        assert_eq!(Name::new(""), Err(InvalidName::Empty));
        assert_eq!(Name::new("a b"), Err(InvalidName::Forbidden(0x20)));
        assert_eq!(Name::new("a\u{a0}b"), Err(InvalidName::Forbidden(0x20)));
        assert_eq!(Name::new("a\u{7}"), Err(InvalidName::Forbidden(7)));
        assert!(Name::new(&"é".repeat(32)).is_ok());
        assert_eq!(Name::new(&"é".repeat(33)), Err(InvalidName::TooLong(33)));
    }
}
