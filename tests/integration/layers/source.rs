//! Reads Rust source far enough to know which paths it names: comments, texts and test modules are left out,
//! use-trees are unfolded.

use std::collections::HashSet;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Colons,
    Other(char),
}

/// What one file declares and names.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Every path, from `crate` on where it leads into this crate: `crate::bus::Subject`, `tokio::net::TcpStream`.
    pub(super) paths: Vec<String>,
    /// Modules declared by `mod name`.
    pub(super) modules: Vec<String>,
}

impl Source {
    /// Reads a file that is the module `module` (`bus::redis`; empty for the crate's root).
    pub(super) fn read(module: &str, text: &str) -> Self {
        let tokens = without_tests(tokens(text));
        let mut reader =
            Reader { tokens: &tokens, at: 0, source: Self::default(), module: segments(module), inner: Vec::new() };
        reader.all();
        reader.source.resolve_local_names();
        reader.source
    }

    /// A first segment that is a module or an import of this file is no crate: `redis::connect` below `use
    /// super::redis`.
    fn resolve_local_names(&mut self) {
        let ours = |path: &&String| path.starts_with("crate::");
        let mut local: HashSet<String> =
            self.paths.iter().filter(ours).filter_map(|p| p.rsplit("::").next()).map(str::to_owned).collect();
        local.extend(self.modules.iter().cloned());
        self.paths.retain(|path| !local.contains(path.split("::").next().unwrap_or_default()));
    }
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            i = after_block_comment(&chars, i);
        } else if let Some(end) = after_raw_text(&chars, i) {
            i = end;
        } else if c == '"' {
            i += 1;
            while i < chars.len() && chars[i] != '"' {
                i += if chars[i] == '\\' { 2 } else { 1 };
            }
            i += 1;
        } else if c == '\'' {
            // A character, unless it is a lifetime.
            if at(i + 1) == '\\' {
                i += 3;
                while i < chars.len() && chars[i] != '\'' {
                    i += 1;
                }
                i += 1;
            } else {
                i += if at(i + 2) == '\'' { 3 } else { 1 };
            }
        } else if c.is_alphanumeric() || c == '_' {
            let start = i;
            while i < chars.len() && (chars[i].is_alphanumeric() || chars[i] == '_') {
                i += 1;
            }
            tokens.push(Token::Word(chars[start..i].iter().collect()));
        } else if c == ':' && at(i + 1) == ':' {
            tokens.push(Token::Colons);
            i += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(Token::Other(c));
            }
            i += 1;
        }
    }
    tokens
}

fn after_block_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut i) = (0, start);
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn after_raw_text(chars: &[char], start: usize) -> Option<usize> {
    let word_before = start > 0 && (chars[start - 1].is_alphanumeric() || chars[start - 1] == '_');
    let mut i = start + usize::from(chars[start] == 'b');
    if word_before || chars.get(i) != Some(&'r') {
        return None;
    }
    i += 1;
    let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
    i += hashes;
    if chars.get(i) != Some(&'"') {
        return None;
    }
    i += 1;
    while i < chars.len() {
        if chars[i] == '"' && chars[i + 1..].iter().take_while(|c| **c == '#').count() >= hashes {
            return Some(i + 1 + hashes);
        }
        i += 1;
    }
    Some(i)
}

/// Leaves out each item under `#[cfg(test)]`: a test may reach across layers.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let word = |text: &str| Token::Word(text.to_owned());
    let marker = ['#', '[', 'c', '(', 't', ')', ']'].map(|c| match c {
        'c' => word("cfg"),
        't' => word("test"),
        other => Token::Other(other),
    });
    let mut kept = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if !tokens[i..].starts_with(&marker) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        let mut depth = 0;
        i += marker.len();
        while i < tokens.len() {
            let token = &tokens[i];
            i += 1;
            match token {
                Token::Other('{' | '(' | '[') => depth += 1,
                Token::Other('}') if depth == 1 => break,
                Token::Other('}' | ')' | ']') => depth -= 1,
                Token::Other(';') if depth == 0 => break,
                _ => {}
            }
        }
    }
    kept
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    source: Source,
    module: Vec<String>,
    /// Inline modules that are open, each with the depth of braces at which it closes.
    inner: Vec<(String, usize)>,
}

impl Reader<'_> {
    fn all(&mut self) {
        let mut depth = 0;
        while self.at < self.tokens.len() {
            match &self.tokens[self.at] {
                Token::Word(word) if word == "mod" && self.word(self.at + 1).is_some() => {
                    let name = self.word(self.at + 1).expect("looked at before").to_owned();
                    self.source.modules.push(name.clone());
                    self.at += 2;
                    if self.tokens.get(self.at) == Some(&Token::Other('{')) {
                        self.inner.push((name, depth));
                    }
                }
                Token::Word(word) if word == "use" => {
                    self.at += 1;
                    self.tree(Vec::new());
                }
                Token::Word(_) => self.path(),
                token => {
                    match token {
                        Token::Other('{') => depth += 1,
                        Token::Other('}') => {
                            depth = usize::saturating_sub(depth, 1);
                            self.inner.pop_if(|(_, opened)| *opened == depth);
                        }
                        _ => {}
                    }
                    self.at += 1;
                }
            }
        }
    }

    fn word(&self, at: usize) -> Option<&str> {
        match self.tokens.get(at) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// A path in code; a single word is none.
    fn path(&mut self) {
        let goes_on = self.goes_on();
        let mut path = Vec::new();
        while let Some(word) = self.word(self.at) {
            path.push(word.to_owned());
            self.at += 1;
            if self.tokens.get(self.at) != Some(&Token::Colons) || self.word(self.at + 1).is_none() {
                break;
            }
            self.at += 1;
        }
        if path.len() > 1 && !goes_on {
            self.found(path);
        }
    }

    /// Whether what stands here continues a path that is no plain one: `<T as Trait>::name`, but not `-> ::name`.
    fn goes_on(&self) -> bool {
        match &self.tokens[..self.at] {
            [.., Token::Other('-'), Token::Other('>'), Token::Colons] => false,
            [.., Token::Word(_) | Token::Other('>'), Token::Colons] => true,
            _ => false,
        }
    }

    /// What follows `use`, or stands in braces.
    fn tree(&mut self, prefix: Vec<String>) {
        let mut path = prefix;
        loop {
            match self.tokens.get(self.at) {
                Some(Token::Word(word)) if word == "as" => self.at += 2,
                Some(Token::Word(word)) => {
                    path.push(word.clone());
                    self.at += 1;
                }
                Some(Token::Colons) => self.at += 1,
                Some(Token::Other('*')) => {
                    path.push("*".to_owned());
                    self.at += 1;
                }
                Some(Token::Other('{')) => {
                    self.at += 1;
                    while !matches!(self.tokens.get(self.at), None | Some(Token::Other('}'))) {
                        self.tree(path.clone());
                        if self.tokens.get(self.at) == Some(&Token::Other(',')) {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                _ => break,
            }
        }
        self.found(path);
    }

    /// Takes a path, with `super` and `self` resolved.
    fn found(&mut self, path: Vec<String>) {
        let mut base: Vec<String> =
            self.module.iter().chain(self.inner.iter().map(|(name, _)| name)).cloned().collect();
        let mut rest = path.as_slice();
        let relative = matches!(rest.first().map(String::as_str), Some("super" | "self"));
        while let Some(first @ ("super" | "self")) = rest.first().map(String::as_str) {
            if first == "super" {
                base.pop();
            }
            rest = &rest[1..];
        }
        let full = if relative { [vec!["crate".to_owned()], base, rest.to_vec()].concat() } else { path };
        self.source.paths.push(full.join("::"));
    }
}
