//! Converts an export's name and JSON arguments to a typed call, and the result to JSON.
//!
//! Callers use JSON, so that the Python adapter and the command line need no code for each record.

mod cluster;
mod io;
mod life;
mod pipes;
mod reconciler;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wasmtime::Store;
use wasmtime::component::{Instance, Resource};

use crate::bindings::exports::dagster_ray::backend::{describe, executor, launcher};
use crate::capability::CallState;
use crate::capability::objects::Value as HostValue;
use crate::capability::reports::Listener;
use crate::model::{Attributes, Error, JobState, JobStatus};

/// The result of an export.
#[derive(Default)]
pub(crate) struct Answer {
    /// The result as JSON. It refers to values and errors by their index.
    pub(crate) json: Value,
    /// The values of the host's language that the result refers to.
    pub(crate) values: Vec<HostValue>,
    /// The errors of single elements of the result.
    pub(crate) errors: Vec<Error>,
}

impl From<Value> for Answer {
    fn from(json: Value) -> Self {
        Self { json, ..Self::default() }
    }
}

/// Why a call has no result.
pub(crate) enum Failure {
    /// The component does not have the export.
    NotOffered,
    /// The arguments do not match the contract.
    Arguments(String),
    /// The component returned an error.
    Returned(Error),
    /// A trap, or a defect of the host.
    Trapped(wasmtime::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Returned(error)
    }
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trapped(error)
    }
}

fn parse<T: DeserializeOwned>(arguments: &str) -> Result<T, Failure> {
    serde_json::from_str(arguments).map_err(|error| Failure::Arguments(error.to_string()))
}

fn to_json(value: impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| Failure::Trapped(wasmtime::Error::msg(error.to_string())))
}

fn state(state: JobState) -> &'static str {
    match state {
        JobState::Pending => "pending",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Stopped => "stopped",
        JobState::Missing => "missing",
        JobState::Unknown => "unknown",
    }
}

fn status(status: JobStatus) -> Value {
    json!({
        "submission_id": status.submission_id,
        "state": state(status.state),
        "ended": status.ended,
        "message": status.message,
        "error_type": status.error_type,
        "exit_code": status.exit_code,
        "missing_after_ms": status.missing_after_ms,
    })
}

fn statuses(all: Vec<JobStatus>) -> Value {
    all.into_iter().map(status).collect()
}

fn listener(store: &mut Store<CallState>) -> Result<Resource<Listener>, Failure> {
    store.data_mut().table.push(Listener).map_err(|error| Failure::Trapped(error.into()))
}

/// Calls `interface.function` with a JSON object of arguments.
pub(crate) async fn call(
    store: &mut Store<CallState>,
    instance: &Instance,
    export: &str,
    arguments: &str,
    values: Vec<HostValue>,
) -> Result<Answer, Failure> {
    match export.split_once('.') {
        Some(("describe", function)) => Ok(call_describe(store, instance, function).await?.into()),
        Some(("launcher", function)) => Ok(call_launcher(store, instance, function, arguments).await?.into()),
        Some(("executor", function)) => call_executor(store, instance, function, arguments).await,
        Some(("cluster", function)) => Ok(cluster::call(store, instance, function, arguments).await?.into()),
        Some(("pipes", function)) => Ok(pipes::call(store, instance, function, arguments).await?.into()),
        Some(("reconciler", function)) => {
            Ok(reconciler::call(store, instance, function, arguments).await?.into())
        }
        Some(("io", function)) => io::call(store, instance, function, arguments, values).await,
        _ => Err(Failure::NotOffered),
    }
}

async fn call_describe(
    store: &mut Store<CallState>,
    instance: &Instance,
    function: &str,
) -> Result<Value, Failure> {
    if function != "describe" {
        return Err(Failure::NotOffered);
    }
    let guest =
        describe::GuestIndices::new(&instance.instance_pre(&mut *store))?.load(&mut *store, instance)?;
    let description = guest.call_describe(&mut *store).await?;
    let role = |role| match role {
        describe::Role::Launcher => "launcher",
        describe::Role::Executor => "executor",
        describe::Role::Cluster => "cluster",
        describe::Role::Pipes => "pipes",
        describe::Role::Io => "io",
    };
    let options: Value = description
        .options
        .into_iter()
        .map(|(name, schema)| {
            (role(name).to_owned(), serde_json::from_str(&schema).unwrap_or(Value::String(schema)))
        })
        .collect();
    Ok(json!({
        "name": description.name,
        "version": description.version,
        "summary": description.summary,
        "options": options,
        "settings": description.settings.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run<T> {
    run: T,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Runs {
    runs: Vec<launcher::RunRef>,
}

async fn call_launcher(
    store: &mut Store<CallState>,
    instance: &Instance,
    function: &str,
    arguments: &str,
) -> Result<Value, Failure> {
    let guest =
        launcher::GuestIndices::new(&instance.instance_pre(&mut *store))?.load(&mut *store, instance)?;
    match function {
        "launch" => to_json(guest.call_launch(store, &parse::<Run<_>>(arguments)?.run).await??),
        "resume" => to_json(guest.call_resume(store, &parse::<Run<_>>(arguments)?.run).await??),
        "plan" => Ok(match guest.call_plan(store, &parse::<Run<_>>(arguments)?.run).await?? {
            launcher::RunPlacement::Job(run) => json!({"job": to_json(run)?}),
            launcher::RunPlacement::Local => Value::from("local"),
        }),
        "terminate" => {
            let run = parse::<Run<_>>(arguments)?.run;
            let listener = listener(store)?;
            let ended = guest.call_terminate(store, &run, listener).await??;
            Ok(Value::from(match ended {
                launcher::Termination::Stopped => "stopped",
                launcher::Termination::AlreadyEnded => "already-ended",
                launcher::Termination::Missing => "missing",
            }))
        }
        "check" => Ok(statuses(guest.call_check(store, &parse::<Runs>(arguments)?.runs).await??)),
        "debug-info" => Ok(guest.call_debug_info(store, &parse::<Run<_>>(arguments)?.run).await??.into()),
        _ => Err(Failure::NotOffered),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepSpecs {
    steps: Vec<executor::StepSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Steps {
    steps: Vec<executor::StepRef>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Finish {
    run_id: String,
    options: String,
    tags: Vec<Attributes>,
}

/// Converts the placement of each step. An element with an error is an object with the key `error`: the error's
/// index in `errors` and its message.
fn placements(all: Vec<Result<executor::Placement, Error>>) -> Result<Answer, Failure> {
    let mut errors = Vec::new();
    let mut json = Vec::new();
    for one in all {
        json.push(match one {
            Ok(executor::Placement::Job(step)) => json!({"job": to_json(step)?}),
            Ok(executor::Placement::Task(step)) => json!({"task": to_json(step)?}),
            Ok(executor::Placement::Local) => Value::from("local"),
            Err(error) => {
                errors.push(error);
                let index = errors.len() - 1;
                json!({"error": {"index": index, "message": crate::error::explain(&errors[index], false)}})
            }
        });
    }
    Ok(Answer { json: json.into(), errors, ..Answer::default() })
}

async fn call_executor(
    store: &mut Store<CallState>,
    instance: &Instance,
    function: &str,
    arguments: &str,
) -> Result<Answer, Failure> {
    let guest =
        executor::GuestIndices::new(&instance.instance_pre(&mut *store))?.load(&mut *store, instance)?;
    match function {
        "plan" => placements(guest.call_plan(store, &parse::<StepSpecs>(arguments)?.steps).await??),
        "launch" => placements(guest.call_launch(store, &parse::<StepSpecs>(arguments)?.steps).await??),
        "check" => Ok(statuses(guest.call_check(store, &parse::<Steps>(arguments)?.steps).await??).into()),
        "terminate" => {
            let steps = parse::<Steps>(arguments)?.steps;
            let listener = listener(store)?;
            Ok(statuses(guest.call_terminate(store, &steps, listener).await??).into())
        }
        "finish" => {
            let Finish { run_id, options, tags } = parse(arguments)?;
            Ok(guest.call_finish(store, &run_id, &options, &tags).await?.map(|()| Value::Null)?.into())
        }
        _ => Err(Failure::NotOffered),
    }
}
