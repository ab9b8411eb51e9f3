//! The exported interface `launcher`: runs as jobs of the service.

use crate::Backend;
use crate::bindings::dagster_ray::host::model::{Error, JobState, JobStatus};
use crate::bindings::dagster_ray::host::sink::Listener;
use crate::bindings::exports::dagster_ray::backend::launcher::{Guest, RunRef, RunSpec, Termination};
use crate::http::More;
use crate::service::Service;
use crate::{job, options};

/// Bytes of output in the debug info.
const TAIL: usize = 16 << 10;
const QUIET_MS: u64 = 500;

impl Guest for Backend {
    fn launch(run: RunSpec) -> Result<RunRef, Error> {
        let service = Service::configured()?;
        let options = options::of_worker(&run.options, &run.tags)?;
        let labels = [
            (job::DEPLOYMENT, run.deployment.as_str()),
            ("dagster/run-id", run.run_id.as_str()),
            ("dagster/job", run.job_name.as_str()),
        ];
        let spec = job::Spec::of_worker(&run.command, options, &labels)?;
        let started = service.start(&job::of_run(&run.run_id, run.attempt), &spec)?;
        Ok(RunRef { run_id: run.run_id, attempt: run.attempt, job: service.reference(started.id) })
    }

    fn resume(run: RunSpec) -> Result<RunRef, Error> {
        Self::launch(run)
    }

    fn locate(run_id: String, attempt: u32) -> Result<RunRef, Error> {
        let job = Service::configured()?.reference(job::of_run(&run_id, attempt));
        Ok(RunRef { run_id, attempt, job })
    }

    fn terminate(run: RunRef, listener: &Listener) -> Result<Termination, Error> {
        let service = Service::configured()?;
        let id = run.job.submission_id;
        match service.look_at(&id)?.state {
            JobState::Missing => Ok(Termination::Missing),
            JobState::Running => service.stop(&[id], listener).map(|_| Termination::Stopped),
            _ => Ok(Termination::AlreadyEnded),
        }
    }

    fn check(runs: Vec<RunRef>) -> Result<Vec<JobStatus>, Error> {
        let ids: Vec<String> = runs.into_iter().map(|run| run.job.submission_id).collect();
        Service::configured()?.look(&ids)
    }

    fn debug_info(run: RunRef) -> Result<String, Error> {
        let service = Service::configured()?;
        let id = run.job.submission_id;
        let status = service.look_at(&id)?;
        let mut tail = Vec::new();
        if let Some(output) = service.output(&id, 0)? {
            // The stream of a running job does not end.
            while let More::Bytes(bytes) = output.next(QUIET_MS)? {
                tail.extend(bytes);
                tail.drain(..tail.len().saturating_sub(TAIL));
            }
        }
        Ok(format!("{id}: {:?}\nThe end of its output:\n{}", status.state, String::from_utf8_lossy(&tail)))
    }
}
