//! Finds every unknown key and every value of a wrong type in a layer, where deserializing at once would stop at the
//! first.

use figment::Figment;
use figment::error::{Actual, Error, Kind};
use figment::providers::Serialized;
use figment::value::{Dict, Value};

use super::layer::Layer;
use super::{Config, Problem};

/// Returns what is wrong with a layer's keys and types.
pub(super) fn layer(layer: &Layer, defaults: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let known = defaults.as_dict().expect("the config is a table");
    walk(layer, &layer.values, known, &mut Vec::new(), &mut problems);
    problems
}

fn walk<'a>(layer: &Layer, given: &'a Dict, known: &Dict, path: &mut Vec<&'a str>, problems: &mut Vec<Problem>) {
    for (name, value) in given {
        path.push(name);
        match (known.get(name), value) {
            (None, _) => problems.push(unknown(layer, path, known)),
            (Some(Value::Dict(_, known)), Value::Dict(_, given)) => walk(layer, given, known, path, problems),
            (Some(_), value) => problems.extend(wrong_type(&layer.name, &path.join("."), value)),
        }
        path.pop();
    }
}

fn unknown(layer: &Layer, path: &[&str], known: &Dict) -> Problem {
    let table = match path {
        [.., _] if path.len() > 1 => format!("[{}] has", path[..path.len() - 1].join(".")),
        _ => "the sections are".to_owned(),
    };
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    Problem {
        source: layer.name.clone(),
        key: path.join("."),
        message: format!("unknown key; {table} {}", names.join(", ")),
    }
}

/// Puts one value over the defaults, so that whatever fails is due to it.
fn wrong_type(source: &str, key: &str, value: &Value) -> Option<Problem> {
    let attempt = |value: &Value| {
        let figment = Figment::from(Serialized::defaults(Config::default())).merge(Serialized::default(key, value));
        figment.extract::<Config>().err()
    };
    let error = attempt(value)?;
    // Only a text makes an enum name its variants.
    let error = match &error.kind {
        Kind::InvalidType(_, expected) if expected.starts_with("enum ") => attempt(&Value::from("")).unwrap_or(error),
        _ => error,
    };
    let mut problem = problem(source, key, &error);
    if let (Kind::UnknownVariant(..), false) = (&error.kind, matches!(value, Value::String(..))) {
        problem.message = problem.message.replacen("``", &format!("`{}`", shown(&value.to_actual())), 1);
    }
    Some(problem)
}

/// Words an error of the deserializer for the person who wrote the config.
pub(super) fn problem(source: &str, key: &str, error: &Error) -> Problem {
    let message = match &error.kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("must be {}, not {}", allowed(expected), shown(found))
        }
        Kind::UnknownVariant(found, names) => {
            format!("`{found}` is not allowed; use one of {}", names.join(", "))
        }
        Kind::UnknownField(found, names) => format!("unknown key `{found}`; use {}", names.join(", ")),
        Kind::MissingField(name) => format!("the key `{name}` is missing"),
        Kind::ISizeOutOfRange(found) => format!("{found} is out of range"),
        Kind::USizeOutOfRange(found) => format!("{found} is out of range"),
        Kind::Message(message) if message == "invalid socket address syntax" => {
            format!("must be {}", allowed("socket address"))
        }
        other => other.to_string(),
    };
    let inner = error.path.join(".");
    // The path ends in the element's own key where the value is a list.
    let key = if inner.len() > key.len() { inner } else { key.to_owned() };
    Problem { source: source.to_owned(), key, message }
}

fn allowed(expected: &str) -> String {
    let integer = |largest: u64| format!("a whole number between 0 and {largest}");
    match expected {
        "u8" => integer(u8::MAX.into()),
        "u16" => integer(u16::MAX.into()),
        "u32" => integer(u32::MAX.into()),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "a string" => "a text in quotes".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "socket address" => "an address and a port, such as \"127.0.0.1:6000\"".to_owned(),
        "an integer or string" | "parsable string" => "a size, such as \"256 KiB\"".to_owned(),
        table if table.starts_with("struct ") => "a table of keys".to_owned(),
        other => other.to_owned(),
    }
}

fn shown(found: &Actual) -> String {
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Str(value) => format!("{value:?}"),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}
