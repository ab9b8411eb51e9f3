//! The exported interface `executor`: steps as jobs of the service.

use dagster_ray_sdk::{
    Error,
    executor::{Guest, Placement, StepRef, StepSpec},
    model::{Attributes, JobStatus},
    options::read_merged,
    reports::Listener,
};

use crate::{Backend, job, options::Options, service::Service};

impl Guest for Backend {
    fn plan(steps: Vec<StepSpec>) -> Result<Vec<Result<Placement, Error>>, Error> {
        let service = Service::configured()?;
        Ok(steps.iter().map(|step| plan(&service, step)).collect())
    }

    fn launch(steps: Vec<StepSpec>) -> Result<Vec<Result<Placement, Error>>, Error> {
        let service = Service::configured()?;
        Ok(steps.iter().map(|step| launch(&service, step)).collect())
    }

    fn check(steps: Vec<StepRef>) -> Result<Vec<JobStatus>, Error> {
        Service::configured()?.look(&ids(steps))
    }

    fn terminate(steps: Vec<StepRef>, listener: &Listener) -> Result<Vec<JobStatus>, Error> {
        Service::configured()?.stop(&ids(steps), listener)
    }

    // This backend creates nothing that the steps of a run share.
    fn finish(_run_id: String, _options: String, _tags: Vec<Attributes>) -> Result<(), Error> {
        Ok(())
    }
}

fn plan(service: &Service, step: &StepSpec) -> Result<Placement, Error> {
    if spec(step)?.is_none() {
        return Ok(Placement::Local);
    }
    Ok(Placement::Job(StepRef::new(step, service.reference(id(step)))))
}

fn launch(service: &Service, step: &StepSpec) -> Result<Placement, Error> {
    let Some(spec) = spec(step)? else { return Ok(Placement::Local) };
    let id = id(step);
    let found = service.start(&id, &spec)?;
    let is_ours = found.labels.get(job::LAUNCH) == spec.labels.get(job::LAUNCH);
    if found.has_ended() && !is_ours {
        // The ended job belongs to an earlier worker of a resumed run.
        service.forget(&id)?;
        service.start(&id, &spec)?;
    }
    Ok(Placement::Job(StepRef::new(step, service.reference(id))))
}

fn id(step: &StepSpec) -> String {
    job::of_step(&step.run_id, &step.step_key, step.attempt)
}

/// Returns the job of a step, or `None` if the step runs in a process of the run worker.
fn spec(step: &StepSpec) -> Result<Option<job::Spec>, Error> {
    let options = read_merged(&step.options, &step.tags, Options::read)?;
    if options.enabled == Some(false) {
        return Ok(None);
    }
    let labels = [
        (job::DEPLOYMENT, step.deployment.as_str()),
        ("dagster/run-id", step.run_id.as_str()),
        ("dagster/job", step.job_name.as_str()),
        ("dagster/step-key", step.step_key.as_str()),
    ];
    Ok(Some(job::Spec::of_worker(&step.command, options, &labels)))
}

fn ids(steps: Vec<StepRef>) -> Vec<String> {
    steps.into_iter().map(|step| step.job.submission_id).collect()
}
