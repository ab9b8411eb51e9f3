//! The Jobs API client of this backend: each job keeps the head alive that it runs on.
//!
//! A head stops when nothing uses it, and the process that submitted a job may have ended by then. So the
//! entrypoint opens the head's lease, which its whole process tree inherits. Until the entrypoint starts, for
//! instance while Ray installs packages, the job's id holds the head.

use dagster_ray_jobs::{Job, RayJobs, Submission};
use dagster_ray_sdk::Error;

use crate::programs::Programs;

/// How long Ray lets a job be pending, and a minute more (`RAY_JOB_START_TIMEOUT_SECONDS`, default 900 s).
const PENDING_MS: u64 = 960_000;

/// Opens the lease of the head that the job runs on. A head that was not started by the host has none.
///
/// Opened for reading and writing, because opening a pipe only for writing blocks without a reader.
const OPEN_LEASE: &str = r#"[ -p "$DAGSTER_RAY_LEASE" ] && exec 9<>"$DAGSTER_RAY_LEASE" && echo started "#;
const END_OPEN_LEASE: &str = " >&9; ";

/// A client whose jobs keep the head alive.
pub struct LeasedJobs<J, P> {
    jobs: J,
    programs: P,
    /// The name of the head among the host's programs.
    head: String,
}

impl<J, P> LeasedJobs<J, P> {
    pub(crate) const fn new(jobs: J, programs: P, head: String) -> Self {
        Self { jobs, programs, head }
    }
}

fn with_lease(submission_id: &str, entrypoint: &str) -> String {
    format!("{OPEN_LEASE}{submission_id}{END_OPEN_LEASE}{entrypoint}")
}

/// Restores the entrypoint of a job for its readers.
fn without_lease(mut job: Job) -> Job {
    let own = job.entrypoint.strip_prefix(OPEN_LEASE).and_then(|rest| rest.split_once(END_OPEN_LEASE));
    if let Some((_, entrypoint)) = own {
        job.entrypoint = entrypoint.to_owned();
    }
    job
}

impl<J: RayJobs, P: Programs> RayJobs for LeasedJobs<J, P> {
    dagster_ray_jobs::forward!(
        jobs:
        limited, version, are_nodes_dead, stop_many, delete, delete_many, logs, follow_logs, prepare_runtime_env,
        dashboard_url,
    );

    fn submit(&self, job: &Submission) -> Result<String, Error> {
        let id = &job.submission_id;
        let leased = Submission { entrypoint: with_lease(id, &job.entrypoint), ..job.clone() };
        // An error means that the head is not a program of the host, so that nothing stops it.
        let held = self.programs.hold(&self.head, id, PENDING_MS);
        let submitted = self.jobs.submit(&leased);
        let may_exist = match &submitted {
            Ok(_) => true,
            Err(error) => error.maybe_applied() || matches!(error, Error::Backend(_) | Error::Conflict(_)),
        };
        if held.is_ok() && !may_exist {
            self.programs.hold(&self.head, id, 0)?;
        }
        submitted
    }

    fn get(&self, submission_id: &str) -> Result<Job, Error> {
        self.jobs.get(submission_id).map(without_lease)
    }

    fn list(&self) -> Result<Vec<Job>, Error> {
        Ok(self.jobs.list()?.into_iter().map(without_lease).collect())
    }

    fn get_many(&self, ids: &[String]) -> Vec<Result<Job, Error>> {
        self.jobs.get_many(ids).into_iter().map(|job| job.map(without_lease)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::process::Command;

    use dagster_ray_jobs::JobsClient;
    use dagster_ray_sdk::{
        bindings::processes::{Command as ProgramCommand, Outcome, State},
        testing::{ScriptedHttp, ScriptedResponse, VirtualClock},
    };

    use super::*;

    #[derive(Default)]
    struct Holds(RefCell<Vec<(String, u64)>>);

    impl Programs for &Holds {
        fn share(&self, _: &str, _: &ProgramCommand, _: u64) -> Result<u32, Error> {
            Ok(1)
        }

        fn hold(&self, _: &str, token: &str, ms: u64) -> Result<(), Error> {
            self.0.borrow_mut().push((token.to_owned(), ms));
            Ok(())
        }

        fn state(&self, _: &str) -> State {
            State::Absent
        }

        fn stop(&self, _: &str, _: u64) -> Result<Outcome, Error> {
            Err(Error::Unsupported(String::new()))
        }
    }

    fn submit(response: ScriptedResponse) -> Vec<(String, u64)> {
        let holds = Holds::default();
        let http = ScriptedHttp::new([response]);
        let jobs = JobsClient::new("http://127.0.0.1:8265", http, VirtualClock::default()).expect("a client");
        let jobs = LeasedJobs::new(jobs, &holds, "head".to_owned());
        let submission = Submission { submission_id: "job-1".to_owned(), ..Submission::default() };
        let _ = jobs.submit(&submission);
        holds.0.take()
    }

    #[test]
    fn a_pending_job_holds_the_head_unless_it_was_certainly_not_submitted() {
        let held = ("job-1".to_owned(), PENDING_MS);
        let accepted = ScriptedResponse::new(200, r#"{"submission_id": "job-1"}"#);
        assert_eq!(submit(accepted), std::slice::from_ref(&held));
        let lost = ScriptedResponse::Error(Error::unavailable("connection lost", true));
        assert_eq!(submit(lost), std::slice::from_ref(&held));
        let refused = ScriptedResponse::Error(Error::unavailable("connection refused", false));
        assert_eq!(submit(refused), [held, ("job-1".to_owned(), 0)]);
    }

    #[test]
    fn an_entrypoint_runs_with_and_without_a_lease_and_is_shown_without_it() {
        let folder = std::env::temp_dir().join(format!("dagster-ray-lease-{}", std::process::id()));
        let line = with_lease("job-1", "exec printf %s 'it''s; run'");
        let run = |lease: &str| {
            let shell = Command::new("sh").args(["-c", &line]).env("DAGSTER_RAY_LEASE", lease).output();
            String::from_utf8(shell.expect("a shell").stdout).expect("text")
        };
        assert_eq!(run(""), "its; run");
        let made = Command::new("mkfifo").arg(&folder).status();
        assert!(made.expect("mkfifo").success());
        assert_eq!(run(folder.to_str().expect("text")), "its; run");
        std::fs::remove_file(&folder).expect("removed");

        let shown = without_lease(Job { entrypoint: line, ..Job::default() });
        assert_eq!(shown.entrypoint, "exec printf %s 'it''s; run'");
        let other = without_lease(Job { entrypoint: "python it.py".to_owned(), ..Job::default() });
        assert_eq!(other.entrypoint, "python it.py");
    }
}
