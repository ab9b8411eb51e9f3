//! Calls of the interface `pipes`.

use serde::Deserialize;
use serde_json::{Value as Json, json};
use wasmtime::Store;
use wasmtime::component::Instance;

use super::{Failure, listener, parse, status, to_json};
use crate::bindings::exports::dagster_ray::backend::pipes::{GuestIndices, ScriptSpec};
use crate::capability::CallState;
use crate::model::JobRef;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    script: ScriptSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Follow {
    job: JobRef,
    #[serde(default)]
    from: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Job {
    job: JobRef,
}

pub(super) async fn call(
    store: &mut Store<CallState>,
    instance: &Instance,
    function: &str,
    arguments: &str,
) -> Result<Json, Failure> {
    let guest = GuestIndices::new(&instance.instance_pre(&mut *store))?.load(&mut *store, instance)?;
    match function {
        "plan" => to_json(guest.call_plan(store, &parse::<Script>(arguments)?.script).await??),
        "launch" => {
            let script = parse::<Script>(arguments)?.script;
            let listener = listener(store)?;
            to_json(guest.call_launch(store, &script, listener).await??)
        }
        "follow" => {
            let Follow { job, from } = parse(arguments)?;
            let listener = listener(store)?;
            let followed = guest.call_follow(store, &job, from.as_ref(), listener).await??;
            Ok(json!({"position": followed.position, "complete": followed.complete}))
        }
        "wait" => {
            let job = parse::<Job>(arguments)?.job;
            let listener = listener(store)?;
            Ok(status(guest.call_wait(store, &job, listener).await??))
        }
        "terminate" => {
            let job = parse::<Job>(arguments)?.job;
            let listener = listener(store)?;
            Ok(status(guest.call_terminate(store, &job, listener).await??))
        }
        _ => Err(Failure::NotOffered),
    }
}
