//! The service's jobs: their ids and what they execute.

use std::collections::BTreeMap;

use dagster_ray_sdk::{
    json::{Value, json},
    model::WorkerCommand,
    random,
};

use crate::options::{Options, ScriptOptions};

/// The label with a nonce that distinguishes launches.
pub(crate) const LAUNCH: &str = "launch";
/// The label with the Dagster deployment. Deployments that share the service identify their jobs by it.
pub(crate) const DEPLOYMENT: &str = "dagster-ray/deployment";
/// The variable with a worker's last argument, which may hold secrets. The service shows command lines to
/// every client.
const ARGUMENT: &str = "DAGSTER_WORKER_ARGUMENT";
const LONGEST_NAME: usize = 60;
const LONGEST_ID: usize = 200;

/// What a job executes.
#[derive(Debug)]
pub(crate) struct Spec {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    directory: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// Returns the id of a run's job.
pub(crate) fn of_run(run_id: &str, attempt: u32) -> String {
    format!("dagster-run-{}.{attempt}", slug(run_id))
}

/// Returns the id of a step's job.
pub(crate) fn of_step(run_id: &str, step_key: &str, attempt: u32) -> String {
    format!("dagster-step-{}.{}.{attempt}", slug(run_id), slug(step_key))
}

/// Returns the id of a script's job.
pub(crate) fn of_script(run_id: &str, nonce: &str) -> String {
    format!("dagster-pipes-{}.{}", slug(run_id), slug(nonce))
}

/// Returns whether the service accepts the text as an id.
pub(crate) fn is_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(fits)
}

/// Returns the name if it fits into an id, or else a replacement with a hash of the name.
///
/// A step's key may contain any character.
fn slug(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.len() <= LONGEST_NAME && name.chars().all(fits) {
        return name.to_owned();
    }
    let plain: String = name.chars().take(LONGEST_NAME).map(|c| if fits(c) { c } else { '_' }).collect();
    // FNV-1a.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{plain}-{hash:016x}")
}

impl Spec {
    /// Returns the body of the request that starts the job.
    pub(crate) fn document(&self) -> Value {
        let mut document = json!({"argv": self.argv, "env": self.env, "labels": self.labels});
        if let Some(directory) = &self.directory {
            document["directory"] = directory.as_str().into();
        }
        document
    }

    /// The job of a run worker or a step worker.
    pub(crate) fn of_worker(command: &WorkerCommand, options: Options, labels: &[(&str, &str)]) -> Self {
        let mut env: BTreeMap<String, String> = options.env_vars.into_iter().collect();
        // The worker's own variables take precedence over the user's.
        env.extend(command.env.iter().cloned());
        let mut argv = command.argv.clone();
        if let Some(payload) = &command.payload {
            env.insert(ARGUMENT.to_owned(), payload.clone());
            let shell = ["sh", "-c", &format!(r#"exec "$@" "${ARGUMENT}""#), "sh"].map(str::to_owned);
            argv.splice(0..0, shell);
        }
        Self { argv, env, directory: options.directory, labels: labelled(labels) }
    }

    /// The job of a script that reports through Dagster Pipes.
    pub(crate) fn of_script(
        options: ScriptOptions,
        bootstrap: &[(String, String)],
        labels: &[(String, String)],
        deployment: &str,
    ) -> Self {
        let mut env = options.env_vars;
        env.extend(bootstrap.iter().cloned());
        let mut all = options.metadata;
        all.extend(labels.iter().cloned());
        all.extend(labelled(&[(DEPLOYMENT, deployment)]));
        let argv = ["sh", "-c", &options.entrypoint].map(str::to_owned).to_vec();
        Self { argv, env, directory: options.directory, labels: all }
    }
}

fn labelled(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    let own = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    own.chain([(LAUNCH.to_owned(), random::hex(8))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_steps_have_different_jobs() {
        let long = "x".repeat(300);
        let keys = ["a[b]", "a_b_", "a", "a.1", "", "../x?y", &long, &long[1..]];
        let mut ids: Vec<String> = keys.iter().map(|key| of_step(&long, key, u32::MAX)).collect();
        ids.extend([of_step("r", "a", 1), of_step("r", "a-1", 0), of_step("r-a", "1", 0)]);
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[..index].contains(id), "{id} twice");
            assert!(is_id(id), "{id}");
        }
    }
}
