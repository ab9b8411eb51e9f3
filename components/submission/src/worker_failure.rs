//! Explains the failure of a worker that lacks something in Ray's environment.

use dagster_ray_sdk::model::{JobState, JobStatus};

/// The page that lists what a worker needs in Ray's environment.
const PAGE: &str = "https://github.com/dagster-ray/dagster-ray-wasm/blob/main/docs/what-ray-needs.md";
/// The exit code of a shell that does not find the program.
const NOT_FOUND: i32 = 127;

/// Parts of a worker's last output, and what each says about Ray's environment.
const SIGNS: [(&str, &str); 4] = [
    ("dagster: not found", NO_DAGSTER),
    ("No module named 'dagster_ray'", "The package dagster-ray-wasm is not installed in Ray's environment"),
    ("No module named '", "A module of the job, or one that it imports, is missing in Ray's environment"),
    ("OperationalError", "Dagster's storage could not be reached from Ray"),
];
const NO_DAGSTER: &str = "The program `dagster` is not installed in Ray's environment";

/// Adds to the message of a failed worker what is missing on Ray's side, if its last output shows it.
///
/// Ray's message contains the last lines of the worker's output.
#[must_use]
pub fn explained(mut status: JobStatus) -> JobStatus {
    if status.state != JobState::Failed {
        return status;
    }
    let message = status.message.as_deref().unwrap_or_default();
    let sign = SIGNS.iter().find(|(sign, _)| message.contains(sign)).map(|(_, problem)| *problem);
    let problem = sign.or((status.exit_code == Some(NOT_FOUND)).then_some(NO_DAGSTER));
    if let Some(problem) = problem {
        let message = message.trim_end();
        status.message =
            Some(format!("{message}\n{problem}. What a worker needs there: {PAGE}").trim_start().to_owned());
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(message: Option<&str>, exit_code: Option<i32>) -> String {
        let status = JobStatus {
            message: message.map(str::to_owned),
            exit_code,
            ..JobStatus::new("dagster-step-a", JobState::Failed)
        };
        explained(status).message.unwrap_or_default()
    }

    #[test]
    fn a_worker_without_the_program_or_the_package_is_explained_with_the_page() {
        let shell =
            failed(Some("exit code 127, last logs:\n/bin/sh: 1: exec: dagster: not found\n"), Some(127));
        assert!(shell.starts_with("exit code 127") && shell.contains("The program `dagster`"), "{shell}");
        assert!(shell.ends_with("docs/what-ray-needs.md"), "{shell}");
        let package = failed(Some("ModuleNotFoundError: No module named 'dagster_ray'"), Some(1));
        assert!(package.contains("The package dagster-ray-wasm"), "{package}");
        let code = failed(Some("ModuleNotFoundError: No module named 'shop'"), Some(1));
        assert!(code.contains("A module of the job"), "{code}");
        assert!(failed(None, Some(127)).starts_with("The program `dagster`"));
    }

    #[test]
    fn other_failures_and_other_states_keep_rays_message() {
        assert_eq!(failed(Some("killed"), Some(-9)), "killed");
        assert_eq!(failed(None, Some(1)), "");
        let stopped = JobStatus {
            message: Some("dagster: not found".to_owned()),
            ..JobStatus::new("a", JobState::Stopped)
        };
        assert_eq!(explained(stopped).message.as_deref(), Some("dagster: not found"));
    }
}
