//! The exported interface `executor`: steps as jobs of the service.

use crate::Backend;
use crate::bindings::dagster_ray::host::model::{Error, JobStatus};
use crate::bindings::dagster_ray::host::sink::Listener;
use crate::bindings::exports::dagster_ray::backend::executor::{Guest, Placement, StepRef, StepSpec};
use crate::service::Service;
use crate::{job, options};

impl Guest for Backend {
    fn plan(steps: Vec<StepSpec>) -> Result<Vec<Result<Placement, Error>>, Error> {
        let service = Service::configured()?;
        Ok(steps.into_iter().map(|step| plan(&service, step)).collect())
    }

    fn launch(steps: Vec<StepSpec>) -> Result<Vec<Result<Placement, Error>>, Error> {
        let service = Service::configured()?;
        Ok(steps.into_iter().map(|step| launch(&service, step)).collect())
    }

    fn check(steps: Vec<StepRef>) -> Result<Vec<JobStatus>, Error> {
        Service::configured()?.look(&ids(steps))
    }

    fn terminate(steps: Vec<StepRef>, listener: &Listener) -> Result<Vec<JobStatus>, Error> {
        Service::configured()?.stop(&ids(steps), listener)
    }

    // This backend creates nothing that the steps of a run share.
    fn finish(_run_id: String, _options: String) -> Result<(), Error> {
        Ok(())
    }
}

fn plan(service: &Service, step: StepSpec) -> Result<Placement, Error> {
    if spec(&step)?.is_none() {
        return Ok(Placement::Local);
    }
    let id = job::of_step(&step.run_id, &step.step_key, step.attempt);
    Ok(Placement::Job(reference(step, service, id)))
}

fn launch(service: &Service, step: StepSpec) -> Result<Placement, Error> {
    let Some(spec) = spec(&step)? else { return Ok(Placement::Local) };
    let id = job::of_step(&step.run_id, &step.step_key, step.attempt);
    let found = service.start(&id, &spec)?;
    let is_ours = found.labels.get(job::LAUNCH) == spec.labels.get(job::LAUNCH);
    if found.has_ended() && !is_ours {
        // The ended job belongs to an earlier worker of a resumed run.
        service.forget(&id)?;
        service.start(&id, &spec)?;
    }
    Ok(Placement::Job(reference(step, service, id)))
}

/// Returns the job of a step, or `None` if the step runs in a process of the run worker.
fn spec(step: &StepSpec) -> Result<Option<job::Spec>, Error> {
    let options = options::of_worker(&step.options, &step.tags)?;
    if options.enabled == Some(false) {
        return Ok(None);
    }
    let labels = [
        (job::DEPLOYMENT, step.deployment.as_str()),
        ("dagster/run-id", step.run_id.as_str()),
        ("dagster/job", step.job_name.as_str()),
        ("dagster/step-key", step.step_key.as_str()),
    ];
    job::Spec::of_worker(&step.command, options, &labels).map(Some)
}

fn reference(step: StepSpec, service: &Service, id: String) -> StepRef {
    StepRef {
        run_id: step.run_id,
        step_key: step.step_key,
        attempt: step.attempt,
        job: service.reference(id),
    }
}

fn ids(steps: Vec<StepRef>) -> Vec<String> {
    steps.into_iter().map(|step| step.job.submission_id).collect()
}
