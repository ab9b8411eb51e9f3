//! The cassette file: requests and responses as readable and editable JSON.
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

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The version of the file format.
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

impl CassetteError {
    pub(super) fn new(path: &Path, problem: impl Into<String>) -> Self {
        Self { path: path.to_owned(), problem: problem.into() }
    }
}

/// Recorded exchanges, in the order of their requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cassette {
    version: u32,
    /// The exchanges.
    pub exchanges: Vec<Exchange>,
}

/// One request with its `response` or `error`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// The index of the process that sent the request. Processes are numbered from 0 by the time of their
    /// first request.
    #[serde(default, skip_serializing_if = "is_first")]
    pub process: u32,
    /// The request.
    pub request: RecordedRequest,
    /// The response, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<RecordedResponse>,
    /// Why there was no response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RecordedError>,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedRequest {
    /// The method.
    pub method: String,
    /// The complete URL.
    pub url: String,
    /// The headers `accept`, `content-type`, `if-match` and `if-none-match`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Content>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedResponse {
    /// The status.
    pub status: u16,
    /// The headers `content-type`, `location`, `retry-after` and `etag`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body, if it arrived without pauses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Content>,
    /// The parts of a body that arrived with pauses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// How the body ended, if not normally.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// A part of a body that arrived with pauses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The pause before the part, in milliseconds, rounded to tenths of a second.
    #[serde(default, skip_serializing_if = "is_none")]
    pub after_ms: u64,
    /// The part as UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The part as Base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// A body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A JSON document.
    Json(Json),
    /// Other UTF-8 text.
    Text(String),
    /// Bytes that are not UTF-8, as Base64.
    Base64(String),
    /// The digest of a large or binary request body, such as an uploaded package.
    Digest {
        /// The SHA-256, in hexadecimal.
        sha256: String,
        /// The length in bytes.
        bytes: u64,
    },
}

/// How a body ended, if not normally.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The component stopped reading before the end.
    Open,
    /// The connection broke.
    Broken,
}

/// Why there was no response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedError {
    /// The error's name in `wasi:http`, or `given-up` if the component abandoned the request.
    pub kind: String,
    /// Details of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A line of the file that one process records.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// When the request was sent, in microseconds since the Unix epoch.
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
    /// Creates a cassette of the exchanges.
    pub fn new(exchanges: Vec<Exchange>) -> Self {
        Self { version: VERSION, exchanges }
    }

    /// Reads a cassette file, or merges the files of a directory that processes recorded into.
    ///
    /// # Errors
    /// If the path cannot be read, or is not a cassette of this version.
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
                "it has {found}, but only version {VERSION} is supported. Record it again"
            )));
        }
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
    }

    /// Merges the recordings of all processes of a session.
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
            // Skip the incomplete last line of a process that was killed.
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

    /// Writes the cassette file atomically.
    ///
    /// # Errors
    /// If the file cannot be written.
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
        let request =
            RecordedRequest { method: "GET".into(), url: url.into(), headers: BTreeMap::new(), body: None };
        let exchange = Exchange { process: 0, request, response: None, error: None };
        serde_json::to_string(&Line { at, exchange }).unwrap() + "\n"
    }

    #[test]
    fn recordings_of_several_processes_are_merged_in_request_order() {
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
    fn an_unsupported_version_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("old.json");
        std::fs::write(&file, "{\"version\": 7, \"exchanges\": []}").unwrap();
        let text = Cassette::read(&file).unwrap_err().to_string();
        assert!(text.contains("old.json") && text.contains("version 7"), "{text}");
        std::fs::write(&file, "[]").unwrap();
        assert!(Cassette::read(&file).unwrap_err().to_string().contains("no version"));
    }
}
