//! Bodies as a cassette keeps them, and back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::format::{Content, Part};
use super::scrub::Scrub;

/// Of a request's body that is larger and not JSON, only the digest is kept.
const LARGEST: usize = 64 << 10;

/// A request's body.
pub(super) fn of_request(body: &Bytes, scrub: &Scrub) -> Option<Content> {
    if body.is_empty() {
        return None;
    }
    if let Ok(document) = serde_json::from_slice(body) {
        return Some(Content::Json(scrub.json(document)));
    }
    if body.len() > LARGEST || std::str::from_utf8(body).is_err() {
        let digest: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        return Some(Content::Digest { sha256: digest, bytes: body.len() as u64 });
    }
    let (body, _) = scrub.body(body, &[], true);
    Some(of_bytes(body))
}

/// A body that came at once.
pub(super) fn of_bytes(body: Vec<u8>) -> Content {
    match serde_json::from_slice(&body) {
        Ok(document) => Content::Json(document),
        Err(_) => match String::from_utf8(body) {
            Ok(text) => Content::Text(text),
            Err(bytes) => Content::Base64(STANDARD.encode(bytes.as_bytes())),
        },
    }
}

/// A part of a body.
pub(super) fn part(after_ms: u64, body: &[u8]) -> Part {
    match std::str::from_utf8(body) {
        Ok(text) => Part { after_ms, text: Some(text.to_owned()), base64: None },
        Err(_) => Part { after_ms, text: None, base64: Some(STANDARD.encode(body)) },
    }
}

/// The bytes of a body, after `change` has seen its text.
pub(super) fn bytes(content: &Content, change: impl Fn(&str) -> String) -> Bytes {
    match content {
        Content::Json(document) => change(&document.to_string()).into(),
        Content::Text(text) => change(text).into(),
        Content::Base64(text) => STANDARD.decode(text).unwrap_or_default().into(),
        Content::Digest { .. } => Bytes::new(),
    }
}

/// The bytes of a part.
pub(super) fn part_bytes(part: &Part, change: impl Fn(&str) -> String) -> Bytes {
    match (&part.text, &part.base64) {
        (Some(text), _) => change(text).into(),
        (None, Some(text)) => STANDARD.decode(text).unwrap_or_default().into(),
        (None, None) => Bytes::new(),
    }
}
