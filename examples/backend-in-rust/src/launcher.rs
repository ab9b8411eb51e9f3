//! The exported interface `launcher`: runs as jobs of the service.

use std::io::Read;

use dagster_ray_sdk::{
    Error,
    error::from_io,
    launcher::{Guest, RunPlacement, RunRef, RunSpec, Termination},
    model::{JobState, JobStatus},
    options::read_merged,
    reports::Listener,
};

use crate::{Backend, job, options::Options, service::Service};

/// Bytes of output in the debug info.
const TAIL: usize = 16 << 10;
const QUIET_MS: u64 = 500;

impl Guest for Backend {
    fn plan(run: RunSpec) -> Result<RunPlacement, Error> {
        let options = read_merged(&run.options, &run.tags, Options::read)?;
        if options.enabled == Some(false) {
            return Ok(RunPlacement::Local);
        }
        let job = Service::configured()?.reference(job::of_run(&run.run_id, run.attempt));
        Ok(RunPlacement::Job(RunRef::new(&run, job)))
    }

    fn launch(run: RunSpec) -> Result<RunRef, Error> {
        let service = Service::configured()?;
        let options = read_merged(&run.options, &run.tags, Options::read)?;
        let labels = [
            (job::DEPLOYMENT, run.deployment.as_str()),
            ("dagster/run-id", run.run_id.as_str()),
            ("dagster/job", run.job_name.as_str()),
        ];
        let spec = job::Spec::of_worker(&run.command, options, &labels);
        let started = service.start(&job::of_run(&run.run_id, run.attempt), &spec)?;
        Ok(RunRef::new(&run, service.reference(started.id)))
    }

    fn resume(run: RunSpec) -> Result<RunRef, Error> {
        Self::launch(run)
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
        if let Some(mut output) = service.output(&id, 0)? {
            let mut piece = [0; TAIL];
            // The stream of a running job does not end.
            while output.wait_readable(QUIET_MS) {
                let count = output.read(&mut piece).map_err(|error| from_io(error, "reading the output"))?;
                if count == 0 {
                    break;
                }
                tail.extend(&piece[..count]);
                tail.drain(..tail.len().saturating_sub(TAIL));
            }
        }
        Ok(format!("{id}: {:?}\nThe end of its output:\n{}", status.state, String::from_utf8_lossy(&tail)))
    }
}
