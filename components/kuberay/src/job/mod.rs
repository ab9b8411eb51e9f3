//! Runs, steps and scripts as RayJobs.

pub mod create;
pub mod ended;
pub mod manifest;
pub mod pending;
pub mod status;
pub mod stop;

use dagster_ray_sdk::{json, model::JobRef};
use dagster_ray_submission::session;
use serde_json::{Value, json};

use crate::kubernetes::{RAY_CLUSTER, RAY_JOB, object};

/// The kind of the location [`JobLocation::Leased`].
const LEASED: &str = "LeasedRayCluster";

/// The location of a job, stored in the `details` of its reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobLocation {
    /// A RayJob, with a dedicated cluster or on one of a pool.
    RayJob {
        /// The RayJob's namespace.
        namespace: String,
        /// The RayJob's name.
        name: String,
        /// The id of the pool, if the RayJob runs on a cluster of one.
        pool: Option<String>,
    },
    /// A Ray job on the cluster of a pool that the run leases when its first step is launched.
    Leased {
        /// The cluster's namespace.
        namespace: String,
        /// The Dagster run id.
        run_id: String,
    },
    /// A Ray job on a shared cluster.
    RayCluster {
        /// The cluster's namespace.
        namespace: String,
        /// The cluster's name.
        name: String,
        /// The cluster's uid, once it is known.
        uid: Option<String>,
        /// The URL of the cluster's dashboard, once it is known.
        dashboard: Option<String>,
        /// The Ray session that the job was submitted to, once it is known. A restarted head has another.
        session: Option<String>,
    },
}

impl JobLocation {
    /// Returns a reference to a job at this location.
    #[must_use]
    pub fn reference(&self, submission_id: &str, dashboard_url: Option<String>) -> JobRef {
        JobRef { submission_id: submission_id.to_owned(), dashboard_url, details: Some(self.to_json()) }
    }

    /// Returns the location as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::text(&match self {
            Self::RayJob { namespace, name, pool } => {
                let mut document = json!({"kind": RAY_JOB.kind, "namespace": namespace, "name": name});
                if let Some(pool) = pool {
                    document["pool"] = pool.as_str().into();
                }
                document
            }
            Self::Leased { namespace, run_id } => {
                json!({"kind": LEASED, "namespace": namespace, "name": run_id})
            }
            Self::RayCluster { namespace, name, uid, dashboard, session } => {
                let mut document = json!({"kind": RAY_CLUSTER.kind, "namespace": namespace, "name": name});
                for (field, value) in [("uid", uid), ("dashboard", dashboard), (session::KEY, session)] {
                    if let Some(value) = value {
                        document[field] = value.as_str().into();
                    }
                }
                document
            }
        })
    }

    /// Parses the location in a reference. Returns `None` if it has none.
    #[must_use]
    pub fn from_reference(job: &JobRef) -> Option<Self> {
        let document: Value = json::parse(job.details.as_deref()?.as_bytes()).ok()?;
        let part = |pointer: &str| object::text(&document, pointer).map(str::to_owned);
        let (kind, namespace, name) = (part("/kind")?, part("/namespace")?, part("/name")?);
        if kind == RAY_JOB.kind {
            Some(Self::RayJob { namespace, name, pool: part("/pool") })
        } else if kind == LEASED {
            Some(Self::Leased { namespace, run_id: name })
        } else if kind == RAY_CLUSTER.kind {
            let (uid, dashboard) = (part("/uid"), part("/dashboard"));
            Some(Self::RayCluster { namespace, name, uid, dashboard, session: session::of_reference(job) })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_location_in_a_reference_is_parsed() {
        let (namespace, name) = ("n".to_owned(), "a".to_owned());
        let shared =
            |uid: Option<&str>, dashboard: Option<&str>, session: Option<&str>| JobLocation::RayCluster {
                namespace: namespace.clone(),
                name: name.clone(),
                uid: uid.map(str::to_owned),
                dashboard: dashboard.map(str::to_owned),
                session: session.map(str::to_owned),
            };
        let dedicated = JobLocation::RayJob { namespace: namespace.clone(), name: name.clone(), pool: None };
        let pool = Some("p".to_owned());
        let on_pool = JobLocation::RayJob { namespace: namespace.clone(), name: name.clone(), pool };
        let leased = JobLocation::Leased { namespace: namespace.clone(), run_id: "r".to_owned() };
        for location in [
            dedicated,
            on_pool,
            leased,
            shared(None, None, None),
            shared(Some("u"), Some("http://d:8265"), Some("s")),
        ] {
            assert_eq!(JobLocation::from_reference(&location.reference("id", None)), Some(location));
        }
        for details in
            ["", "{}", r#"{"kind": "Pod", "namespace": "n", "name": "a"}"#, r#"{"kind": "RayJob"}"#]
        {
            let job = JobRef {
                submission_id: "id".to_owned(),
                dashboard_url: None,
                details: Some(details.to_owned()),
            };
            assert_eq!(JobLocation::from_reference(&job), None, "{details}");
        }
    }
}
