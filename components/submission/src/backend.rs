//! The trait that a backend component implements, and the macro that exports it.

use dagster_ray_jobs::{RayJobs, packages::PackageRules};
use dagster_ray_sdk::{
    Error,
    bindings::{
        describe::{Description, Role},
        executor::{Placement, StepRef, StepSpec},
        launcher::{RunPlacement, RunRef, RunSpec},
        pipes::ScriptSpec,
        reconciler::{Leftover, Reconciliation},
    },
    clock::{Clock, epoch_s},
    model::{JobRef, JobStatus},
    progress::ProgressListener,
    retry::Policy,
    settings::WasiSettings,
};

use crate::{
    ended_jobs,
    executor::Executor,
    launcher::{self, Launcher},
    options::Options,
    patience::Patience,
    reconcile,
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
    /// The settings that the backend reads, as pairs of key and one-sentence description. Every backend also
    /// reads [`Patience::SETTING`] and the settings of [`PackageRules`].
    const SETTINGS: &[(&str, &str)];
    /// Whether Ray's records of steps that have succeeded are deleted at the end of their run.
    const DELETES_ENDED_JOBS: bool = true;

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

    /// Stops what has outlived its run or step attempt, as the contract's `reconcile`. Does not start Ray.
    fn reconcile(rule: &Reconciliation, listener: &impl ProgressListener) -> Result<Vec<Leftover>, Error> {
        let (jobs, clock) = Self::client()?;
        reconcile::jobs::reconcile(&jobs, &clock, rule, epoch_s(), listener)
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
        settings: B::SETTINGS
            .iter()
            .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
            .chain([Patience::described()])
            .chain(PackageRules::described())
            .collect(),
    }
}

/// How a call waits for Ray.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Each request is tried once, within the timeouts of a check.
    Check,
    /// Each request is tried once. The caller polls.
    Poll,
    /// Requests are repeated.
    Request,
}

impl Wait {
    /// Applies the patience of the settings to a client.
    fn limit<J: RayJobs>(self, jobs: J) -> Result<(J, Patience), Error> {
        let patience = Patience::from_settings(&WasiSettings)?;
        let jobs = match self {
            Self::Check => jobs.limited(Policy::ONCE, Some(patience.check())),
            Self::Poll => jobs.limited(Policy::ONCE, None),
            Self::Request => jobs.limited(patience.request(), None),
        };
        Ok((jobs, patience))
    }
}

/// Returns the backend's launcher, without waiting for Ray to accept jobs.
pub fn launcher<B: Backend>() -> Result<Launcher<B::Jobs, B::Clock>, Error> {
    launcher_with(B::client()?, Wait::Request)
}

fn launcher_with<J: RayJobs, C: Clock>((jobs, clock): (J, C), wait: Wait) -> Result<Launcher<J, C>, Error> {
    wait.limit(jobs).map(|(jobs, patience)| Launcher::new(jobs, clock, patience))
}

/// Returns the backend's executor, without waiting for Ray to accept jobs.
pub fn executor<B: Backend>() -> Result<Executor<B::Jobs, B::Clock>, Error> {
    executor_with(B::client()?, Wait::Request)
}

fn executor_with<J: RayJobs, C: Clock>((jobs, clock): (J, C), wait: Wait) -> Result<Executor<J, C>, Error> {
    wait.limit(jobs).map(|(jobs, patience)| Executor::new(jobs, clock, patience))
}

/// Returns the backend's [`Scripts`], without waiting for Ray to accept jobs.
pub fn scripts<B: Backend>() -> Result<Scripts<B::Jobs, B::Clock>, Error> {
    scripts_with(B::client()?, Wait::Request)
}

/// Returns the backend's [`Scripts`] for following a script and waiting for its end.
pub fn polling_scripts<B: Backend>() -> Result<Scripts<B::Jobs, B::Clock>, Error> {
    scripts_with(B::client()?, Wait::Poll)
}

fn scripts_with<J: RayJobs, C: Clock>((jobs, clock): (J, C), wait: Wait) -> Result<Scripts<J, C>, Error> {
    wait.limit(jobs).map(|(jobs, patience)| Scripts::new(jobs, clock, patience))
}

/// Returns the statuses of runs, with one try within the limits of a check.
pub fn check_runs<B: Backend>(runs: &[RunRef]) -> Result<Vec<JobStatus>, Error> {
    launcher_with(B::client()?, Wait::Check)?.check(runs)
}

/// Returns the statuses of steps, with one try within the limits of a check.
pub fn check_steps<B: Backend>(steps: &[StepRef]) -> Result<Vec<JobStatus>, Error> {
    executor_with(B::client()?, Wait::Check)?.check(steps)
}

/// Deletes Ray's records of a run's steps, if the backend and the options say so. No cluster was created for them.
pub fn finish_steps<B: Backend>(run_id: &str, options: &str) -> Result<(), Error> {
    if !B::DELETES_ENDED_JOBS {
        return Ok(());
    }
    if ended_jobs::are_deleted(options)? {
        ended_jobs::delete_of_run(&executor::<B>()?.jobs, run_id)?;
    }
    Ok(())
}

/// Plans a run. Ray is neither contacted nor started.
pub fn plan_run<B: Backend>(run: RunSpec) -> Result<RunPlacement, Error> {
    launcher::<B>()?.plan(&B::run(run)?)
}

/// Launches or resumes a run. Options are validated before Ray is contacted or started.
pub fn launch_run<B: Backend>(run: RunSpec) -> Result<RunRef, Error> {
    let run = B::run(run)?;
    launcher::submission(&run, Options::merged(&run.options, &run.tags)?)?;
    launcher_with(B::ready_client()?, Wait::Request)?.launch(&run)
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
        match planning.plan(&step) {
            // Outside a Ray job, a backend may have to start Ray for a task, too.
            Ok(Placement::Job(_) | Placement::Task(_)) => {}
            planned @ (Ok(Placement::Local) | Err(_)) => {
                placements.push(planned);
                continue;
            }
        }
        let executor = match submitting.take() {
            Some(executor) => executor,
            None => executor_with(B::ready_client()?, Wait::Request)?,
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
    scripts_with(B::ready_client()?, Wait::Request)?.launch(&script, listener)
}

/// Exports a [`Backend`] as a component of the world `run-backend`. The component's crate depends on
/// `dagster-ray-sdk`.
#[macro_export]
macro_rules! export_backend {
    ($backend:ident) => {
        const _: () = {
            use ::dagster_ray_sdk::bindings::{
                describe, executor, launcher, model, pipes, reconciler, reports::Listener,
            };
            use $crate::backend;

            impl describe::Guest for $backend {
                fn describe() -> describe::Description {
                    <Self as backend::Backend>::describe()
                }
            }

            impl launcher::Guest for $backend {
                fn plan(run: launcher::RunSpec) -> Result<launcher::RunPlacement, model::Error> {
                    backend::plan_run::<Self>(run)
                }

                fn launch(run: launcher::RunSpec) -> Result<launcher::RunRef, model::Error> {
                    backend::launch_run::<Self>(run)
                }

                fn resume(run: launcher::RunSpec) -> Result<launcher::RunRef, model::Error> {
                    backend::launch_run::<Self>(run)
                }

                fn terminate(
                    run: launcher::RunRef,
                    listener: &Listener,
                ) -> Result<launcher::Termination, model::Error> {
                    backend::launcher::<Self>()?.terminate(&run, listener)
                }

                fn check(runs: Vec<launcher::RunRef>) -> Result<Vec<model::JobStatus>, model::Error> {
                    backend::check_runs::<Self>(&runs)
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
                    backend::check_steps::<Self>(&steps)
                }

                fn terminate(
                    steps: Vec<executor::StepRef>,
                    listener: &Listener,
                ) -> Result<Vec<model::JobStatus>, model::Error> {
                    backend::executor::<Self>()?.terminate(&steps, listener)
                }

                fn finish(
                    run_id: String,
                    options: String,
                    _tags: Vec<model::Attributes>,
                ) -> Result<(), model::Error> {
                    backend::finish_steps::<Self>(&run_id, &options)
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
                    backend::polling_scripts::<Self>()?.follow(&job, from.as_deref(), listener)
                }

                fn wait(job: model::JobRef, listener: &Listener) -> Result<model::JobStatus, model::Error> {
                    backend::polling_scripts::<Self>()?.wait(&job, listener)
                }

                fn terminate(
                    job: model::JobRef,
                    listener: &Listener,
                ) -> Result<model::JobStatus, model::Error> {
                    backend::scripts::<Self>()?.terminate(&job, listener)
                }
            }

            impl reconciler::Guest for $backend {
                fn reconcile(
                    rule: reconciler::Reconciliation,
                    listener: &Listener,
                ) -> Result<Vec<reconciler::Leftover>, model::Error> {
                    <Self as backend::Backend>::reconcile(&rule, listener)
                }
            }
        };

        ::dagster_ray_sdk::export!($backend: describe, launcher, executor, pipes, reconciler);
    };
}
