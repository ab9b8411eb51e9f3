//! How jobs are called.
//!
//! A name is a function of what it names, so that a launch can be repeated and a lost reference
//! found again. No two things share a name: in a step's name neither the slug nor what follows it
//! holds a dash of its own, and an attempt has at most ten digits where a digest has sixteen.

use sha2::{Digest, Sha256};

const LONGEST_SLUG: usize = 60;
const DIGEST_BYTES: usize = 8;
const AGAIN: &str = "-again";

/// The submission id of a run's worker.
#[must_use]
pub fn run(run_id: &str, attempt: u32) -> String {
    with_attempt(format!("dagster-run-{run_id}"), attempt)
}

/// The submission id of a step's worker, for its first launch.
#[must_use]
pub fn step(run_id: &str, step_key: &str, attempt: u32) -> String {
    with_attempt(format!("dagster-step-{run_id}-{}", slug(step_key)), attempt)
}

/// The submission id of a script.
#[must_use]
pub fn script(run_id: &str, nonce: &str) -> String {
    format!("dagster-pipes-{run_id}-{nonce}")
}

/// The submission id of the `n`-th further launch under the same name.
#[must_use]
pub fn again(base: &str, n: u32) -> String {
    if n == 0 { base.to_owned() } else { format!("{base}{AGAIN}{n}") }
}

/// Takes a submission id apart into the first launch's and the number of further ones.
#[must_use]
pub fn base(submission_id: &str) -> (&str, u32) {
    submission_id
        .rsplit_once(AGAIN)
        .and_then(|(base, digits)| Some((base, digits.parse().ok()?)))
        .unwrap_or((submission_id, 0))
}

fn with_attempt(name: String, attempt: u32) -> String {
    if attempt == 0 { name } else { format!("{name}-{attempt}") }
}

fn slug(step_key: &str) -> String {
    let plain: String = step_key
        .chars()
        .take(LONGEST_SLUG)
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
        .collect();
    if plain == step_key {
        return plain;
    }
    let digest = Sha256::digest(step_key.as_bytes());
    let hex: String = digest.iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("{plain}-{hex}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUN: &str = "0b1c4f1e-6c0d-4b86-9a53-6d2f1c1f2a10";

    fn near_alike() -> impl Strategy<Value = (String, u32, u32)> {
        ("[ab.\\[\\]_1-]{1,4}|x{58,63}|[^a]{0,9}", 0..3_u32, 0..3_u32)
    }

    proptest! {
        #[test]
        fn names_differ_unless_all_they_name_is_the_same(one in near_alike(), two in near_alike()) {
            let id = |(key, attempt, n): &(String, u32, u32)| again(&step(RUN, key, *attempt), *n);
            prop_assert_eq!(id(&one) == id(&two), one == two);
        }

        #[test]
        fn a_name_fits_a_file_name_and_a_url_and_shows_its_run(key in ".{0,300}", attempt: u32, n: u32) {
            let id = again(&step(RUN, &key, attempt), n);
            prop_assert!(id.len() <= 200);
            prop_assert!(id.contains(RUN));
            prop_assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        }
    }

    #[test]
    fn the_first_launch_is_found_from_a_further_one() {
        let first = step(RUN, "load.again7", 2);
        assert_eq!(base(&again(&first, 12)), (first.as_str(), 12));
        assert_eq!(base(&first), (first.as_str(), 0));
        assert_eq!(run(RUN, 0), format!("dagster-run-{RUN}"));
        assert_eq!(run(RUN, 2), format!("dagster-run-{RUN}-2"));
    }
}
