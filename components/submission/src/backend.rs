//! The trait that a backend component implements, and the macro that exports it.

use dagster_ray_jobs::RayJobs;
use dagster_ray_sdk::{
    Error,
    bindings::{
        describe::{Description, Role},
        executor::{Placement, StepSpec},
        launcher::{RunRef, RunSpec},
        pipes::ScriptSpec,
    },
    clock::Clock,
    model::JobRef,
    progress::ProgressListener,
};

use crate::{
    executor::Executor,
    launcher::{self, Launcher},
    options::Options,
    scripts::{ScriptOptions, Scripts},
};

/// A backend that submits Ray jobs.
pub trait Backend {
    /// The client of the Ray Jobs API.
    type Jobs: RayJobs;
    /// The clock used for waits and timeouts.
    type Clock: Clock;

    /// The backend's name.
    const NAME: &str;
    /// The backend's version.
    const VERSION: &str;
    /// A one-sentence summary.
    const SUMMARY: &str;
    /// The settings that the backend reads, as pairs of key and one-sentence description.
    const SETTINGS: &[(&str, &str)];

    /// Returns a client of the Ray that the settings name.
    fn client() -> Result<(Self::Jobs, Self::Clock), Error>;

    /// Returns the client once Ray accepts jobs. A backend that starts Ray overrides this.
    fn ready_client() -> Result<(Self::Jobs, Self::Clock), Error> {
        Self::client()
    }

    /// Adjusts a run before it is checked and submitted.
    fn run(run: RunSpec) -> Result<RunSpec, Error> {
        Ok(run)
    }

    /// Adjusts a step before it is checked and submitted.
    fn step(step: StepSpec) -> Result<StepSpec, Error> {
        Ok(step)
    }

    /// Adjusts a script before it is checked and submitted.
    fn script(script: ScriptSpec) -> Result<ScriptSpec, Error> {
        Ok(script)
    }

    /// Describes the backend, as the contract's `describe` returns it.
    #[must_use]
    fn describe() -> Description
    where
        Self: Sized,
    {
        description::<Self>()
    }
}

/// Builds the description of a backend from its constants.
#[must_use]
pub fn description<B: Backend>() -> Description {
    Description {
        name: B::NAME.to_owned(),
        version: B::VERSION.to_owned(),
        summary: B::SUMMARY.to_owned(),
        options: vec![
            (Role::Launcher, Options::SCHEMA.to_owned()),
            (Role::Executor, Options::SCHEMA.to_owned()),
            (Role::Pipes, ScriptOptions::SCHEMA.to_owned()),
        ],
        settings: B::SETTINGS.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect(),
    }
}

/// Returns the backend's launcher, without waiting for Ray to accept jobs.
pub fn launcher<B: Backend>() -> Result<Launcher<B::Jobs, B::Clock>, Error> {
    B::client().map(|(jobs, clock)| Launcher::new(jobs, clock))
}

/// Returns the backend's executor, without waiting for Ray to accept jobs.
pub fn executor<B: Backend>() -> Result<Executor<B::Jobs, B::Clock>, Error> {
    B::client().map(|(jobs, clock)| Executor::new(jobs, clock))
}

/// Returns the backend's [`Scripts`], without waiting for Ray to accept jobs.
pub fn scripts<B: Backend>() -> Result<Scripts<B::Jobs, B::Clock>, Error> {
    B::client().map(|(jobs, clock)| Scripts::new(jobs, clock))
}

/// Launches or resumes a run. Options are validated before Ray is contacted or started.
pub fn launch_run<B: Backend>(run: RunSpec) -> Result<RunRef, Error> {
    let run = B::run(run)?;
    launcher::submission(&run, Options::merged(&run.options, &run.tags)?)?;
    let (jobs, clock) = B::ready_client()?;
    Launcher::new(jobs, clock).launch(&run)
}

/// The placement of each step of a call, or the step's own error.
pub type Placements = Vec<Result<Placement, Error>>;

/// Plans steps. A step's error does not affect the others.
pub fn plan_steps<B: Backend>(steps: Vec<StepSpec>) -> Result<Placements, Error> {
    let executor = executor::<B>()?;
    Ok(steps.into_iter().map(|step| executor.plan(&B::step(step)?)).collect())
}

/// Launches steps, one after the other. Options are validated before Ray is started, and Ray is not started if
/// no step needs it.
pub fn launch_steps<B: Backend>(steps: Vec<StepSpec>) -> Result<Placements, Error> {
    let planning = executor::<B>()?;
    let mut submitting = None;
    let mut placements = Vec::new();
    for step in steps {
        let step = match B::step(step) {
            Ok(step) => step,
            Err(error) => {
                placements.push(Err(error));
                continue;
            }
        };
        let planned = planning.plan(&step);
        if !matches!(planned, Ok(Placement::Job(_))) {
            placements.push(planned);
            continue;
        }
        let executor = match submitting.take() {
            Some(executor) => executor,
            None => {
                let (jobs, clock) = B::ready_client()?;
                Executor::new(jobs, clock)
            }
        };
        placements.push(submitting.insert(executor).launch(&step));
    }
    Ok(placements)
}

/// Launches a script. Options are validated before Ray is started.
pub fn launch_script<B: Backend>(
    script: ScriptSpec,
    listener: &impl ProgressListener,
) -> Result<JobRef, Error> {
    let script = B::script(script)?;
    scripts::<B>()?.plan(&script)?;
    let (jobs, clock) = B::ready_client()?;
    Scripts::new(jobs, clock).launch(&script, listener)
}

/// Exports a [`Backend`] as a component of the world `run-backend`. The component's crate depends on
/// `dagster-ray-sdk`.
#[macro_export]
macro_rules! export_backend {
    ($backend:ident) => {
        const _: () = {
            use ::dagster_ray_sdk::bindings::{describe, executor, launcher, model, pipes, sink::Listener};
            use $crate::backend;

            impl describe::Guest for $backend {
                fn describe() -> describe::Description {
                    <Self as backend::Backend>::describe()
                }
            }

            impl launcher::Guest for $backend {
                fn launch(run: launcher::RunSpec) -> Result<launcher::RunRef, model::Error> {
                    backend::launch_run::<Self>(run)
                }

                fn resume(run: launcher::RunSpec) -> Result<launcher::RunRef, model::Error> {
                    backend::launch_run::<Self>(run)
                }

                fn locate(run_id: String, attempt: u32) -> Result<launcher::RunRef, model::Error> {
                    Ok(backend::launcher::<Self>()?.locate(&run_id, attempt))
                }

                fn terminate(
                    run: launcher::RunRef,
                    listener: &Listener,
                ) -> Result<launcher::Termination, model::Error> {
                    backend::launcher::<Self>()?.terminate(&run, listener)
                }

                fn check(runs: Vec<launcher::RunRef>) -> Result<Vec<model::JobStatus>, model::Error> {
                    backend::launcher::<Self>()?.check(&runs)
                }

                fn debug_info(run: launcher::RunRef) -> Result<String, model::Error> {
                    backend::launcher::<Self>()?.debug_info(&run)
                }
            }

            impl executor::Guest for $backend {
                fn plan(steps: Vec<executor::StepSpec>) -> Result<backend::Placements, model::Error> {
                    backend::plan_steps::<Self>(steps)
                }

                fn launch(steps: Vec<executor::StepSpec>) -> Result<backend::Placements, model::Error> {
                    backend::launch_steps::<Self>(steps)
                }

                fn check(steps: Vec<executor::StepRef>) -> Result<Vec<model::JobStatus>, model::Error> {
                    backend::executor::<Self>()?.check(&steps)
                }

                fn terminate(
                    steps: Vec<executor::StepRef>,
                    listener: &Listener,
                ) -> Result<Vec<model::JobStatus>, model::Error> {
                    backend::executor::<Self>()?.terminate(&steps, listener)
                }

                // No cluster was created for the run's steps, so there is nothing to remove.
                fn finish(
                    _run_id: String,
                    _options: String,
                    _tags: Vec<model::Attributes>,
                ) -> Result<(), model::Error> {
                    Ok(())
                }
            }

            impl pipes::Guest for $backend {
                fn plan(script: pipes::ScriptSpec) -> Result<model::JobRef, model::Error> {
                    let script = <Self as backend::Backend>::script(script)?;
                    backend::scripts::<Self>()?.plan(&script)
                }

                fn launch(
                    script: pipes::ScriptSpec,
                    listener: &Listener,
                ) -> Result<model::JobRef, model::Error> {
                    backend::launch_script::<Self>(script, listener)
                }

                fn follow(
                    job: model::JobRef,
                    from: Option<pipes::Position>,
                    listener: &Listener,
                ) -> Result<pipes::Followed, model::Error> {
                    backend::scripts::<Self>()?.follow(&job, from.as_deref(), listener)
                }

                fn wait(job: model::JobRef, listener: &Listener) -> Result<model::JobStatus, model::Error> {
                    backend::scripts::<Self>()?.wait(&job, listener)
                }

                fn terminate(
                    job: model::JobRef,
                    listener: &Listener,
                ) -> Result<model::JobStatus, model::Error> {
                    backend::scripts::<Self>()?.terminate(&job, listener)
                }
            }
        };

        ::dagster_ray_sdk::export!($backend: describe, launcher, executor, pipes);
    };
}
