//! Specs of runs, steps, scripts and clusters.

use fastrand::Rng;
use serde_json::{Map, Value as Json, json};

/// A secret in the environments and bootstrap values of specs, and in saved values. No error or log line may
/// contain it.
pub(crate) const SECRET: &str = "planted-secret-d41d8c";
/// The Dagster deployment that owns what a component creates.
pub(crate) const DEPLOYMENT: &str = "conformance-deployment";
/// The tag that overrides the options of a run or an op.
pub(crate) const TAG: &str = "dagster-ray/config";

/// The work of a worker process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// The process ends at once.
    Brief,
    /// The process runs for ten minutes.
    Long,
}

impl Work {
    fn command(self) -> Json {
        let code = match self {
            Self::Brief => "print('done')",
            Self::Long => "import time; time.sleep(600)",
        };
        json!({
            "argv": ["python", "-c", code],
            "payload": SECRET,
            "env": [["CONFORMANCE_TOKEN", SECRET]],
        })
    }
}

/// Returns a new run id in the form that Dagster uses.
pub(crate) fn run_id() -> String {
    let random = Rng::new().u128(..);
    // A UUID of version 4.
    let random = random & !(0xf000 << 64 | 0xc000 << 48) | 0x4000 << 64 | 0x8000 << 48;
    let hex = format!("{random:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Returns a new nonce of a script.
pub(crate) fn nonce() -> String {
    run_id().replace('-', "").chars().take(12).collect()
}

fn text(options: &Map<String, Json>) -> String {
    Json::Object(options.clone()).to_string()
}

/// Returns the spec of a run.
pub(crate) fn run(run_id: &str, attempt: u32, work: Work, options: &Map<String, Json>) -> Json {
    json!({
        "deployment": DEPLOYMENT,
        "run_id": run_id,
        "attempt": attempt,
        "job_name": "conformance",
        "code_location": "conformance.py",
        "command": work.command(),
        "tags": [["team", "conformance"]],
        "options": text(options),
    })
}

/// Returns the spec of a step.
pub(crate) fn step(run_id: &str, key: &str, work: Work, options: &Map<String, Json>) -> Json {
    json!({
        "deployment": DEPLOYMENT,
        "run_id": run_id,
        "step_key": key,
        "attempt": 0,
        "job_name": "conformance",
        "code_location": "conformance.py",
        "command": work.command(),
        "tags": [["team", "conformance"]],
        "options": text(options),
    })
}

/// Returns the spec of a script with these options.
pub(crate) fn script(run_id: &str, nonce: &str, options: &Map<String, Json>) -> Json {
    json!({
        "deployment": DEPLOYMENT,
        "run_id": run_id,
        "step_key": "script",
        "attempt": 0,
        "nonce": nonce,
        "bootstrap": [["DAGSTER_PIPES_CONTEXT", SECRET], ["DAGSTER_PIPES_MESSAGES", SECRET]],
        "labels": [["dagster/run-id", run_id]],
        "image": null,
        "options": text(options),
    })
}

/// Returns the spec of a cluster.
pub(crate) fn cluster(run_id: &str, holder: &str, options: &Map<String, Json>) -> Json {
    json!({
        "name": null,
        "owner": {
            "deployment": DEPLOYMENT,
            "run_id": run_id,
            "step_key": null,
            "resource_key": "cluster",
            "holder": holder,
        },
        "image": null,
        "labels": [["conformance", run_id]],
        "env": [["CONFORMANCE_TOKEN", SECRET]],
        "options": text(options),
    })
}

/// Returns the context of a call of `io`. `options` is a JSON document.
pub(crate) fn io_context(options: &str) -> Json {
    json!({"deployment": DEPLOYMENT, "options": options})
}

/// Returns texts that break wrong quoting, parsing or slicing.
pub(crate) fn hostile_texts() -> Vec<String> {
    vec![
        String::new(),
        "'; rm -rf \"$HOME\" #`$(id)`\\".to_owned(),
        "two\nlines\r\n\tand a tab".to_owned(),
        "🦀 crème brûlée \u{202e}left \u{0}null".to_owned(),
        "../../../etc/passwd?x=1&y=2#z%00".to_owned(),
        "x".repeat(10_000),
    ]
}

/// Returns a random JSON document.
pub(crate) fn any_json(random: &mut Rng, depth: u32) -> Json {
    let most = if depth == 0 { 5 } else { 7 };
    match random.u32(0..most) {
        0 => Json::Null,
        1 => random.bool().into(),
        2 => [0, -1, 1, i64::MAX, i64::MIN][random.usize(0..5)].into(),
        3 => [0.5, -0.0, 1e308, 1e-308][random.usize(0..4)].into(),
        4 => any_text(random).into(),
        5 => (0..random.usize(0..4)).map(|_| any_json(random, depth - 1)).collect(),
        _ => (0..random.usize(0..4)).map(|_| (any_text(random), any_json(random, depth - 1))).collect(),
    }
}

/// Returns a random text made of option names and special characters.
pub(crate) fn any_text(random: &mut Rng) -> String {
    const WORDS: [&str; 16] = [
        "",
        "num_cpus",
        "num_gpus",
        "runtime_env",
        "env_vars",
        "metadata",
        "entrypoint",
        "ray_cluster",
        "spec",
        "resources",
        "a=b",
        "=",
        "{}",
        "[",
        "\u{0}",
        "é",
    ];
    let words: Vec<_> = (0..random.usize(1..4)).map(|_| WORDS[random.usize(0..WORDS.len())]).collect();
    words.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_a_uuid_of_version_4() {
        let id = run_id();
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert!(id[14..].starts_with('4') && "89ab".contains(&id[19..20]), "{id}");
        assert_ne!(run_id(), id);
    }
}
