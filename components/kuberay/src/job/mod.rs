//! Runs, steps and scripts as RayJobs.

pub mod manifest;
pub mod place;
pub mod status;
pub mod stop;

use dagster_ray_sdk::model::JobRef;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What a reference carries for this component alone: where the job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
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
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<String>,
        /// The cluster's dashboard, once it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dashboard: Option<String>,
    },
}

impl Place {
    /// A reference to a job in this place.
    #[must_use]
    pub fn reference(&self, submission_id: &str, dashboard_url: Option<String>) -> JobRef {
        JobRef {
            submission_id: submission_id.to_owned(),
            dashboard_url,
            details: Some(json!(self).to_string()),
        }
    }

    /// The place that a reference names.
    #[must_use]
    pub fn of(job: &JobRef) -> Option<Self> {
        serde_json::from_str(job.details.as_deref()?).ok()
    }
}
