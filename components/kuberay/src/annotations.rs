//! Annotations of RayClusters and RayJobs. They suffice to clean up after a killed owner.

use std::collections::BTreeMap;

use dagster_ray_sdk::{bindings::cluster::Owner, json};
use serde_json::{Value, json};

use crate::kubernetes::object;

/// The annotation with the owner of a cluster.
pub const OWNER: &str = "dagster-ray/owner";
/// The annotation with the seconds after its creation at which a cluster expires once its run has ended.
pub const TTL: &str = "dagster-ray/ttl-seconds";
/// The annotation with the seconds for which a RayJob is kept after its job has ended.
pub const JOB_TTL: &str = "dagster-ray/job-ttl-seconds";
/// The annotation that says whether a cluster is deleted when its last holder releases it.
pub const DELETE_WHEN_RELEASED: &str = "dagster-ray/delete-when-released";

/// Returns the annotations of every object created for an owner.
#[must_use]
pub fn for_owner(owner: &Owner, ttl_s: Option<u64>, delete_when_released: bool) -> BTreeMap<String, Value> {
    let mut annotations = BTreeMap::new();
    annotations.insert(OWNER.to_owned(), owner_text(owner).into());
    annotations.insert(DELETE_WHEN_RELEASED.to_owned(), delete_when_released.to_string().into());
    annotations.extend(ttl_s.map(|seconds| (TTL.to_owned(), seconds.to_string().into())));
    annotations
}

/// Returns whether a cluster was created for this owner.
#[must_use]
pub fn is_owned_by(document: &Value, owner: &Owner) -> bool {
    object::annotations(document).get(OWNER).is_some_and(|text| *text == owner_text(owner))
}

/// Returns the step key in the owner of an object. A label's value cannot hold every key.
#[must_use]
pub fn step_key(document: &Value) -> Option<String> {
    let owner = json::parse(object::annotations(document).get(OWNER)?.as_bytes()).ok()?;
    owner.get("step_key")?.as_str().map(str::to_owned)
}

fn owner_text(owner: &Owner) -> String {
    json::text(&json!({
        "deployment": owner.deployment,
        "run_id": owner.run_id,
        "step_key": owner.step_key,
        "resource_key": owner.resource_key,
        "holder": owner.holder,
    }))
}
