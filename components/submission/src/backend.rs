//! What a component adds to the shared rules, and the macro that exports it.

use dagster_ray_jobs::RayJobs;
use dagster_ray_sdk::{
    Error,
    bindings::{
        describe::{Description, Role},
        executor::{StepRef, StepSpec},
        launcher::{RunRef, RunSpec},
        pipes::ScriptSpec,
    },
    clock::Clock,
    model::JobRef,
    sink::Listener,
};

use crate::{
    executor::Executor,
    launcher::{self, Launcher},
    options::Options,
    scripts::{ScriptOptions, Scripts},
};

/// A backend that submits Ray jobs.
pub trait Backend {
    /// How it asks Ray.
    type Jobs: RayJobs;
    /// The clock that its rules wait on.
    type Clock: Clock;

    /// Its name.
    const NAME: &str;
    /// Its version.
    const VERSION: &str;
    /// What it does, in a sentence.
    const SUMMARY: &str;
    /// The settings that it reads, each with a sentence.
    const SETTINGS: &[(&str, &str)];

    /// The Ray that its settings name.
    fn ray() -> Result<(Self::Jobs, Self::Clock), Error>;

    /// The same, once jobs can be submitted to it.
    fn ray_to_submit_to() -> Result<(Self::Jobs, Self::Clock), Error> {
        Self::ray()
    }

    /// A run as the rules are to see it.
    fn run(run: RunSpec) -> Result<RunSpec, Error> {
        Ok(run)
    }

    /// A step as the rules are to see it.
    fn step(step: StepSpec) -> Result<StepSpec, Error> {
        Ok(step)
    }

    /// A script as the rules are to see it.
    fn script(script: ScriptSpec) -> Result<ScriptSpec, Error> {
        Ok(script)
    }

    /// Its card.
    #[must_use]
    fn describe() -> Description
    where
        Self: Sized,
    {
        card::<Self>()
    }
}

/// What the constants of a backend say on its card.
#[must_use]
pub fn card<B: Backend>() -> Description {
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

/// Its launcher.
pub fn launcher<B: Backend>() -> Result<Launcher<B::Jobs, B::Clock>, Error> {
    B::ray().map(|(jobs, clock)| Launcher::new(jobs, clock))
}

/// Its launcher, once jobs can be submitted.
pub fn ready_launcher<B: Backend>() -> Result<Launcher<B::Jobs, B::Clock>, Error> {
    B::ray_to_submit_to().map(|(jobs, clock)| Launcher::new(jobs, clock))
}

/// Its executor.
pub fn executor<B: Backend>() -> Result<Executor<B::Jobs, B::Clock>, Error> {
    B::ray().map(|(jobs, clock)| Executor::new(jobs, clock))
}

/// Its executor, once jobs can be submitted.
pub fn ready_executor<B: Backend>() -> Result<Executor<B::Jobs, B::Clock>, Error> {
    B::ray_to_submit_to().map(|(jobs, clock)| Executor::new(jobs, clock))
}

/// Its scripts.
pub fn scripts<B: Backend>() -> Result<Scripts<B::Jobs, B::Clock>, Error> {
    B::ray().map(|(jobs, clock)| Scripts::new(jobs, clock))
}

/// Its scripts, once jobs can be submitted.
pub fn ready_scripts<B: Backend>() -> Result<Scripts<B::Jobs, B::Clock>, Error> {
    B::ray_to_submit_to().map(|(jobs, clock)| Scripts::new(jobs, clock))
}

/// Launches or resumes a run. What cannot be meant is told before a Ray is looked for, or started.
pub fn launch_run<B: Backend>(run: RunSpec) -> Result<RunRef, Error> {
    let run = B::run(run)?;
    launcher::submission(&run, Options::merged(&run.options, &run.tags)?)?;
    ready_launcher::<B>()?.launch(&run)
}

/// Launches a step, with the same order of things.
pub fn launch_step<B: Backend>(step: StepSpec) -> Result<StepRef, Error> {
    let step = B::step(step)?;
    executor::<B>()?.plan(&step)?;
    ready_executor::<B>()?.launch(&step)
}

/// Launches a script, with the same order of things.
pub fn launch_script<B: Backend>(script: ScriptSpec, listener: &impl Listener) -> Result<JobRef, Error> {
    let script = B::script(script)?;
    scripts::<B>()?.plan(&script)?;
    ready_scripts::<B>()?.launch(&script, listener)
}

/// Exports a [`Backend`] as a component of the world `run-backend`.
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
                fn plan(step: executor::StepSpec) -> Result<executor::StepRef, model::Error> {
                    let step = <Self as backend::Backend>::step(step)?;
                    backend::executor::<Self>()?.plan(&step)
                }

                fn launch(step: executor::StepSpec) -> Result<executor::StepRef, model::Error> {
                    backend::launch_step::<Self>(step)
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

                // Steps on a Ray that is there share nothing that was made for them.
                fn finish(_run_id: String, _options: String) -> Result<(), model::Error> {
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

        // A native linker does not take the names of a component's exports.
        #[cfg(target_family = "wasm")]
        ::dagster_ray_sdk::export_run_backend!($backend with_types_in ::dagster_ray_sdk::bindings);
    };
}
