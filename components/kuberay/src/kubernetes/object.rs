//! Reads the common fields of Kubernetes objects from JSON.

use std::collections::BTreeMap;

use serde_json::Value;

/// Returns the string at a JSON pointer, or `None` if it is missing or empty.
#[must_use]
pub fn text<'a>(document: &'a Value, pointer: &str) -> Option<&'a str> {
    document.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

/// Returns the name, or an empty string.
#[must_use]
pub fn name(document: &Value) -> &str {
    text(document, "/metadata/name").unwrap_or_default()
}

/// Returns the namespace, or an empty string.
#[must_use]
pub fn namespace(document: &Value) -> &str {
    text(document, "/metadata/namespace").unwrap_or_default()
}

/// Returns the uid, or an empty string.
#[must_use]
pub fn uid(document: &Value) -> &str {
    text(document, "/metadata/uid").unwrap_or_default()
}

/// Returns the resource version, or an empty string.
#[must_use]
pub fn resource_version(document: &Value) -> &str {
    text(document, "/metadata/resourceVersion").unwrap_or_default()
}

/// Returns whether the object is being deleted.
#[must_use]
pub fn is_deleting(document: &Value) -> bool {
    text(document, "/metadata/deletionTimestamp").is_some()
}

/// Returns whether the object has an owner, with which Kubernetes deletes it.
#[must_use]
pub fn is_owned(document: &Value) -> bool {
    document.pointer("/metadata/ownerReferences").and_then(Value::as_array).is_some_and(|all| !all.is_empty())
}

/// Returns the labels.
#[must_use]
pub fn labels(document: &Value) -> BTreeMap<&str, &str> {
    strings(document, "/metadata/labels")
}

/// Returns the annotations.
#[must_use]
pub fn annotations(document: &Value) -> BTreeMap<&str, &str> {
    strings(document, "/metadata/annotations")
}

/// Returns the elements of the array at a JSON pointer.
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
