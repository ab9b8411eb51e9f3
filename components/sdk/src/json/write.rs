//! The JSON writer.

use std::fmt::Write as _;

use serde_json::Value;

/// Returns a value as JSON without white space.
#[must_use]
pub fn text(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        // Writing to a `String` cannot fail.
        Value::Number(number) => drop(write!(text, "{number}")),
        Value::String(string) => quote(string, text),
        Value::Array(elements) => {
            let mut before = '[';
            for element in elements {
                text.push(before);
                write(element, text);
                before = ',';
            }
            end(text, before, '[', ']');
        }
        Value::Object(fields) => {
            let mut before = '{';
            for (name, value) in fields {
                text.push(before);
                quote(name, text);
                text.push(':');
                write(value, text);
                before = ',';
            }
            end(text, before, '{', '}');
        }
    }
}

/// Closes an array or an object. An empty one is opened here, since only elements write the opening
/// bracket.
fn end(text: &mut String, before: char, open: char, close: char) {
    if before == open {
        text.push(open);
    }
    text.push(close);
}

fn quote(string: &str, text: &mut String) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            // Writing to a `String` cannot fail.
            '\0'..' ' => drop(write!(text, "\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
}
