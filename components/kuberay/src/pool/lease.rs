//! The lease of a run on a cluster of a pool, in an annotation of the cluster.
//!
//! A lease does not expire. It ends when the run's worker says so, when the worker's RayJob has ended, or when
//! Dagster's own record of the run says so. All times are the API server's.

use dagster_ray_sdk::json::{self, Value};
use serde_json::json;

use crate::{
    job::{ended::last_change, status::RayJob},
    kubernetes::object,
};

/// The annotation with the latest lease of a cluster.
pub const LEASE: &str = "dagster-ray/pool-lease";

/// Seconds between a lease and the creation of its RayJob, after which the launch counts as killed.
const LAUNCH_GRACE_S: u64 = 120;
/// Seconds for which the lease of a worker that failed without ending its lease is kept: Dagster may resume the run,
/// whose steps use the cluster.
const RESUME_GRACE_S: u64 = 300;

/// The latest lease of a cluster, or its release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The id of the Dagster deployment that owns the run.
    pub deployment: String,
    /// The Dagster run id.
    pub run_id: String,
    /// The name of the run worker's RayJob, if the worker uses the cluster. Otherwise, only steps of the run do.
    pub job: Option<String>,
    /// When the lease began, in seconds since the Unix epoch.
    pub since_s: u64,
    /// Whether the lease holds. Steps that start together each take a cluster, and only one of their leases is
    /// confirmed.
    pub is_confirmed: bool,
    /// When the lease ended, in seconds since the Unix epoch.
    pub released_s: Option<u64>,
    /// The number of runs that have leased the cluster.
    pub runs: u64,
}

/// Whether a run needs a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No run needs it since this time, in seconds since the Unix epoch.
    Free(u64),
    /// Its lease is over for this reason, and has not been ended yet.
    Over(String),
    /// A run needs it, for this reason.
    Held(String),
}

impl Lease {
    /// Returns the lease in a cluster's annotations. A cluster that no run has leased has none.
    #[must_use]
    pub fn of(document: &Value) -> Option<Self> {
        let text = object::annotations(document).get(LEASE).copied()?;
        let lease = json::parse(text.as_bytes()).ok()?;
        let number = |field: &str| lease.get(field).and_then(Value::as_u64);
        Some(Self {
            deployment: object::text(&lease, "/deployment").unwrap_or_default().to_owned(),
            run_id: object::text(&lease, "/run_id")?.to_owned(),
            job: object::text(&lease, "/job").map(str::to_owned),
            since_s: number("since_s")?,
            is_confirmed: lease.get("is_confirmed").and_then(Value::as_bool).unwrap_or_default(),
            released_s: number("released_s"),
            runs: number("runs").unwrap_or(1),
        })
    }

    /// Returns the annotation: its key and value.
    #[must_use]
    pub fn annotation(&self) -> (String, Value) {
        let text = json!({
            "deployment": self.deployment,
            "run_id": self.run_id,
            "job": self.job,
            "since_s": self.since_s,
            "is_confirmed": self.is_confirmed,
            "released_s": self.released_s,
            "runs": self.runs,
        });
        (LEASE.to_owned(), json::text(&text).into())
    }

    /// Returns whether this is a lease of the run that has not ended.
    #[must_use]
    pub fn is_of(&self, run_id: &str) -> bool {
        self.run_id == run_id && self.released_s.is_none()
    }

    /// Returns whether the run needs the cluster, as far as Kubernetes knows. `jobs` are the RayJobs of the pool,
    /// `now_s` is in seconds since the Unix epoch.
    #[must_use]
    pub fn standing(&self, jobs: &[Value], now_s: u64) -> Standing {
        let Some(name) = &self.job else {
            return match self.released_s {
                Some(released) => Standing::Free(released),
                None => Standing::Held(format!("the steps of run {} use it", self.run_id)),
            };
        };
        let Some(job) = jobs.iter().find(|job| object::name(job) == name) else {
            return match self.released_s {
                Some(released) => Standing::Free(released),
                None if now_s.saturating_sub(self.since_s) < LAUNCH_GRACE_S => {
                    Standing::Held(format!("run {} is being launched on it", self.run_id))
                }
                None => Standing::Over(format!("the RayJob {name} of its run does not exist")),
            };
        };
        let held = || Standing::Held(format!("run {} uses it", self.run_id));
        let read = RayJob::read(job);
        // The job of a run that has reported its end still exits, and KubeRay reads its status every few seconds.
        if read.is_deleting() || !read.is_final() {
            return held();
        }
        if let Some(released) = self.released_s {
            return Standing::Free(released);
        }
        if read.status.job_status == "SUCCEEDED" {
            return Standing::Over("its run has succeeded".to_owned());
        }
        match last_change(job) {
            Some(ended) if now_s.saturating_sub(ended) >= RESUME_GRACE_S => {
                Standing::Over(format!("the worker of its run ended {} s ago", now_s.saturating_sub(ended)))
            }
            _ => Standing::Held(format!("the worker of run {} has failed, and may be resumed", self.run_id)),
        }
    }
}
