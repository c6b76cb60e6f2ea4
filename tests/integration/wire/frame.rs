//! Frames of a script: what stands in them for what is known only when it runs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What the names of a script stand for.
pub(super) type Names = BTreeMap<String, Value>;

const NAME: &str = "$";
const COUNT: &str = "#";
const REST: &str = "...";

/// Puts values for names, to send. A text that is no JSON may hold names too.
pub(super) fn written(text: &str, names: &Names) -> Result<String, String> {
    spell(text, !text.starts_with('{'), |name, in_text| {
        let value = names.get(name).ok_or_else(|| format!("${name} is not known yet"))?;
        Ok(match value {
            Value::String(value) if in_text => value.clone(),
            value => value.to_string(),
        })
    })
}

/// Reads an expected frame.
pub(super) fn expected(text: &str, names: &Names) -> Result<Value, String> {
    let spelled = spell(text, false, |name, in_text| {
        if !in_text {
            return Ok(json!({NAME: name}).to_string());
        }
        match names.get(name) {
            Some(Value::String(value)) => Ok(value.clone()),
            Some(value) => Ok(value.to_string()),
            None => Err(format!("${name} is not known yet")),
        }
    })?;
    serde_json::from_str(&spelled).map_err(|error| format!("{error}: {spelled}"))
}

/// Copies a text, with what `value` makes of each `$name`, and of each `#3` and `...` that stands outside of strings an
/// object by which [`fits`] knows it.
fn spell(
    text: &str,
    all_text: bool,
    mut value: impl FnMut(&str, bool) -> Result<String, String>,
) -> Result<String, String> {
    let (mut spelled, mut rest, mut in_text) = (String::new(), text, all_text);
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let word = after.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
        match c {
            '\\' if in_text && !all_text => {
                let escaped = after.chars().next().map_or(0, char::len_utf8);
                spelled.push_str(&rest[..1 + escaped]);
                rest = &after[escaped..];
            }
            '$' if !word.is_empty() => {
                spelled.push_str(&value(word, in_text)?);
                rest = &after[word.len()..];
            }
            '#' if !in_text => {
                spelled.push_str(&format!("{{\"{COUNT}\":{word}}}"));
                rest = &after[word.len()..];
            }
            '.' if !in_text && rest.starts_with(REST) => {
                spelled.push_str(&format!("\"{REST}\":true"));
                rest = &rest[REST.len()..];
            }
            _ => {
                in_text ^= c == '"' && !all_text;
                spelled.push(c);
                rest = after;
            }
        }
    }
    Ok(spelled)
}

/// Tells whether a frame is the expected one, and binds the names that it gives values to.
pub(super) fn fits(frame: &Value, expected: &Value, names: &mut Names) -> bool {
    let mut bound = names.clone();
    let fits = matches(frame, expected, &mut bound);
    if fits {
        *names = bound;
    }
    fits
}

fn matches(frame: &Value, expected: &Value, names: &mut Names) -> bool {
    if let Some(count) = expected.get(COUNT).and_then(Value::as_u64) {
        return frame.as_array().is_some_and(|array| array.len() as u64 == count);
    }
    if let Some(name) = expected.get(NAME).and_then(Value::as_str) {
        return name == "_" || names.entry(name.to_owned()).or_insert_with(|| frame.clone()) == frame;
    }
    match (frame, expected) {
        (Value::Object(frame), Value::Object(expected)) => {
            let more = expected.contains_key(REST);
            (more || frame.len() == expected.len())
                && expected
                    .iter()
                    .filter(|(field, _)| *field != REST)
                    .all(|(field, expected)| frame.get(field).is_some_and(|value| matches(value, expected, names)))
        }
        (Value::Array(frame), Value::Array(expected)) => {
            frame.len() == expected.len()
                && frame.iter().zip(expected).all(|(value, expected)| matches(value, expected, names))
        }
        _ => frame == expected,
    }
}

#[test]
fn a_frame_fits_only_what_it_is() {
    let text = r#"{"type":"sent","key":"k-$n","to":$alice,"seen":[1,$_],"list":#2,"at":$at}"#;
    let mut names = Names::from([("alice".to_owned(), json!(7)), ("n".to_owned(), json!(1))]);
    let pattern = expected(text, &names).unwrap();
    let good = json!({"type": "sent", "key": "k-1", "to": 7, "seen": [1, null], "list": [{}, {}], "at": 5});
    assert!(fits(&good, &pattern, &mut names));
    assert_eq!(names["at"], 5);
    for (field, value) in [
        ("key", json!("k-2")),
        ("to", json!(8)),
        ("to", json!("7")),
        ("seen", json!([1])),
        ("seen", json!([2, null])),
        ("list", json!([{}])),
        ("at", json!(6)),
        ("more", json!(null)),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(!fits(&bad, &pattern, &mut names), "{bad}");
    }
    let mut less = good.clone();
    less.as_object_mut().unwrap().remove("at");
    assert!(!fits(&less, &pattern, &mut names));
}

#[test]
fn what_does_not_fit_binds_nothing() {
    let mut names = Names::new();
    let pattern = expected(r#"{"a":$a,"b":1}"#, &names).unwrap();
    assert!(!fits(&json!({"a": 5, "b": 2}), &pattern, &mut names));
    assert!(names.is_empty());
}

#[test]
fn three_dots_allow_more_fields_and_do_not_ask_for_them() {
    let mut names = Names::new();
    let pattern = expected(r#"{"type":"user",...}"#, &names).unwrap();
    assert!(fits(&json!({"type": "user"}), &pattern, &mut names));
    assert!(fits(&json!({"type": "user", "x": {"y": 1}}), &pattern, &mut names));
    assert!(!fits(&json!({"type": "group"}), &pattern, &mut names));
}

#[test]
fn what_is_sent_has_values_for_its_names() {
    let names = Names::from([("id".to_owned(), json!(7)), ("word".to_owned(), json!("a\"b"))]);
    assert_eq!(
        written(r#"{"to":$id,"body":$word,"since":{"$id":"..."},"x":"\"$id"}"#, &names).unwrap(),
        r#"{"to":7,"body":"a\"b","since":{"7":"..."},"x":"\"7"}"#
    );
    assert_eq!(written("no \"JSON $word", &names).unwrap(), "no \"JSON a\"b");
    assert!(written(r#"{"to":$nobody}"#, &names).is_err());
}
