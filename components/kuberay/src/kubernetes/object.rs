//! What every Kubernetes object has, read from its JSON.

use std::collections::BTreeMap;

use serde_json::Value;

/// A text at a JSON pointer, where there is one that is not empty.
#[must_use]
pub fn text<'a>(document: &'a Value, pointer: &str) -> Option<&'a str> {
    document.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

/// Its name.
#[must_use]
pub fn name(document: &Value) -> &str {
    text(document, "/metadata/name").unwrap_or_default()
}

/// Its namespace.
#[must_use]
pub fn namespace(document: &Value) -> &str {
    text(document, "/metadata/namespace").unwrap_or_default()
}

/// Its unique id.
#[must_use]
pub fn uid(document: &Value) -> &str {
    text(document, "/metadata/uid").unwrap_or_default()
}

/// The state in which it was seen.
#[must_use]
pub fn resource_version(document: &Value) -> &str {
    text(document, "/metadata/resourceVersion").unwrap_or_default()
}

/// Whether it is going.
#[must_use]
pub fn is_deleting(document: &Value) -> bool {
    text(document, "/metadata/deletionTimestamp").is_some()
}

/// Whether another object manages it, and takes it along when it goes.
#[must_use]
pub fn is_owned(document: &Value) -> bool {
    document.pointer("/metadata/ownerReferences").and_then(Value::as_array).is_some_and(|all| !all.is_empty())
}

/// Its labels.
#[must_use]
pub fn labels(document: &Value) -> BTreeMap<&str, &str> {
    strings(document, "/metadata/labels")
}

/// Its annotations.
#[must_use]
pub fn annotations(document: &Value) -> BTreeMap<&str, &str> {
    strings(document, "/metadata/annotations")
}

/// The elements of an array at a JSON pointer.
pub fn elements<'a>(document: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    document.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn strings<'a>(document: &'a Value, pointer: &str) -> BTreeMap<&'a str, &'a str> {
    document
        .pointer(pointer)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect()
}
