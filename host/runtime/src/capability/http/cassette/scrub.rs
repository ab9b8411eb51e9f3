//! What a cassette must not hold: credentials, and the values of environment variables.
//!
//! The host's own credentials are added after the door, so only an echo of them can come by here.
//! What users put into environments does come by, in Ray's jobs and in pods. It is replaced, the
//! same way before something is written and before it is compared with what was written.

use serde_json::Value as Json;

/// What stands in the place of a secret.
pub(super) const PLACEHOLDER: &str = "<not recorded>";
/// Shorter ones would be found everywhere.
const SHORTEST: usize = 4;
const VARIABLES: &str = "env_vars";

/// Takes secrets out.
#[derive(Debug, Clone, Default)]
pub(super) struct Scrub {
    secrets: Vec<String>,
}

impl Scrub {
    /// Of these values of headers and cookies, besides what is always taken out.
    pub(super) fn new(values: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = Vec::new();
        for value in values {
            // `Bearer <token>`, and the values of cookies.
            secrets.extend(
                value.split([' ', ';']).map(|part| part.split_once('=').map_or(part, |(_, v)| v).to_owned()),
            );
            secrets.push(value);
        }
        secrets.retain(|secret| secret.len() >= SHORTEST && !matches!(secret.as_str(), "Bearer" | "Basic"));
        // The longest first: one may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// A text: a line of a log, a URL, a header.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = variables(text);
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), PLACEHOLDER);
            }
        }
        text
    }

    /// A JSON document.
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
                // A key can be as telling as a value.
                Json::Object(fields.into_iter().map(|(key, value)| (self.secrets_of(key), value)).collect())
            }
            Json::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Json::String(text) => Json::String(self.string(&text)),
            other => other,
        }
    }

    fn secrets_of(&self, text: String) -> String {
        if self.secrets.iter().any(|secret| text.contains(secret)) { self.text(&text) } else { text }
    }

    /// A string may be a document itself, such as an annotation with what was applied last.
    fn string(&self, text: &str) -> String {
        if text.trim_start().starts_with(['{', '['])
            && let Ok(document) = serde_json::from_str::<Json>(text)
        {
            let scrubbed = self.json(document.clone());
            return if scrubbed == document { text.to_owned() } else { scrubbed.to_string() };
        }
        self.text(text)
    }

    /// A runtime environment in YAML, of which JSON is a part.
    fn runtime_env(&self, text: &str) -> String {
        let is_json = serde_json::from_str::<Json>(text).is_ok();
        if !is_json && text.contains(VARIABLES) { PLACEHOLDER.to_owned() } else { self.string(text) }
    }

    /// A body, with the places at which it was cut, which move along. A body that is a document, or
    /// a document in each line, is treated as such.
    pub(super) fn body(&self, body: &[u8], cuts: &[usize], is_whole: bool) -> (Vec<u8>, Vec<usize>) {
        if let Ok(document) = serde_json::from_slice::<Json>(body) {
            let scrubbed = self.json(document.clone());
            if scrubbed == document {
                return (body.to_owned(), cuts.to_owned());
            }
            let new = scrubbed.to_string().into_bytes();
            // Of a document that came in parts, the parts mean nothing.
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
                    // Half a document: what it says cannot be told apart.
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

/// Every value below here.
fn blank(value: Json) -> Json {
    match value {
        Json::Object(fields) => fields.into_iter().map(|(key, value)| (key, blank(value))).collect(),
        Json::Array(items) => items.into_iter().map(blank).collect(),
        Json::Null => Json::Null,
        _ => Json::String(PLACEHOLDER.to_owned()),
    }
}

/// `{"name": …, "value": …}`.
fn container_variable(mut variable: Json) -> Json {
    if let Some(value) = variable.get_mut("value") {
        *value = blank(value.take());
    }
    variable
}

/// An item of a list does not say its kind.
fn secret(mut item: Json) -> Json {
    for key in ["data", "stringData"] {
        if let Some(value) = item.get_mut(key) {
            *value = blank(value.take());
        }
    }
    item
}

/// Environment variables within a text: `"env_vars": {…}`, as JSON, escaped JSON or Python.
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

/// How long what begins with `{` is until its `}`; where that is missing, all of it.
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
    fn no_value_of_an_environment_stays_wherever_it_stands() {
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
    fn the_hosts_own_credentials_are_taken_out_of_an_echo() {
        let scrub = Scrub::new(["Bearer s3cret-token".to_owned(), "session=c00kie; theme=x".to_owned()]);
        let text = scrub.text("GET /?t=s3cret-token with c00kie, theme x");
        assert_eq!(text, format!("GET /?t={PLACEHOLDER} with {PLACEHOLDER}, theme x"));
        let json = scrub.json(serde_json::json!({"s3cret-token": ["x s3cret-token"]})).to_string();
        assert!(!json.contains("s3cret"), "{json}");
    }

    #[test]
    fn a_stream_is_cut_where_it_was_and_half_a_document_at_its_end_is_left_out() {
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
