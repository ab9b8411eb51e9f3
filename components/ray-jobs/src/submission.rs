//! The document that submits a job.

use std::collections::BTreeMap;

use dagster_ray_sdk::json::{Map, Value};

/// The body of `POST /api/jobs/`. A field that is `None` is omitted, so that older versions of Ray accept
/// the body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Submission {
    /// The shell command line.
    pub entrypoint: String,
    /// The submission id.
    pub submission_id: String,
    /// The runtime environment, a JSON object. [`crate::RayJobs::prepare_runtime_env`] must have replaced
    /// its local directories.
    pub runtime_env: Value,
    /// The metadata of the job.
    pub metadata: BTreeMap<String, String>,
    /// CPUs that the entrypoint reserves.
    pub entrypoint_num_cpus: Option<f64>,
    /// GPUs that the entrypoint reserves.
    pub entrypoint_num_gpus: Option<f64>,
    /// Bytes of memory that the entrypoint reserves.
    pub entrypoint_memory: Option<u64>,
    /// Custom resources that the entrypoint reserves.
    pub entrypoint_resources: Option<Map<String, Value>>,
    /// Labels that the entrypoint's node must have. Requires Ray 2.49 or later.
    pub entrypoint_label_selector: Option<BTreeMap<String, String>>,
}

impl Submission {
    /// Returns the JSON body.
    #[must_use]
    pub fn document(&self) -> Value {
        let texts = |all: &BTreeMap<String, String>| {
            let mut object = Map::new();
            object.extend(all.iter().map(|(name, text)| (name.clone(), text.as_str().into())));
            Value::from(object)
        };
        let fields = [
            ("entrypoint", Some(self.entrypoint.as_str().into())),
            ("submission_id", Some(self.submission_id.as_str().into())),
            ("runtime_env", Some(self.runtime_env.clone())),
            ("metadata", Some(texts(&self.metadata))),
            ("entrypoint_num_cpus", self.entrypoint_num_cpus.map(Value::from)),
            ("entrypoint_num_gpus", self.entrypoint_num_gpus.map(Value::from)),
            ("entrypoint_memory", self.entrypoint_memory.map(Value::from)),
            ("entrypoint_resources", self.entrypoint_resources.clone().map(Value::from)),
            ("entrypoint_label_selector", self.entrypoint_label_selector.as_ref().map(texts)),
        ];
        let mut document = Map::new();
        for (name, value) in fields {
            if let Some(value) = value {
                document.insert(name.to_owned(), value);
            }
        }
        document.into()
    }
}
