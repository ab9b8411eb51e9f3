//! Runs, steps and scripts as RayJobs.

pub mod manifest;
pub mod place;
pub mod status;
pub mod stop;

use dagster_ray_sdk::{json, model::JobRef};
use serde_json::{Value, json};

use crate::kubernetes::{RAY_CLUSTER, RAY_JOB, object};

/// What a reference carries for this component alone: where the job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A RayJob, which has a cluster of its own.
    RayJob {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A Ray job on a cluster that others use too.
    RayCluster {
        /// The cluster's namespace.
        namespace: String,
        /// The cluster's name.
        name: String,
        /// The cluster's uid, once it is known.
        uid: Option<String>,
        /// The cluster's dashboard, once it is known.
        dashboard: Option<String>,
    },
}

impl Place {
    /// A reference to a job in this place.
    #[must_use]
    pub fn reference(&self, submission_id: &str, dashboard_url: Option<String>) -> JobRef {
        JobRef { submission_id: submission_id.to_owned(), dashboard_url, details: Some(self.text()) }
    }

    /// The place as JSON.
    #[must_use]
    pub fn text(&self) -> String {
        json::text(&match self {
            Self::RayJob { namespace, name } => {
                json!({"kind": RAY_JOB.kind, "namespace": namespace, "name": name})
            }
            Self::RayCluster { namespace, name, uid, dashboard } => {
                let mut place = json!({"kind": RAY_CLUSTER.kind, "namespace": namespace, "name": name});
                for (field, value) in [("uid", uid), ("dashboard", dashboard)] {
                    if let Some(value) = value {
                        place[field] = value.as_str().into();
                    }
                }
                place
            }
        })
    }

    /// The place that a reference names.
    #[must_use]
    pub fn of(job: &JobRef) -> Option<Self> {
        let place: Value = json::parse(job.details.as_deref()?.as_bytes()).ok()?;
        let part = |pointer: &str| object::text(&place, pointer).map(str::to_owned);
        let (kind, namespace, name) = (part("/kind")?, part("/namespace")?, part("/name")?);
        if kind == RAY_JOB.kind {
            Some(Self::RayJob { namespace, name })
        } else if kind == RAY_CLUSTER.kind {
            Some(Self::RayCluster { namespace, name, uid: part("/uid"), dashboard: part("/dashboard") })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_leads_back_to_its_place() {
        let (namespace, name) = ("n".to_owned(), "a".to_owned());
        let shared = |uid: Option<&str>, dashboard: Option<&str>| Place::RayCluster {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: uid.map(str::to_owned),
            dashboard: dashboard.map(str::to_owned),
        };
        let own = Place::RayJob { namespace: namespace.clone(), name: name.clone() };
        for place in [own, shared(None, None), shared(Some("u"), Some("http://d:8265"))] {
            assert_eq!(Place::of(&place.reference("id", None)), Some(place));
        }
        for details in
            ["", "{}", r#"{"kind": "Pod", "namespace": "n", "name": "a"}"#, r#"{"kind": "RayJob"}"#]
        {
            let job = JobRef {
                submission_id: "id".to_owned(),
                dashboard_url: None,
                details: Some(details.to_owned()),
            };
            assert_eq!(Place::of(&job), None, "{details}");
        }
    }
}
