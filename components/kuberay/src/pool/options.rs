//! Options of a pool of clusters, and their copy in an annotation of each cluster.

use dagster_ray_sdk::{
    json::{self, Value},
    options::Fields,
};
use schemars::JsonSchema;
use serde_json::json;

use crate::kubernetes::object;

/// The annotation with the options under which a cluster was created or leased last. Dagster's reconciliation has
/// no other source of them.
pub const OPTIONS: &str = "dagster-ray/pool-options";

const DEFAULT_MAX: u64 = 5;

/// Options of a pool of clusters.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
pub struct PoolOptions {
    /// The number of clusters without a run that the pool keeps ready, within `max`.
    pub size: u64,
    /// The number of clusters that the pool has at most, with and without a run. Defaults to 5, or to `size` if that
    /// is more.
    #[schemars(with = "Option<u64>")]
    pub max: u64,
    /// Seconds after which a cluster without a run is deleted, if the pool has more than `size` of them.
    pub idle_seconds: u64,
    /// Seconds after its last use after which all clusters of a pool without a run are deleted. A new image or
    /// another cluster specification begins a new pool.
    pub unused_seconds: u64,
    /// A name that separates the pool from others. Without it, all runs of the deployment whose clusters would be
    /// alike use one pool. With it, only those that have the same key, too.
    pub key: Option<String>,
    /// The number of runs that use a cluster before it is deleted. 1 gives each run a cluster that no other run has
    /// used.
    pub reuse: u64,
    /// Seconds for which a launch waits while all `max` clusters are in use. Then it fails.
    pub wait_seconds: u64,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            size: 1,
            max: DEFAULT_MAX,
            idle_seconds: 1_800,
            unused_seconds: 86_400,
            key: None,
            reuse: 10,
            wait_seconds: 120,
        }
    }
}

impl PoolOptions {
    /// Reads the options from the fields of an object.
    #[must_use]
    pub fn read(fields: &mut Fields<'_>) -> Self {
        let default = Self::default();
        let size = fields.integer("size", "write a number of clusters, such as 2").unwrap_or(default.size);
        let max = fields.integer("max", "write a number of clusters, such as 5");
        match max {
            Some(0) => fields.add_mistake("max", "is 0", "write at least 1, or set `cluster: own`"),
            Some(max) if max < size => {
                fields.add_mistake(
                    "max",
                    format!("is {max}, less than size ({size})"),
                    "write at least `size`",
                );
            }
            _ => {}
        }
        let reuse = fields.integer("reuse", "write a number of runs, such as 10");
        if reuse == Some(0) {
            fields.add_mistake("reuse", "is 0", "write 1 for a cluster that no other run has used");
        }
        Self {
            size,
            max: max.unwrap_or(DEFAULT_MAX.max(size)),
            idle_seconds: fields.seconds("idle_seconds").unwrap_or(default.idle_seconds),
            unused_seconds: fields.seconds("unused_seconds").unwrap_or(default.unused_seconds),
            key: fields.string("key"),
            reuse: reuse.unwrap_or(default.reuse),
            wait_seconds: fields.seconds("wait_seconds").unwrap_or(default.wait_seconds),
        }
    }

    /// Returns the annotation of a cluster of the pool: its key and value.
    #[must_use]
    pub fn annotation(&self) -> (String, Value) {
        let text = json!({
            "size": self.size,
            "max": self.max,
            "idle_seconds": self.idle_seconds,
            "unused_seconds": self.unused_seconds,
            "key": self.key,
            "reuse": self.reuse,
        });
        (OPTIONS.to_owned(), json::text(&text).into())
    }

    /// Returns the options in a cluster's annotation. What is missing has its default.
    #[must_use]
    pub fn of(document: &Value) -> Self {
        let text = object::annotations(document).get(OPTIONS).copied().unwrap_or_default();
        let found = json::parse(text.as_bytes()).unwrap_or_default();
        let number = |field: &str, default| found.get(field).and_then(Value::as_u64).unwrap_or(default);
        let default = Self::default();
        Self {
            size: number("size", default.size),
            max: number("max", default.max),
            idle_seconds: number("idle_seconds", default.idle_seconds),
            unused_seconds: number("unused_seconds", default.unused_seconds),
            key: object::text(&found, "/key").map(str::to_owned),
            reuse: number("reuse", default.reuse),
            wait_seconds: default.wait_seconds,
        }
    }
}
