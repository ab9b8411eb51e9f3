//! Maps recorded ids to the ids of the current session: run ids and nonces differ in each session.
//!
//! The first request that matches a recorded one except for its ids defines the mapping. From then on,
//! requests must use the mapped ids, and recorded responses are translated to the current ids.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value as Json;

/// A bijective map between recorded and current ids.
#[derive(Debug, Clone, Default)]
pub(super) struct Ids {
    now: BTreeMap<String, String>,
    recorded: BTreeMap<String, String>,
}

/// Returns whether a run of hexadecimal digits counts as an id: at least 12 digits, or at least 8 with both
/// decimal digits and letters, so that short numbers and words do not count.
fn is_id(text: &str) -> bool {
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    let letters = text.bytes().any(|byte| byte.is_ascii_lowercase());
    text.len() >= 12 || (text.len() >= 8 && digits && letters)
}

/// Splits a text into pieces, each with a flag that marks ids. A UUID is one piece.
fn pieces(text: &str) -> Vec<(&str, bool)> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let bytes = text.as_bytes();
    let mut pieces = Vec::new();
    let (mut plain, mut at) = (0, 0);
    while at < bytes.len() {
        let word = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        let run = |from: usize| bytes[from..].iter().take_while(|byte| hex(**byte)).count();
        let mut length = if word { run(at) } else { 0 };
        if length == 8 {
            let mut end = at + 8;
            let whole = [4, 4, 4, 12].into_iter().all(|part| {
                let fits = bytes.get(end) == Some(&b'-') && run(end + 1) == part;
                end += 1 + part;
                fits
            });
            if whole {
                length = 36;
            }
        }
        let ends = bytes.get(at + length).is_none_or(|byte| !byte.is_ascii_alphanumeric());
        if length > 0 && ends && (length == 36 || is_id(&text[at..at + length])) {
            if plain < at {
                pieces.push((&text[plain..at], false));
            }
            pieces.push((&text[at..at + length], true));
            at += length;
            plain = at;
        } else {
            at += length.max(1);
        }
    }
    if plain < bytes.len() {
        pieces.push((&text[plain..], false));
    }
    pieces
}

impl Ids {
    /// Compares a recorded text with a current one, and adds their ids to the map.
    pub(super) fn text(&mut self, recorded: &str, now: &str) -> bool {
        let (old, new) = (pieces(recorded), pieces(now));
        old.len() == new.len()
            && old.iter().zip(&new).all(|((old, is_id), (new, too))| {
                is_id == too && if *is_id { self.id(old, new) } else { old == new }
            })
    }

    fn id(&mut self, recorded: &str, now: &str) -> bool {
        match (self.now.get(recorded), self.recorded.get(now)) {
            (Some(known), _) => known == now,
            (None, Some(known)) => known == recorded,
            (None, None) if recorded.len() == now.len() => {
                self.now.insert(recorded.to_owned(), now.to_owned());
                self.recorded.insert(now.to_owned(), recorded.to_owned());
                true
            }
            (None, None) => false,
        }
    }

    /// Compares documents. The error is the path of the first difference.
    pub(super) fn json(&mut self, recorded: &Json, now: &Json, path: &str) -> Result<(), String> {
        let here = || Err(if path.is_empty() { "the document".to_owned() } else { path.to_owned() });
        match (recorded, now) {
            (Json::Object(old), Json::Object(new)) => {
                if let Some(key) = old.keys().find(|key| !new.contains_key(*key)) {
                    return Err(join(path, key));
                }
                for (key, new) in new {
                    let old = old.get(key).ok_or_else(|| join(path, key))?;
                    self.json(old, new, &join(path, key))?;
                }
                Ok(())
            }
            (Json::Array(old), Json::Array(new)) if old.len() == new.len() => {
                for (index, (old, new)) in old.iter().zip(new).enumerate() {
                    self.json(old, new, &format!("{path}[{index}]"))?;
                }
                Ok(())
            }
            (Json::String(old), Json::String(new)) if self.text(old, new) => Ok(()),
            (old, new) if old == new => Ok(()),
            _ => here(),
        }
    }

    /// Returns the number of ids that differ from their recorded id.
    pub(super) fn changed(&self) -> usize {
        self.now.iter().filter(|(old, new)| old != new).count()
    }

    /// Replaces the recorded ids in a text with the current ids.
    pub(super) fn translate<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.changed() == 0 {
            return Cow::Borrowed(text);
        }
        let translated = pieces(text)
            .into_iter()
            .map(
                |(piece, is_id)| {
                    if is_id { self.now.get(piece).map_or(piece, String::as_str) } else { piece }
                },
            )
            .collect();
        Cow::Owned(translated)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0b1c4f1e-6c0d-4b86-9a53-6d2f1c1f2a10";
    const B: &str = "11111111-6c0d-4b86-9a53-6d2f1c1f2a11";
    const C: &str = "22222222-6c0d-4b86-9a53-6d2f1c1f2a12";

    #[test]
    fn ids_are_mapped_one_to_one() {
        let mut ids = Ids::default();
        assert!(
            ids.text(&format!("/api/jobs/dagster-run-{A}/logs"), &format!("/api/jobs/dagster-run-{B}/logs"))
        );
        assert!(ids.text(A, B));
        assert!(!ids.text(A, C) && !ids.text(C, B) && !ids.text(A, A));
        assert_eq!(ids.translate(&format!("job {A}: {C}")), format!("job {B}: {C}"));
    }

    #[test]
    fn words_numbers_and_dates_are_not_ids() {
        for text in ["deadbeef", "12345678", "20260101", "face", "num_cpus_abcdef012345x", "a-1b2c3d4"] {
            assert!(pieces(text).iter().all(|(_, is_id)| !is_id), "{text}");
        }
        for text in ["a1b2c3d4", "0123456789ab", A] {
            assert_eq!(pieces(text), [(text, true)]);
        }
    }

    #[test]
    fn different_documents_report_the_path_of_the_first_difference() {
        let mut ids = Ids::default();
        let old = serde_json::json!({"a": [{"b": A}], "n": 1});
        assert_eq!(ids.json(&old, &serde_json::json!({"a": [{"b": B}], "n": 1}), ""), Ok(()));
        assert_eq!(ids.json(&old, &serde_json::json!({"a": [{"b": C}], "n": 1}), ""), Err("a[0].b".into()));
        assert_eq!(ids.json(&old, &serde_json::json!({"a": [{"b": B}], "n": 2}), ""), Err("n".into()));
        assert_eq!(ids.json(&old, &serde_json::json!({"a": [{"b": B}]}), ""), Err("n".into()));
    }
}
