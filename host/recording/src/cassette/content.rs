//! Converts bodies to the form of a cassette, and back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::format::{Content, Part};
use super::scrub::Scrub;

/// Maximum size of a recorded request body that is not JSON, in bytes. For a larger one, only the digest
/// is recorded.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// Converts a request's body.
pub(super) fn from_request_body(body: &Bytes, scrub: &Scrub) -> Option<Content> {
    if body.is_empty() {
        return None;
    }
    if let Ok(document) = serde_json::from_slice(body) {
        return Some(Content::Json(scrub.json(document)));
    }
    if body.len() > MAX_TEXT_BYTES || std::str::from_utf8(body).is_err() {
        let digest: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        return Some(Content::Digest { sha256: digest, bytes: body.len() as u64 });
    }
    let (body, _) = scrub.body(body, &[], true);
    Some(from_bytes(body))
}

/// Converts a body that arrived without pauses.
pub(super) fn from_bytes(body: Vec<u8>) -> Content {
    match serde_json::from_slice(&body) {
        Ok(document) => Content::Json(document),
        Err(_) => match String::from_utf8(body) {
            Ok(text) => Content::Text(text),
            Err(bytes) => Content::Base64(STANDARD.encode(bytes.as_bytes())),
        },
    }
}

/// Converts a part of a body.
pub(super) fn part(after_ms: u64, body: &[u8]) -> Part {
    match std::str::from_utf8(body) {
        Ok(text) => Part { after_ms, text: Some(text.to_owned()), base64: None },
        Err(_) => Part { after_ms, text: None, base64: Some(STANDARD.encode(body)) },
    }
}

/// Returns the bytes of a body, after applying `change` to its text.
pub(super) fn bytes(content: &Content, change: impl Fn(&str) -> String) -> Bytes {
    match content {
        Content::Json(document) => change(&document.to_string()).into(),
        Content::Text(text) => change(text).into(),
        Content::Base64(text) => STANDARD.decode(text).unwrap_or_default().into(),
        Content::Digest { .. } => Bytes::new(),
    }
}

/// Returns the bytes of a part, after applying `change` to its text.
pub(super) fn part_bytes(part: &Part, change: impl Fn(&str) -> String) -> Bytes {
    match (&part.text, &part.base64) {
        (Some(text), _) => change(text).into(),
        (None, Some(text)) => STANDARD.decode(text).unwrap_or_default().into(),
        (None, None) => Bytes::new(),
    }
}
