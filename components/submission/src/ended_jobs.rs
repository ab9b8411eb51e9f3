//! Deletes Ray's records of a run's steps.
//!
//! Ray remembers every submitted job until its head ends, and `GET /api/jobs/` reads each of them with its runtime
//! environment. A step that has succeeded has reported its result to Dagster, so its record is of no more use. That of
//! a step that failed or was stopped is kept, because its log can explain why.

use dagster_ray_jobs::RayJobs;
use dagster_ray_sdk::{
    Error, debug,
    options::{ENABLED, TAG},
};

use crate::{ids, metadata, options::Options};

/// Returns whether the options of a run's steps let the records be deleted.
///
/// # Errors
/// If the options are invalid.
pub fn are_deleted(configuration: &str) -> Result<bool, Error> {
    let mut options = Options::merged(configuration, &Vec::new())?;
    if !options.is_on_ray() {
        // These options were not read, but the tags of single steps can enable Ray. Such a step has reported
        // their mistakes.
        let enabled = vec![(TAG.to_owned(), format!(r#"{{"{ENABLED}": true}}"#))];
        let Ok(read) = Options::merged(configuration, &enabled) else { return Ok(false) };
        options = read;
    }
    Ok(options.delete_ended_jobs != Some(false))
}

/// Deletes the records of a run's steps that have succeeded. Dagster must have read the end of each step.
///
/// # Errors
/// If Ray's jobs cannot be listed. A record that cannot be deleted is not an error.
pub fn delete_of_run(jobs: &impl RayJobs, run_id: &str) -> Result<(), Error> {
    let listed = jobs.list()?;
    let ids: Vec<String> = listed
        .into_iter()
        .filter(|job| job.status == "SUCCEEDED")
        .filter(|job| job.metadata.get(metadata::RUN_ID).is_some_and(|run| run == run_id))
        .filter_map(|job| job.submission_id)
        .filter(|id| ids::is_step(id))
        .collect();
    for (id, deleted) in ids.iter().zip(jobs.delete_many(&ids)) {
        if let Err(error) = deleted {
            debug!("Ray's record of the job {id} is not deleted: {}", error.message());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeRay;

    #[test]
    fn only_the_steps_of_the_run_that_have_succeeded_are_deleted() {
        let ray = FakeRay::default();
        for (id, run, status) in [
            ("dagster-step-a", "r", "SUCCEEDED"),
            ("dagster-step-b", "r", "FAILED"),
            ("dagster-step-c", "r", "RUNNING"),
            ("dagster-step-d", "other", "SUCCEEDED"),
            ("dagster-run-r", "r", "SUCCEEDED"),
            ("dagster-pipes-r", "r", "SUCCEEDED"),
        ] {
            ray.add_with(id, status, 0, &[(metadata::RUN_ID, run)]);
        }
        delete_of_run(&ray, "r").expect("deleted");
        assert_eq!(ray.calls(), ["list", "delete dagster-step-a"]);
    }

    #[test]
    fn records_are_deleted_unless_the_option_is_off() {
        assert_eq!(are_deleted("{}"), Ok(true));
        assert_eq!(are_deleted(r#"{"delete_ended_jobs": false}"#), Ok(false));
        assert!(are_deleted(r#"{"delete_ended_jobs": "no"}"#).is_err());
        // The tag of a step can enable Ray for it.
        assert_eq!(are_deleted(r#"{"enabled": false}"#), Ok(true));
        assert_eq!(are_deleted(r#"{"enabled": false, "delete_ended_jobs": false}"#), Ok(false));
        assert_eq!(are_deleted(r#"{"enabled": false, "delete_ended_jobs": "no"}"#), Ok(false));
    }
}
