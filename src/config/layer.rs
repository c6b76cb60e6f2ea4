//! Where values come from: each layer knows the name by which an error refers to it.

use std::ffi::OsString;
use std::path::Path;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::{Config, ConfigError};

const PREFIX: &str = "SWITCHBOARD_";
const DEFAULTS: &str = "defaults";

/// Values from one place: a file, an environment variable or a flag.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) name: String,
    pub(super) values: Dict,
}

impl Layer {
    /// Reads a TOML file.
    pub(super) fn file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            let context = format!("cannot read the config file {}; check the path after --config", path.display());
            ConfigError::unreadable(context, Some(e))
        })?;
        let values = Toml::from_str(&text).map_err(|e| ConfigError::syntax(path, e))?;
        Ok(Self { name: path.display().to_string(), values })
    }

    /// Makes a layer of one value written as text. A key whose default is text takes it as it is, so that a node may
    /// be called `12`; for other keys it is read as a number, a boolean or a list.
    pub(super) fn single(name: &str, key: &str, text: &str, defaults: &Value) -> Self {
        let value = match defaults.find_ref(key) {
            Some(Value::String(..)) => Value::from(text),
            _ => match text.parse() {
                Ok(value) => value,
                Err(infallible) => match infallible {},
            },
        };
        Self { name: name.to_owned(), values: nest(key, value) }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// Returns every key with its default.
pub(super) fn defaults() -> Value {
    Value::serialize(Config::default()).expect("the config consists of plain values")
}

/// Makes a layer of each variable that names a key, in the order of their names.
pub(super) fn environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    defaults: &Value,
) -> Result<Vec<Layer>, ConfigError> {
    let mut named: Vec<(String, OsString)> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.strip_prefix(PREFIX).is_some_and(|rest| rest.contains("__")))
        .collect();
    named.sort();
    let layer = |(name, value): (String, OsString)| {
        let text = value
            .into_string()
            .map_err(|_| ConfigError::unreadable(format!("the environment variable {name} is not UTF-8"), None))?;
        let key = name[PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
        Ok(Layer::single(&name, &key, &text, defaults))
    };
    named.into_iter().map(layer).collect()
}

/// Returns the name of the layer that a key's value came from.
pub(super) fn source_of(merged: &Figment, key: &str) -> String {
    // A key inside a list (`edge.nodes.0.weight`) has the source of the list, which was replaced as a whole.
    let mut key = key;
    loop {
        if let Some(metadata) = merged.find_metadata(key) {
            // Ours are named and nothing else; figment adds the place in the code to the defaults.
            return if metadata.source.is_none() { metadata.name.to_string() } else { DEFAULTS.to_owned() };
        }
        match key.rsplit_once('.') {
            Some((parent, _)) => key = parent,
            None => return DEFAULTS.to_owned(),
        }
    }
}

fn nest(key: &str, value: Value) -> Dict {
    let (name, value) = match key.split_once('.') {
        Some((section, rest)) => (section, Value::from(nest(rest, value))),
        None => (key, value),
    };
    Dict::from([(name.to_owned(), value)])
}
