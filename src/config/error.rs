use std::error::Error;
use std::fmt;
use std::path::Path;

/// What is wrong with the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigErrorKind {
    /// The file or the variable cannot be read: it does not exist, or is not UTF-8.
    Unreadable,
    /// The file is not TOML.
    Syntax,
    /// Keys are unknown, or values are not allowed.
    Invalid,
}

/// One thing that is wrong, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, the environment variable or the flag that gave the value.
    pub source: String,
    /// The key, such as `bus.redis.url`.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.source, self.key, self.message)
    }
}

/// A config that cannot be used. Displays every problem that was found, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct ConfigError {
    kind: ConfigErrorKind,
    context: String,
    problems: Vec<Problem>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ConfigError {
    pub(super) fn unreadable(context: String, source: Option<std::io::Error>) -> Self {
        let source = source.map(|e| Box::new(e) as Box<dyn Error + Send + Sync>);
        Self { kind: ConfigErrorKind::Unreadable, context, problems: Vec::new(), source }
    }

    pub(super) fn syntax(path: &Path, source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            kind: ConfigErrorKind::Syntax,
            context: format!("{} is not TOML", path.display()),
            problems: Vec::new(),
            source: Some(Box::new(source)),
        }
    }

    pub(super) fn invalid(problems: Vec<Problem>) -> Self {
        let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
        Self { kind: ConfigErrorKind::Invalid, context: lines.join("\n"), problems, source: None }
    }

    /// Returns what is wrong.
    pub fn kind(&self) -> ConfigErrorKind {
        self.kind
    }

    /// Returns every problem that was found; empty unless the kind is [`ConfigErrorKind::Invalid`].
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}
