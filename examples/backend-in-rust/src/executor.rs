//! The exported interface `executor`: steps as jobs of the service.

use crate::Backend;
use crate::bindings::dagster_ray::host::model::{Error, JobStatus};
use crate::bindings::dagster_ray::host::sink::Listener;
use crate::bindings::exports::dagster_ray::backend::executor::{Guest, StepRef, StepSpec};
use crate::service::Service;
use crate::{job, options};

impl Guest for Backend {
    fn plan(step: StepSpec) -> Result<StepRef, Error> {
        let service = Service::configured()?;
        spec(&step)?;
        let id = job::of_step(&step.run_id, &step.step_key, step.attempt);
        Ok(reference(step, &service, id))
    }

    fn launch(step: StepSpec) -> Result<StepRef, Error> {
        let service = Service::configured()?;
        let spec = spec(&step)?;
        let id = job::of_step(&step.run_id, &step.step_key, step.attempt);
        let found = service.start(&id, &spec)?;
        let is_ours = found.labels.get(job::LAUNCH) == spec.labels.get(job::LAUNCH);
        if found.has_ended() && !is_ours {
            // The ended job belongs to an earlier worker of a resumed run.
            service.forget(&id)?;
            service.start(&id, &spec)?;
        }
        Ok(reference(step, &service, id))
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

fn spec(step: &StepSpec) -> Result<job::Spec, Error> {
    let options = options::of_worker(&step.options, &step.tags)?;
    let labels = [
        ("dagster/run-id", step.run_id.as_str()),
        ("dagster/job", step.job_name.as_str()),
        ("dagster/step-key", step.step_key.as_str()),
    ];
    job::Spec::of_worker(&step.command, options, &labels)
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
