use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest subject, in bytes.
pub const MAX_SUBJECT_BYTES: usize = 120;

/// A bus address: segments of `[A-Za-z0-9_-]` joined by `.`, at most 120 bytes. Every backend maps it to what its
/// broker calls an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(Arc<str>);

/// Says why a text is no subject.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{0}` is no subject: use segments of A-Z a-z 0-9 _ - joined by dots, at most 120 bytes in all")]
pub struct InvalidSubject(String);

impl Subject {
    /// Checks and takes a subject.
    pub fn new(text: &str) -> Result<Self, InvalidSubject> {
        let segment_fits = |segment: &str| {
            !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if text.len() <= MAX_SUBJECT_BYTES && text.split('.').all(segment_fits) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSubject(text.to_owned()))
        }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets a table be searched by what arrived from the broker.
impl Borrow<str> for Subject {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_segments_are_subjects() {
        assert!(Subject::new("sb.0123456789abcdef.n.node-a_1").is_ok());
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a*", "ä", &"a".repeat(121)] {
            assert!(Subject::new(bad).is_err(), "{bad:?}");
        }
    }
}
