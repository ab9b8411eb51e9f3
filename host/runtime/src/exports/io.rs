//! Calls of the interface `io`. The JSON refers to a value by its index in the accompanying list.

use serde::Deserialize;
use serde_json::{Value as Json, json};
use wasmtime::Store;
use wasmtime::component::{Instance, Resource};

use super::life::Life;
use super::{Answer, Failure, parse};
use crate::bindings::exports::dagster_ray::backend::io::{
    Address, GuestIndices, IoContext, Selection, Stored,
};
use crate::capability::CallState;
use crate::capability::objects::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Save {
    address: Address,
    value: usize,
    context: IoContext,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Load {
    address: Address,
    context: IoContext,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadMany {
    addresses: Vec<Address>,
    context: IoContext,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Select {
    selection: Selected,
    context: IoContext,
}

/// A selection as JSON: an object whose only key is the kind.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Selected {
    Runs(Vec<String>),
    Asset(Vec<String>),
    Keys(Vec<String>),
    Expired(Vec<Life>),
}

impl From<Selected> for Selection {
    fn from(selected: Selected) -> Self {
        match selected {
            Selected::Runs(runs) => Self::Runs(runs),
            Selected::Asset(parts) => Self::Asset(parts),
            Selected::Keys(keys) => Self::Keys(keys),
            Selected::Expired(known) => Self::Expired(known.into_iter().map(Into::into).collect()),
        }
    }
}

fn stored(stored: Stored) -> Json {
    json!({
        "key": stored.key,
        "run_id": stored.run_id,
        "metadata": stored.metadata.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "size": stored.size,
        "stored_at": stored.stored_at,
    })
}

fn take(store: &mut Store<CallState>, value: Resource<Value>) -> Result<Value, Failure> {
    store.data_mut().table.delete(value).map_err(|error| Failure::Trapped(error.into()))
}

pub(super) async fn call(
    store: &mut Store<CallState>,
    instance: &Instance,
    function: &str,
    arguments: &str,
    values: Vec<Value>,
) -> Result<Answer, Failure> {
    let guest = GuestIndices::new(&instance.instance_pre(&mut *store))?.load(&mut *store, instance)?;
    match function {
        "save" => {
            let Save { address, value, context } = parse(arguments)?;
            let value = values.get(value).cloned().ok_or_else(|| {
                Failure::Arguments(format!("value {value}: only {} values were given", values.len()))
            })?;
            let table = &mut store.data_mut().table;
            let handle = table.push(value).map_err(|error| Failure::Trapped(error.into()))?;
            let borrow = Resource::new_borrow(handle.rep());
            Ok(stored(guest.call_save(&mut *store, &address, borrow, &context).await??).into())
        }
        "load" => {
            let Load { address, context } = parse(arguments)?;
            let value = guest.call_load(&mut *store, &address, &context).await??;
            Ok(Answer { json: json!({"value": 0}), values: vec![take(store, value)?], ..Answer::default() })
        }
        "load-many" => {
            let LoadMany { addresses, context } = parse(arguments)?;
            let loaded = guest.call_load_many(&mut *store, &addresses, &context).await??;
            let mut names = Vec::new();
            let mut values = Vec::new();
            for (name, value) in loaded {
                names.push(name);
                values.push(take(store, value)?);
            }
            Ok(Answer { json: json!({"partitions": names}), values, ..Answer::default() })
        }
        "list" => {
            let Select { selection, context } = parse(arguments)?;
            let found = guest.call_list(&mut *store, &selection.into(), &context).await??;
            Ok(found.into_iter().map(stored).collect::<Json>().into())
        }
        "delete" => {
            let Select { selection, context } = parse(arguments)?;
            Ok(Json::from(guest.call_delete(&mut *store, &selection.into(), &context).await??).into())
        }
        _ => Err(Failure::NotOffered),
    }
}
