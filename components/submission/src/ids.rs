//! Submission ids of runs, steps, scripts and kill jobs.
//!
//! An id is derived from the run, step and attempt, so that a launch can be repeated and a lost reference
//! restored. Step ids are unique: slug, digest and attempt contain no dash and are joined by dashes, and an
//! attempt has at most 10 digits where a digest has 16.

use dagster_ray_sdk::{hex, random};
use sha2::{Digest, Sha256};

/// The prefix of the submission ids of run workers. The run id follows.
pub const RUN_PREFIX: &str = "dagster-run-";
const STEP_PREFIX: &str = "dagster-step-";
const TASK_PREFIX: &str = "dagster-task-";
const KILL_PREFIX: &str = "dagster-stop-";
const MAX_SLUG_CHARS: usize = 60;
const DIGEST_BYTES: usize = 8;
const REPEAT_MARK: &str = "-again";

/// Returns the submission id of a run worker.
#[must_use]
pub fn run(run_id: &str, attempt: u32) -> String {
    with_attempt(format!("{RUN_PREFIX}{run_id}"), attempt)
}

/// Returns the submission id of a step worker's first launch.
#[must_use]
pub fn step(run_id: &str, step_key: &str, attempt: u32) -> String {
    with_attempt(format!("{STEP_PREFIX}{run_id}-{}", slug(step_key)), attempt)
}

/// Returns whether a submission id is one of [`step`], also of a repeated launch.
#[must_use]
pub fn is_step(submission_id: &str) -> bool {
    submission_id.starts_with(STEP_PREFIX)
}

/// Returns the key of the Ray task that executes a step.
#[must_use]
pub fn task(run_id: &str, step_key: &str, attempt: u32) -> String {
    with_attempt(format!("{TASK_PREFIX}{run_id}-{}", slug(step_key)), attempt)
}

/// Returns whether the submission id of a reference is one of [`task`].
#[must_use]
pub fn is_task(submission_id: &str) -> bool {
    submission_id.starts_with(TASK_PREFIX)
}

/// Returns the submission id of a script.
#[must_use]
pub fn script(run_id: &str, nonce: &str) -> String {
    format!("dagster-pipes-{run_id}-{nonce}")
}

/// Returns a new submission id of a job that kills pending jobs.
#[must_use]
pub fn kill_job() -> String {
    format!("{KILL_PREFIX}{}", random::hex(8))
}

/// Returns whether a submission id is one of [`kill_job`].
#[must_use]
pub fn is_kill_job(submission_id: &str) -> bool {
    submission_id.starts_with(KILL_PREFIX)
}

/// Returns the submission id of the `n`-th repeated launch of `base`. 0 is the first launch.
#[must_use]
pub fn repeated(base: &str, n: u32) -> String {
    if n == 0 { base.to_owned() } else { format!("{base}{REPEAT_MARK}{n}") }
}

/// Splits a submission id into that of the first launch and the number of the repeated launch.
#[must_use]
pub fn split_repeated(submission_id: &str) -> (&str, u32) {
    submission_id
        .rsplit_once(REPEAT_MARK)
        .and_then(|(base, digits)| Some((base, digits.parse().ok()?)))
        .unwrap_or((submission_id, 0))
}

fn with_attempt(name: String, attempt: u32) -> String {
    if attempt == 0 { name } else { format!("{name}-{attempt}") }
}

fn slug(step_key: &str) -> String {
    let plain: String = step_key
        .chars()
        .take(MAX_SLUG_CHARS)
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
        .collect();
    if plain == step_key {
        return plain;
    }
    format!("{plain}-{}", digest(step_key))
}

/// Returns the first 16 hexadecimal digits of a text's SHA-256 digest.
#[must_use]
pub fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..DIGEST_BYTES])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUN: &str = "0b1c4f1e-6c0d-4b86-9a53-6d2f1c1f2a10";

    /// Yields step keys, attempts and launch numbers that are likely to collide.
    fn similar_steps() -> impl Strategy<Value = (String, u32, u32)> {
        ("[ab.\\[\\]_1-]{1,4}|x{58,63}|[^a]{0,9}", 0..3_u32, 0..3_u32)
    }

    proptest! {
        #[test]
        fn step_ids_are_equal_only_for_equal_steps(one in similar_steps(), two in similar_steps()) {
            let id = |(key, attempt, n): &(String, u32, u32)| repeated(&step(RUN, key, *attempt), *n);
            prop_assert_eq!(id(&one) == id(&two), one == two);
        }

        #[test]
        fn a_step_id_fits_file_names_and_urls_and_contains_its_run(key in ".{0,300}", attempt: u32, n: u32) {
            let id = repeated(&step(RUN, &key, attempt), n);
            prop_assert!(id.len() <= 200);
            prop_assert!(id.contains(RUN));
            prop_assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        }
    }

    #[test]
    fn the_first_launch_is_parsed_from_a_repeated_one() {
        let first = step(RUN, "load.again7", 2);
        assert_eq!(split_repeated(&repeated(&first, 12)), (first.as_str(), 12));
        assert_eq!(split_repeated(&first), (first.as_str(), 0));
        assert_eq!(run(RUN, 0), format!("dagster-run-{RUN}"));
        assert_eq!(run(RUN, 2), format!("dagster-run-{RUN}-2"));
    }
}
