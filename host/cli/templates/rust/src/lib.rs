//! The backend {{name}}: executes Dagster runs and steps as processes on Dagster's machine.
//!
//! To use another infrastructure, replace the calls of [`processes`].

mod options;

use dagster_ray_sdk::{
    Error,
    describe::{self, Description, Role},
    executor::{self, Placement, StepRef, StepSpec},
    info,
    launcher::{self, RunPlacement, RunRef, RunSpec, Termination},
    model::{Attributes, JobRef, JobState, JobStatus, WorkerCommand},
    options::read_merged,
    processes::{self, Command, Outcome, State},
    reports::Listener,
};

use options::Options;

/// The component. Each call gets a new instance, so state belongs in a record such as `JobRef`.
pub struct Backend;

dagster_ray_sdk::export!(Backend: describe, launcher, executor);

impl describe::Guest for Backend {
    fn describe() -> Description {
        Description {
            name: "{{name}}".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Executes runs and steps as processes on this machine.".to_owned(),
            options: vec![
                (Role::Launcher, options::schema()),
                (Role::Executor, options::schema()),
            ],
            settings: vec![(options::GRACE.to_owned(), options::GRACE_HELP.to_owned())],
        }
    }
}

impl launcher::Guest for Backend {
    fn plan(run: RunSpec) -> Result<RunPlacement, Error> {
        let options = read_merged(&run.options, &run.tags, Options::read)?;
        if options.enabled == Some(false) {
            return Ok(RunPlacement::Local);
        }
        command(&run.command, options)?;
        let job = JobRef::new(run_name(&run.run_id, run.attempt));
        Ok(RunPlacement::Job(RunRef::new(&run, job)))
    }

    fn launch(run: RunSpec) -> Result<RunRef, Error> {
        let options = read_merged(&run.options, &run.tags, Options::read)?;
        let name = run_name(&run.run_id, run.attempt);
        // A launch is repeated if its response was lost, so look for the running process first.
        if matches!(processes::look(&name), State::Absent) {
            start(&name, &run.command, options)?;
        }
        Ok(RunRef::new(&run, launched(name)))
    }

    fn resume(run: RunSpec) -> Result<RunRef, Error> {
        Self::launch(run)
    }

    fn terminate(run: RunRef, _listener: &Listener) -> Result<Termination, Error> {
        let name = run.job.submission_id;
        match processes::look(&name) {
            State::Running(_) => {
                processes::stop(&name, options::grace_ms()?)?;
                Ok(Termination::Stopped)
            }
            State::Ended(_) => Ok(Termination::AlreadyEnded),
            State::Absent if run.job.details.is_none() => Ok(Termination::Missing),
            State::Absent => Err(Error::NotFound(format!(
                "{name} was started by another Dagster process, and only that process can stop it"
            ))),
        }
    }

    fn check(runs: Vec<RunRef>) -> Result<Vec<JobStatus>, Error> {
        Ok(runs
            .into_iter()
            .map(|run| look(run.job.submission_id))
            .collect())
    }

    fn debug_info(run: RunRef) -> Result<String, Error> {
        let status = look(run.job.submission_id);
        Ok(format!(
            "{}: {:?}\n{}",
            status.submission_id,
            status.state,
            status.message.unwrap_or_default()
        ))
    }
}

impl executor::Guest for Backend {
    fn plan(steps: Vec<StepSpec>) -> Result<Vec<Result<Placement, Error>>, Error> {
        Ok(steps.into_iter().map(plan).collect())
    }

    fn launch(steps: Vec<StepSpec>) -> Result<Vec<Result<Placement, Error>>, Error> {
        Ok(steps.into_iter().map(launch).collect())
    }

    fn check(steps: Vec<StepRef>) -> Result<Vec<JobStatus>, Error> {
        Ok(steps
            .into_iter()
            .map(|step| look(step.job.submission_id))
            .collect())
    }

    fn terminate(steps: Vec<StepRef>, _listener: &Listener) -> Result<Vec<JobStatus>, Error> {
        let grace = options::grace_ms()?;
        let mut statuses = Vec::new();
        for step in steps {
            let mut status = look(step.job.submission_id);
            if status.state == JobState::Running {
                let outcome = processes::stop(&status.submission_id, grace)?;
                status = JobStatus {
                    exit_code: outcome.exit_code,
                    ..JobStatus::new(status.submission_id, JobState::Stopped)
                };
            }
            statuses.push(status);
        }
        Ok(statuses)
    }

    fn finish(_run_id: String, _options: String, _tags: Vec<Attributes>) -> Result<(), Error> {
        // The steps of a run share no resources.
        Ok(())
    }
}

fn plan(step: StepSpec) -> Result<Placement, Error> {
    let options = read_merged(&step.options, &step.tags, Options::read)?;
    if options.enabled == Some(false) {
        return Ok(Placement::Local);
    }
    command(&step.command, options)?;
    let name = step_name(&step);
    Ok(Placement::Job(StepRef::new(&step, JobRef::new(name))))
}

fn launch(step: StepSpec) -> Result<Placement, Error> {
    let options = read_merged(&step.options, &step.tags, Options::read)?;
    if options.enabled == Some(false) {
        return Ok(Placement::Local);
    }
    let name = step_name(&step);
    match start(&name, &step.command, options) {
        // A conflict means that the step is already running.
        Ok(()) | Err(Error::Conflict(_)) => Ok(Placement::Job(StepRef::new(&step, launched(name)))),
        Err(error) => Err(error),
    }
}

fn run_name(run_id: &str, attempt: u32) -> String {
    format!("run:{run_id}:{attempt}")
}

/// Returns a name that depends only on the step, so that a lost reference can be rebuilt.
fn step_name(step: &StepSpec) -> String {
    format!("step:{}:{}:{}", step.run_id, step.step_key, step.attempt)
}

fn start(name: &str, worker: &WorkerCommand, options: Options) -> Result<(), Error> {
    let pid = processes::start(name, &command(worker, options)?)?;
    info!("{name} is process {pid}");
    Ok(())
}

/// Returns Dagster's command line for the program that the manifest grants.
fn command(worker: &WorkerCommand, options: Options) -> Result<Command, Error> {
    let Some(at) = worker.argv.iter().position(|word| word == "api") else {
        return Err(Error::Unsupported(format!(
            "{:?} is not a Dagster command",
            worker.argv
        )));
    };
    let mut args = vec!["-m".to_owned(), "dagster".to_owned()];
    args.extend(worker.argv.iter().skip(at).cloned());
    args.extend(worker.payload.clone());
    // The worker's variables come last and take precedence.
    let env = options
        .env_vars
        .into_iter()
        .chain(worker.env.iter().cloned())
        .collect();
    Ok(Command {
        program: "python".to_owned(),
        args,
        env,
    })
}

/// Returns a reference with details, which mark a job that was launched.
fn launched(name: String) -> JobRef {
    JobRef {
        details: Some(r#"{"launched": true}"#.to_owned()),
        ..JobRef::new(name)
    }
}

fn look(name: String) -> JobStatus {
    let (state, message, exit_code) = match processes::look(&name) {
        State::Running(_) => (JobState::Running, None, None),
        State::Ended(Outcome {
            exit_code: Some(0), ..
        }) => (JobState::Succeeded, None, Some(0)),
        State::Ended(outcome) => (JobState::Failed, Some(outcome.output), outcome.exit_code),
        State::Absent => (JobState::Missing, None, None),
    };
    JobStatus {
        message,
        exit_code,
        ..JobStatus::new(name, state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_command_uses_the_granted_program() {
        let worker = WorkerCommand {
            argv: ["/usr/bin/python3", "-m", "dagster", "api", "execute_run"]
                .map(str::to_owned)
                .to_vec(),
            payload: Some("{}".to_owned()),
            env: vec![("A".to_owned(), "the worker's".to_owned())],
        };
        let options = Options {
            enabled: None,
            env_vars: vec![("A".to_owned(), "the user's".to_owned())],
        };
        let command = command(&worker, options).unwrap();
        assert_eq!(command.args, ["-m", "dagster", "api", "execute_run", "{}"]);
        assert_eq!(command.env.last().unwrap().1, "the worker's");
    }
}
