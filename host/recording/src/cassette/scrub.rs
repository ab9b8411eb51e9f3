//! Removes credentials and values of environment variables from a recording.
//!
//! The host adds its credentials after the recorder, so they can appear only if a server echoes them.
//! Users' environment variables appear in Ray jobs and in pods. Requests are scrubbed in the same way
//! before they are recorded and before they are compared with recorded ones.

use serde_json::Value as Json;

/// The text that replaces a secret.
pub(super) const PLACEHOLDER: &str = "<not recorded>";
/// Minimum length of a secret. A shorter one would match unrelated text.
const SHORTEST: usize = 4;
const VARIABLES: &str = "env_vars";

/// Replaces secrets.
#[derive(Debug, Clone, Default)]
pub(super) struct Scrub {
    secrets: Vec<String>,
}

impl Scrub {
    /// Creates a scrubber for these values of headers and cookies. Environment variables are always
    /// scrubbed.
    pub(super) fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = Vec::new();
        for value in values {
            // Split `Bearer <token>` and cookies into their values.
            secrets.extend(
                value.split([' ', ';']).map(|part| part.split_once('=').map_or(part, |(_, v)| v).to_owned()),
            );
            secrets.push(value);
        }
        secrets.retain(|secret| secret.len() >= SHORTEST && !matches!(secret.as_str(), "Bearer" | "Basic"));
        // Replace the longest first, because one secret may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// Scrubs a text: a log line, a URL, a header.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = variables(text);
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), PLACEHOLDER);
            }
        }
        text
    }

    /// Scrubs a JSON document.
    pub(super) fn json(&self, document: Json) -> Json {
        match document {
            Json::Object(mut fields) => {
                let kind = fields.get("kind").and_then(Json::as_str).unwrap_or_default();
                let (is_secret, is_list) = (kind == "Secret", kind == "SecretList");
                for (key, value) in &mut fields {
                    let old = value.take();
                    *value = match (key.as_str(), old) {
                        (VARIABLES, old) => blank(old),
                        ("env", Json::Object(variables)) => blank(Json::Object(variables)),
                        ("env", Json::Array(variables)) => {
                            variables.into_iter().map(|one| self.json(container_variable(one))).collect()
                        }
                        ("data" | "stringData", old) if is_secret => blank(old),
                        ("items", Json::Array(items)) if is_list => {
                            items.into_iter().map(|item| self.json(secret(item))).collect()
                        }
                        ("runtimeEnvYAML", Json::String(text)) => Json::String(self.runtime_env(&text)),
                        (_, old) => self.json(old),
                    };
                }
                // A key can contain a secret too.
                Json::Object(fields.into_iter().map(|(key, value)| (self.key(key), value)).collect())
            }
            Json::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Json::String(text) => Json::String(self.string(&text)),
            other => other,
        }
    }

    fn key(&self, text: String) -> String {
        if self.secrets.iter().any(|secret| text.contains(secret)) { self.text(&text) } else { text }
    }

    /// Scrubs a string, which may contain a document, such as `kubectl`'s last-applied annotation.
    fn string(&self, text: &str) -> String {
        if text.trim_start().starts_with(['{', '['])
            && let Ok(document) = serde_json::from_str::<Json>(text)
        {
            let scrubbed = self.json(document.clone());
            return if scrubbed == document { text.to_owned() } else { scrubbed.to_string() };
        }
        self.text(text)
    }

    /// Scrubs a runtime environment in YAML or JSON.
    fn runtime_env(&self, text: &str) -> String {
        let is_json = serde_json::from_str::<Json>(text).is_ok();
        if !is_json && text.contains(VARIABLES) { PLACEHOLDER.to_owned() } else { self.string(text) }
    }

    /// Scrubs a body and adjusts the offsets of its cuts. Handles a JSON document, and a JSON document
    /// per line.
    pub(super) fn body(&self, body: &[u8], cuts: &[usize], is_whole: bool) -> (Vec<u8>, Vec<usize>) {
        if let Ok(document) = serde_json::from_slice::<Json>(body) {
            let scrubbed = self.json(document.clone());
            if scrubbed == document {
                return (body.to_owned(), cuts.to_owned());
            }
            let new = scrubbed.to_string().into_bytes();
            // The cuts of a changed document have no meaning: move them to its end.
            let moved = cuts.iter().map(|_| new.len()).collect();
            return (new, moved);
        }
        let mut new = Vec::with_capacity(body.len());
        let mut moved = Vec::with_capacity(cuts.len());
        let mut cuts = cuts.iter().copied().peekable();
        let mut start = 0;
        let is_document = |text: &str| text.trim_start().starts_with('{');
        for line in body.split_inclusive(|byte| *byte == b'\n') {
            let end = start + line.len();
            let scrubbed = match std::str::from_utf8(line) {
                Ok(text) if is_document(text) => match serde_json::from_str::<Json>(text) {
                    Ok(document) => {
                        let scrubbed = self.json(document.clone());
                        if scrubbed == document { text.to_owned() } else { format!("{scrubbed}\n") }
                    }
                    // An incomplete document cannot be scrubbed, so drop it.
                    Err(_) if end == body.len() && !is_whole => String::new(),
                    Err(_) => self.text(text),
                }
                .into_bytes(),
                Ok(text) => self.text(text).into_bytes(),
                Err(_) => self.bytes(line),
            };
            while let Some(cut) = cuts.next_if(|cut| *cut < end) {
                let within = if scrubbed.len() == line.len() { cut - start } else { scrubbed.len() };
                moved.push(new.len() + within);
            }
            new.extend_from_slice(&scrubbed);
            start = end;
        }
        moved.extend(cuts.map(|_| new.len()));
        (new, moved)
    }

    fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_owned();
        for secret in &self.secrets {
            while let Some(at) = bytes.windows(secret.len()).position(|window| window == secret.as_bytes()) {
                bytes.splice(at..at + secret.len(), PLACEHOLDER.bytes());
            }
        }
        bytes
    }
}

/// Replaces every value in a document.
fn blank(value: Json) -> Json {
    match value {
        Json::Object(fields) => fields.into_iter().map(|(key, value)| (key, blank(value))).collect(),
        Json::Array(items) => items.into_iter().map(blank).collect(),
        Json::Null => Json::Null,
        _ => Json::String(PLACEHOLDER.to_owned()),
    }
}

/// Replaces the value of a container's variable, `{"name": …, "value": …}`.
fn container_variable(mut variable: Json) -> Json {
    if let Some(value) = variable.get_mut("value") {
        *value = blank(value.take());
    }
    variable
}

/// Replaces the data of an item of a `SecretList`. Items of a list have no `kind`.
fn secret(mut item: Json) -> Json {
    for key in ["data", "stringData"] {
        if let Some(value) = item.get_mut(key) {
            *value = blank(value.take());
        }
    }
    item
}

/// Replaces environment variables in a text: `"env_vars": {…}` as JSON, escaped JSON or Python.
fn variables(text: &str) -> String {
    let mut new = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(VARIABLES) {
        let (before, after) = rest.split_at(at + VARIABLES.len());
        new.push_str(before);
        rest = after;
        let opening = after.find(|c: char| !matches!(c, '"' | '\'' | '\\' | ':' | '=' | ' ' | '\t'));
        if let Some(opening) = opening
            && after[opening..].starts_with('{')
        {
            let closing = closing(&after[opening..]);
            new.push_str(&after[..opening]);
            new.push_str(PLACEHOLDER);
            rest = &after[opening + closing..];
        }
    }
    new.push_str(rest);
    new
}

/// Returns the length up to the brace that closes the first one, or the whole length without it.
fn closing(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_environment_variables_and_secrets_are_replaced_everywhere() {
        let scrub = Scrub::default();
        let all = serde_json::json!({
            "runtime_env": {"env_vars": {"A": "planted", "B": ["planted"]}, "pip": ["kept"]},
            "spec": {"containers": [{"env": [{"name": "A", "value": "planted"}, {"name": "N", "valueFrom": {"kept": 1}}]}]},
            "options": {"env": {"A": "planted"}},
            "annotations": {"last": "{\"env_vars\": {\"A\": \"planted\"}, \"x\": \"kept\"}"},
            "runtimeEnvYAML": "env_vars:\n  A: planted\n",
            "command": ["--runtime-env-json={\"env_vars\": {\"A\": \"planted\", \"B\": \"{planted}\"}, \"pip\": \"kept\"}"],
            "object": {"kind": "Secret", "data": {"a": "planted"}, "metadata": {"name": "kept"}},
            "list": {"kind": "SecretList", "items": [{"data": {"a": "planted"}, "metadata": {"name": "kept"}}]},
        });
        let text = scrub.json(all).to_string();
        assert!(!text.contains("planted"), "{text}");
        assert_eq!(text.matches("kept").count(), 6, "{text}");
    }

    #[test]
    fn echoed_credentials_are_replaced() {
        let scrub = Scrub::new(["Bearer s3cret-token".to_owned(), "session=c00kie; theme=x".to_owned()]);
        let text = scrub.text("GET /?t=s3cret-token with c00kie, theme x");
        assert_eq!(text, format!("GET /?t={PLACEHOLDER} with {PLACEHOLDER}, theme x"));
        let json = scrub.json(serde_json::json!({"s3cret-token": ["x s3cret-token"]})).to_string();
        assert!(!json.contains("s3cret"), "{json}");
    }

    #[test]
    fn cuts_of_a_stream_are_adjusted_and_an_incomplete_document_is_dropped() {
        let scrub = Scrub::new(["s3cret-token".to_owned()]);
        let (body, cuts) = scrub.body(b"one\ns3cret-token\nthree\n", &[2, 9, 18], true);
        assert_eq!(String::from_utf8(body).unwrap(), format!("one\n{PLACEHOLDER}\nthree\n"));
        assert_eq!(cuts, [2, 19, 20]);
        let watch = b"{\"env_vars\":{\"A\":\"planted\"}}\n{\"env\":[{\"name\":\"A\",\"value\":\"plan";
        let (body, cuts) = scrub.body(watch, &[30], false);
        assert_eq!(
            String::from_utf8(body).unwrap(),
            format!("{{\"env_vars\":{{\"A\":\"{PLACEHOLDER}\"}}}}\n")
        );
        assert_eq!(cuts.len(), 1);
    }
}
