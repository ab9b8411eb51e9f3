//! Debug information about a Ray job.

use std::fmt::Write as _;

use dagster_ray_jobs::{Job, RayJobs};
use dagster_ray_sdk::Error;

const LOG_LINES: usize = 200;

/// Returns a job's status and the end of its output as text. Requests only this job.
pub fn info(jobs: &impl RayJobs, submission_id: &str) -> Result<String, Error> {
    let mut text = match jobs.get(submission_id) {
        Ok(job) => describe_job(submission_id, &job, &jobs.dashboard_url(submission_id)),
        Err(Error::NotFound(_)) => return Ok(format!("Ray has no job {submission_id}.\n")),
        Err(error) => return Err(error),
    };
    match jobs.logs(submission_id) {
        Ok(logs) => {
            let lines: Vec<&str> = logs.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
            line(&mut text, "output", &format!("the last {} of {} lines", tail.len(), lines.len()));
            for tail_line in tail {
                text.push_str(tail_line);
                text.push('\n');
            }
        }
        Err(error) => line(&mut text, "output", &format!("cannot be read: {}", error.message())),
    }
    Ok(text)
}

/// Returns the job's fields as lines. The entrypoint is safe to show: it does not contain the payload.
fn describe_job(submission_id: &str, job: &Job, url: &str) -> String {
    let mut text = String::new();
    line(&mut text, "Ray job", submission_id);
    line(&mut text, "dashboard", url);
    line(&mut text, "status", &job.status);
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    let known = [
        ("message", job.message.clone()),
        ("error type", job.error_type.clone()),
        ("exit code", job.driver_exit_code.map(|code| code.to_string())),
        ("started (ms since the epoch)", number(job.start_time)),
        ("ended (ms since the epoch)", number(job.end_time)),
        ("node", job.driver_node_id.clone()),
        ("entrypoint", Some(job.entrypoint.clone())),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            line(&mut text, name, &value);
        }
    }
    for (name, value) in &job.metadata {
        line(&mut text, &format!("metadata {name}"), value);
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "{name}: {value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeRay;

    #[test]
    fn info_requests_one_job_and_shows_the_last_200_lines() {
        let ray = FakeRay::default();
        ray.add("a", "FAILED");
        let text = info(&ray, "a").expect("text");
        assert_eq!(ray.calls(), ["get a", "logs a"]);
        assert!(text.contains("status: FAILED") && text.contains("line 300") && text.contains("line 101\n"));
        assert!(!text.contains("line 100\n"));
    }
}
