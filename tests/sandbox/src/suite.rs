//! Runs the attacks of `attacks.json`. Each entry has a description, the export that makes the attack, the
//! outcome, and the exception that a Python caller gets. The Rust and the Python suite run the same list,
//! and the table in `docs/security.md` is written from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dagster_ray_runtime::capability::objects::{Value as HostValue, ValueInfo};
use dagster_ray_runtime::model::Error;
use dagster_ray_runtime::{Backend, Call, CallError, CallOptions, Progress, Report};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Subject, call};

/// The manifest of the hostile component: small limits and a grant of each kind, so that attacks can exceed
/// them.
pub const MANIFEST: &str = include_str!("../hostile.toml");

/// An attack.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    /// The heading under which the table lists the attack.
    pub group: String,
    /// The description in the table.
    pub what: String,
    /// The setting `attack` of the hostile component.
    pub attack: String,
    /// The export that makes the attack, or `every` for all exports in turn.
    pub export: String,
    /// The text of the error, and a summary of the reports that reach the caller.
    pub outcome: String,
    /// What the outcome means, where the table would show a code or the output of the component.
    #[serde(default)]
    pub meaning: Option<String>,
    /// The exception of `dagster_ray.errors` that a Python caller gets.
    pub raises: String,
}

/// Returns the path of `attacks.json`.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks.json")
}

/// Returns the attacks of `attacks.json`.
pub fn attacks() -> Vec<Attack> {
    let text = std::fs::read_to_string(path()).expect("attacks.json can be read");
    serde_json::from_str(&text).expect("a list of attacks")
}

/// Formats attacks as in `attacks.json`: one on each line.
pub fn to_json(attacks: &[Attack]) -> String {
    let line = |attack: &Attack| {
        let Attack { group, what, attack, export, outcome, meaning, raises } = attack;
        let mut fields = vec![
            ("group", group),
            ("what", what),
            ("attack", attack),
            ("export", export),
            ("outcome", outcome),
        ];
        fields.extend(meaning.as_ref().map(|meaning| ("meaning", meaning)));
        fields.push(("raises", raises));
        let fields: Vec<_> =
            fields.iter().map(|(key, value)| format!("{}: {}", json!(key), json!(value))).collect();
        format!("  {{{}}}", fields.join(", "))
    };
    format!("[\n{}\n]\n", attacks.iter().map(line).collect::<Vec<_>>().join(",\n"))
}

/// Returns each export of the hostile component with valid arguments.
pub fn exports() -> BTreeMap<String, Value> {
    serde_json::from_str(include_str!("../exports.json")).expect("exports.json is valid")
}

/// The outcome of an attack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The error's text without parts that differ between runs, and a summary of the reports that reach the
    /// caller.
    pub text: String,
    /// The name of the exception in Python.
    pub raises: &'static str,
}

impl Attack {
    /// Makes the attack from one export, and asserts that the host serves the next call.
    pub fn run(&self, export: &str, port: u16) -> Outcome {
        let authority = format!("127.0.0.1:{port}");
        let attack = self
            .attack
            .replace("{authority}", &authority)
            .replace("{port}", &port.to_string())
            .replace("{long}", &"x".repeat(100 << 10));
        let subject = |attack: &str| {
            Subject::new("hostile", &MANIFEST.replace("{port}", &port.to_string()))
                .setting("attack", attack)
                .setting("attack-in", export)
                .authority(&format!("http://{authority}"), ("authorization", "Bearer planted-token"))
                .program("echo", &["/bin/echo"])
        };
        let attacker = subject(&attack);
        let backend = attacker.backend();
        // A short timeout: only the deadline ends these attacks.
        let timeout = (self.raises == "CallTimeoutError").then_some(Duration::from_millis(500));
        let arguments = exports()[export].to_string();
        let value = || HostValue {
            info: ValueInfo { type_name: "secret".into(), size: None },
            content: Arc::new("planted-value"),
        };
        let values = if export == "io.save" { vec![value()] } else { Vec::new() };
        let options = CallOptions { timeout, values };
        let (outcome, reports) = end(&backend, export, &arguments, options);
        self.expect_served(&backend, export);
        let text = match &outcome {
            Ok(value) => format!("answers {}", shortened(&value.to_string())),
            Err(error) => error.to_string(),
        };
        if let Err(CallError::Trap { stderr, .. }) = &outcome {
            // `stderr_kib` of the manifest.
            assert!(stderr.len() <= 1 << 10, "{}: {} bytes on standard error", self.what, stderr.len());
        }
        assert!(!text.contains("planted-token"), "{}: {text}", self.what);
        let text = text
            .replace(&format!("hostile: {export}: "), "")
            .replace(&format!(":{port}"), ":PORT")
            .replace(&attacker.wasm().with_extension("").display().to_string(), "hostile");
        // The location in the component and its standard error depend on the fixture's build.
        let text = text.split("\nThe component wrote:").next().unwrap_or_default();
        let text = text.split(" (in ").next().unwrap_or_default();
        let text = shortened(text) + &reports.map(|reports| format!("; {reports}")).unwrap_or_default();
        Outcome { text, raises: exception(&outcome) }
    }

    /// Asserts that the next call has the same result as without an attack.
    fn expect_served(&self, backend: &Backend, attacked: &str) {
        let next = if attacked == "executor.finish" { "executor.plan" } else { "executor.finish" };
        let served = match call(backend, next, &exports()[next]) {
            Ok(answer) => answer.to_string(),
            Err(error) => error.to_string(),
        };
        let expected = match next {
            "executor.finish" => "null",
            _ => "hostile: executor.plan: this export does nothing",
        };
        assert_eq!(served, expected, "{}: the next call", self.what);
    }

    /// Makes the attack from its export, or from every export. All exports must have the same outcome.
    pub fn outcome(&self, port: u16) -> Outcome {
        if self.export != "every" {
            return self.run(&self.export, port);
        }
        let all: Vec<_> =
            exports().into_keys().map(|export| (export.clone(), self.run(&export, port))).collect();
        let (_, first) = all.first().cloned().expect("there are exports");
        for (export, outcome) in &all {
            assert_eq!(*outcome, first, "{} from {export}", self.what);
        }
        first
    }
}

/// Makes a call to its end. Returns its result and a summary of the reports that reach the caller, if any.
fn end(
    backend: &Backend,
    export: &str,
    arguments: &str,
    options: CallOptions,
) -> (Result<Value, CallError>, Option<String>) {
    let mut call = Call::begin(backend, export, arguments, options);
    let mut reports: Vec<String> = Vec::new();
    let outcome = loop {
        match call.wait(backend, Duration::from_secs(60)) {
            Progress::Report(Report::Log { message, .. } | Report::Progress { message }) => {
                reports.push(message);
            }
            Progress::Report(Report::Event { event, body }) => reports.push(event + &body),
            Progress::Report(Report::Output { text, .. }) => {
                reports.push(String::from_utf8_lossy(&text).into_owned());
            }
            Progress::Ended(outcome) => break outcome.map(|answer| answer.json),
            Progress::Pending => panic!("{export} does not end"),
        }
    };
    let summary = reports.pop().map(|last| {
        let bytes: usize = reports.iter().map(String::len).sum();
        format!("reports that reach the caller: {}, with {bytes} bytes; then: {last}", reports.len())
    });
    (outcome, summary)
}

fn shortened(text: &str) -> String {
    let line = text.lines().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn exception(outcome: &Result<Value, CallError>) -> &'static str {
    match outcome {
        Ok(_) => "-",
        Err(CallError::Load(_)) => "ComponentLoadError",
        Err(CallError::NotOffered { .. }) => "UnsupportedError",
        Err(CallError::Arguments { .. }) => "ComponentError",
        Err(CallError::Trap { .. }) => "ComponentTrap",
        Err(CallError::Deadline { .. }) => "CallTimeoutError",
        Err(CallError::Cancelled { .. }) => "CancelledError",
        Err(CallError::Returned { error, .. }) => match &**error {
            Error::Denied(_) => "PermissionDeniedError",
            Error::Unavailable(_) => "UnavailableError",
            Error::Backend(_) => "BackendError",
            Error::Unsupported(_) => "UnsupportedError",
            _ => "DagsterRayError",
        },
    }
}
