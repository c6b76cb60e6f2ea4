//! What a live broker says of itself.

/// A broker's version, and what in its settings does harm to a chat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The name and version that it gives, if it gives any.
    pub version: Option<String>,
    /// Each is a sentence that says what is wrong and what to set.
    pub hazards: Vec<String>,
}
