//! The file: what was asked and what was answered, as JSON that a person can read and change.
//!
//! ```json
//! {
//!   "version": 1,
//!   "exchanges": [
//!     {
//!       "request": {
//!         "method": "POST",
//!         "url": "http://head:8265/api/jobs/",
//!         "headers": { "content-type": "application/json" },
//!         "body": { "json": { "submission_id": "dagster-run-…", "entrypoint": "…" } }
//!       },
//!       "response": { "status": 200, "body": { "json": { "submission_id": "dagster-run-…" } } }
//!     },
//!     {
//!       "request": { "method": "GET", "url": "http://head:8265/api/v0/logs/stream?…" },
//!       "response": {
//!         "status": 200,
//!         "parts": [ { "text": "one\n" }, { "after_ms": 1200, "text": "two\n" } ],
//!         "end": "open"
//!       }
//!     },
//!     { "request": { "method": "GET", "url": "…" }, "error": { "kind": "connection-refused" } }
//!   ]
//! }
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dagster_ray_policy::LoadError;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The version of the form that is written and read here.
const VERSION: u32 = 1;

/// Why a cassette cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cassette {path}: {problem}")]
pub struct CassetteError {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl From<CassetteError> for LoadError {
    fn from(error: CassetteError) -> Self {
        Self::Cassette { path: error.path, problem: error.problem }
    }
}

impl CassetteError {
    pub(super) fn new(path: &Path, problem: impl Into<String>) -> Self {
        Self { path: path.to_owned(), problem: problem.into() }
    }
}

/// What was asked and answered, in the order in which it was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cassette {
    version: u32,
    /// The exchanges.
    pub exchanges: Vec<Exchange>,
}

/// One request with what came of it: `response` or `error`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// Which process of the session it was, counted from 0 by their first requests.
    #[serde(default, skip_serializing_if = "is_first")]
    pub process: u32,
    /// What was asked.
    pub request: Asked,
    /// What was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Answered>,
    /// Why there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Broken>,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Its method.
    pub method: String,
    /// Its whole URL.
    pub url: String,
    /// The headers that say something of the body.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Its body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Content>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Its headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Its body, where that came at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Content>,
    /// Its body as it came, where there were pauses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// How the body ended, where it did not simply end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// A part of a body that came with pauses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// How long nothing had come before it, in milliseconds, rounded to tenths of a second.
    #[serde(default, skip_serializing_if = "is_none")]
    pub after_ms: u64,
    /// UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Bytes that are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// A body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A JSON document.
    Json(Json),
    /// Other UTF-8.
    Text(String),
    /// Bytes that are not UTF-8.
    Base64(String),
    /// A large body that only its recipient needs, such as an uploaded package.
    Digest {
        /// Its sha256, in hexadecimal.
        sha256: String,
        /// Its length.
        bytes: u64,
    },
}

/// How a body ended that did not simply end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// More might have come; whoever read it let go.
    Open,
    /// The connection broke.
    Broken,
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broken {
    /// The condition, as `wasi:http` calls it, or `given-up` where nobody waited for it.
    pub kind: String,
    /// What else was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A line of what one process recorded.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// Microseconds since the Unix epoch at which it was asked.
    pub(super) at: u64,
    pub(super) exchange: Exchange,
}

fn is_first(process: &u32) -> bool {
    *process == 0
}

fn is_none(pause: &u64) -> bool {
    *pause == 0
}

impl Cassette {
    /// One of these exchanges.
    pub fn new(exchanges: Vec<Exchange>) -> Self {
        Self { version: VERSION, exchanges }
    }

    /// Reads a cassette's file, or the directory that the processes of a session recorded into.
    ///
    /// # Errors
    /// Where there is none, or it is not of this form.
    pub fn read(path: &Path) -> Result<Self, CassetteError> {
        let wrong = |problem: String| CassetteError::new(path, problem);
        if path.is_dir() {
            return Self::merged(path);
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let version = serde_json::from_str::<Json>(&text)
            .map_err(|error| wrong(format!("it is not JSON: {error}")))?
            .get("version")
            .and_then(Json::as_u64);
        if version != Some(u64::from(VERSION)) {
            let found =
                version.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"));
            return Err(wrong(format!(
                "it has {found}, and only version {VERSION} is read. Record it again"
            )));
        }
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
    }

    /// Puts together what the processes of one session recorded.
    fn merged(directory: &Path) -> Result<Self, CassetteError> {
        let wrong = |error: std::io::Error| CassetteError::new(directory, error.to_string());
        let mut all: Vec<Vec<Line>> = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(wrong)? {
            let file = entry.map_err(wrong)?.path();
            if file.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let text = std::fs::read_to_string(&file).map_err(wrong)?;
            let mut lines = Vec::new();
            // A process that was killed may have left half a line, which nobody can use.
            for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                lines.push(
                    serde_json::from_str(line)
                        .map_err(|error| CassetteError::new(&file, error.to_string()))?,
                );
            }
            lines.sort_by_key(|line: &Line| line.at);
            all.push(lines);
        }
        all.retain(|lines| !lines.is_empty());
        all.sort_by_key(|lines| lines.first().map(|line| line.at));
        let mut merged: Vec<Line> = Vec::new();
        for (process, lines) in (0_u32..).zip(all) {
            merged.extend(lines.into_iter().map(|mut line| {
                line.exchange.process = process;
                line
            }));
        }
        merged.sort_by_key(|line| line.at);
        Ok(Self::new(merged.into_iter().map(|line| line.exchange).collect()))
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CassetteError> {
        let wrong = |error: std::io::Error| CassetteError::new(path, error.to_string());
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| CassetteError::new(path, error.to_string()))?;
        text.push('\n');
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(wrong)?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(wrong)?;
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(wrong)?;
        file.persist(path).map_err(|error| wrong(error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64, url: &str) -> String {
        let request = Asked { method: "GET".into(), url: url.into(), headers: BTreeMap::new(), body: None };
        let exchange = Exchange { process: 0, request, response: None, error: None };
        serde_json::to_string(&Line { at, exchange }).unwrap() + "\n"
    }

    #[test]
    fn what_several_processes_recorded_is_put_in_the_order_in_which_it_was_asked() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put("9.jsonl", &(line(30, "c") + &line(10, "a")));
        put("1.jsonl", &(line(20, "b") + "{\"at\": 5, \"requ"));
        put("notes.txt", "not a recording");
        let cassette = Cassette::read(folder.path()).unwrap();
        let seen: Vec<_> =
            cassette.exchanges.iter().map(|one| (one.process, one.request.url.as_str())).collect();
        assert_eq!(seen, [(0, "a"), (1, "b"), (0, "c")]);

        let file = folder.path().join("one.json");
        cassette.write(&file).unwrap();
        assert_eq!(Cassette::read(&file).unwrap(), cassette);
    }

    #[test]
    fn a_cassette_of_another_version_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("old.json");
        std::fs::write(&file, "{\"version\": 7, \"exchanges\": []}").unwrap();
        let text = Cassette::read(&file).unwrap_err().to_string();
        assert!(text.contains("old.json") && text.contains("version 7"), "{text}");
        std::fs::write(&file, "[]").unwrap();
        assert!(Cassette::read(&file).unwrap_err().to_string().contains("no version"));
    }
}
