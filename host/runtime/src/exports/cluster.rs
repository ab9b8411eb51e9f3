//! Calls of the interface `cluster`.

use serde::Deserialize;
use serde_json::{Value as Json, json};
use wasmtime::Store;
use wasmtime::component::Instance;

use super::{Failure, listener, parse, status, to_json};
use crate::bindings::exports::dagster_ray::backend::cluster::{
    ClusterInfo, ClusterRef, ClusterSpec, ClusterState, Creation, Expirations, Expiry, GuestIndices, Query,
};
use crate::capability::CallState;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    spec: ClusterSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    cluster: ClusterRef,
    timeout_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneCluster {
    cluster: ClusterRef,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Find {
    query: Query,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Update {
    cluster: ClusterRef,
    patch: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Hold {
    cluster: ClusterRef,
    holder: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expired {
    rule: Expiry,
}

fn information(info: ClusterInfo) -> Result<Json, Failure> {
    let state = match info.state {
        ClusterState::Starting => "starting",
        ClusterState::Ready => "ready",
        ClusterState::Suspended => "suspended",
        ClusterState::Failed => "failed",
        ClusterState::Deleting => "deleting",
    };
    Ok(json!({
        "cluster": to_json(info.cluster)?,
        "state": state,
        "reason": info.reason,
        "labels": info.labels,
        "created_at": info.created_at,
        "holders": info.holders,
        "job": info.job.map(status),
        "document": info.document,
    }))
}

fn all(found: Vec<ClusterInfo>) -> Result<Json, Failure> {
    found.into_iter().map(information).collect()
}

pub(super) async fn call(
    store: &mut Store<CallState>,
    instance: &Instance,
    function: &str,
    arguments: &str,
) -> Result<Json, Failure> {
    let guest = GuestIndices::new(&instance.instance_pre(&mut *store))?.load(&mut *store, instance)?;
    match function {
        "create" => {
            let creation = guest.call_create(store, &parse::<Create>(arguments)?.spec).await??;
            Ok(match creation {
                Creation::Created(cluster) => json!({"created": to_json(cluster)?}),
                Creation::Joined(cluster) => json!({"joined": to_json(cluster)?}),
            })
        }
        "wait" => {
            let Wait { cluster, timeout_ms } = parse(arguments)?;
            let listener = listener(store)?;
            to_json(guest.call_wait(store, &cluster, timeout_ms, listener).await??)
        }
        "get" => information(guest.call_get(store, &parse::<OneCluster>(arguments)?.cluster).await??),
        "list" => all(guest.call_list(store, &parse::<Find>(arguments)?.query).await??),
        "update" => {
            let Update { cluster, patch } = parse(arguments)?;
            information(guest.call_update(store, &cluster, &patch).await??)
        }
        "renew" => {
            let Hold { cluster, holder } = parse(arguments)?;
            to_json(guest.call_renew(store, &cluster, &holder).await??)
        }
        "release" => {
            let Hold { cluster, holder } = parse(arguments)?;
            to_json(guest.call_release(store, &cluster, &holder).await??)
        }
        "delete" => to_json(guest.call_delete(store, &parse::<OneCluster>(arguments)?.cluster).await??),
        "endpoints" => to_json(guest.call_endpoints(store, &parse::<OneCluster>(arguments)?.cluster).await??),
        "expired" => {
            let Expirations { expired, not_owned } =
                guest.call_expired(store, &parse::<Expired>(arguments)?.rule).await??;
            Ok(json!({"expired": all(expired)?, "not_owned": all(not_owned)?}))
        }
        _ => Err(Failure::NotOffered),
    }
}
