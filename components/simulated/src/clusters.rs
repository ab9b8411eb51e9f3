//! Simulated clusters: names, holders and the time they take, and nothing behind them.

use std::collections::BTreeMap;

use dagster_ray_sdk::{Error, clock::Clock, random, sink::Listener};
use dagster_ray_submission::options::fields;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    bindings::cluster::{
        ClusterInfo, ClusterRef, ClusterSpec, ClusterState, Creation, EndpointSet, Expiry, Query,
    },
    faults::Fault,
    head,
    keys::Keys,
    machine::Machine,
    simulation::Simulation,
};

const BELOW: &str = "cluster/";
const NAMESPACE: &str = "simulated";
const LOOK_MS: u64 = 1_000;
/// Where the parts of a cluster would be reached.
const HOST: &str = "ray.simulated";

/// What is known of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    namespace: String,
    run_id: String,
    owner: String,
    labels: BTreeMap<String, String>,
    shared: bool,
    delete_when_released: bool,
    holders: Vec<String>,
    created_ms: u64,
    /// When it is ready, on the simulation's clock; never, where there is nothing.
    ready_ms: Option<u64>,
    document: Value,
}

/// What can be asked of a cluster: the options of the backend `kuberay`, by its names.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    /// The namespace that the cluster is said to be in, unless the manifest names one.
    namespace: Option<String>,
    /// The RayCluster, of which the metadata counts here.
    ray_cluster: Option<Map<String, Value>>,
    /// A RayJob in its place.
    ray_job: Option<Map<String, Value>>,
    /// Whether others may use it too.
    sharing: Option<Sharing>,
    /// No cluster fails here but by a scripted fault.
    #[serde(rename = "failure_tolerance_seconds")]
    _failure_tolerance_seconds: f64,
    /// No cluster outlives its test.
    #[serde(rename = "ttl_seconds")]
    _ttl_seconds: Option<u64>,
}

/// How a cluster is shared.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Sharing {
    /// The labels that a cluster must have to be joined. A new one gets them.
    match_labels: BTreeMap<String, String>,
    /// No holder is forgotten here.
    #[serde(rename = "ttl_seconds")]
    _ttl_seconds: u64,
    /// Whether the cluster is removed when its last holder lets go.
    delete_when_released: bool,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { match_labels: BTreeMap::new(), _ttl_seconds: 0, delete_when_released: true }
    }
}

/// The JSON schema of the options of a cluster.
#[must_use]
pub fn schema() -> String {
    fields::schema::<Asked>()
}

/// The contract's clusters.
pub struct Clusters<K, M>(Simulation<K, M>);

impl<K: Keys, M: Machine> Clusters<K, M> {
    /// The clusters of a simulation.
    pub const fn new(simulation: Simulation<K, M>) -> Self {
        Self(simulation)
    }

    fn read(&self, name: &str) -> Result<Option<Record>, Error> {
        let Some(bytes) = self.0.keys().get(&format!("{BELOW}{name}"))? else { return Ok(None) };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::Other(format!("what is kept of the cluster {name} is broken: {error}")))
    }

    fn write(&self, name: &str, record: &Record) -> Result<(), Error> {
        let document = serde_json::to_vec(record)
            .map_err(|error| Error::Other(format!("the cluster {name} cannot be kept: {error}")))?;
        self.0.keys().set(&format!("{BELOW}{name}"), &document)
    }

    fn known(&self, cluster: &ClusterRef) -> Result<Record, Error> {
        let name = &cluster.name;
        self.read(name)?.ok_or_else(|| Error::NotFound(format!("there is no simulated cluster {name}")))
    }

    fn all(&self) -> Result<Vec<(String, Record)>, Error> {
        let mut found = Vec::new();
        for key in self.0.keys().below(BELOW)? {
            let name = key.strip_prefix(BELOW).unwrap_or(&key).to_owned();
            if let Some(record) = self.read(&name)? {
                found.push((name, record));
            }
        }
        Ok(found)
    }

    /// Makes a cluster, or joins one.
    pub fn create(&self, spec: &ClusterSpec) -> Result<Creation, Error> {
        let asked: Asked = fields::document(&spec.options)?;
        let shared = asked.sharing.is_some();
        let sharing = asked.sharing.unwrap_or_default();
        for (name, mut record) in self.all()? {
            if record.owner == spec.owner.holder {
                return Ok(Creation::Created(reference(&name, &record)));
            }
            let fits = |(label, value): (&String, &String)| record.labels.get(label) == Some(value);
            if shared && record.shared && sharing.match_labels.iter().all(fits) {
                record.holders.push(spec.owner.holder.clone());
                self.write(&name, &record)?;
                return Ok(Creation::Joined(reference(&name, &record)));
            }
        }
        let manifest = Value::from(asked.ray_cluster.or(asked.ray_job).unwrap_or_default());
        let metadata = &manifest["metadata"];
        let name = spec.name.clone().or_else(|| metadata["name"].as_str().map(str::to_owned));
        let name = name.unwrap_or_else(|| format!("simulated-{}", random::hex(4)));
        let now = self.0.now_ms();
        let namespace = metadata["namespace"].as_str().map(str::to_owned).or(asked.namespace);
        let namespace = namespace.unwrap_or_else(|| NAMESPACE.to_owned());
        let mut labels: BTreeMap<String, String> = spec.labels.iter().cloned().collect();
        labels.extend(sharing.match_labels);
        let record = Record {
            document: json!({
                "metadata": {"name": name, "namespace": namespace, "labels": labels},
                "spec": manifest["spec"],
                "status": {"state": "ready", "rayClusterName": name},
            }),
            namespace,
            run_id: spec.owner.run_id.clone(),
            owner: spec.owner.holder.clone(),
            labels,
            shared,
            delete_when_released: sharing.delete_when_released,
            holders: vec![spec.owner.holder.clone()],
            created_ms: now,
            ready_ms: self.ready_at(now)?,
        };
        self.write(&name, &record)?;
        Ok(Creation::Created(reference(&name, &record)))
    }

    fn ready_at(&self, now: u64) -> Result<Option<u64>, Error> {
        for (place, fault) in self.0.faults() {
            if let Fault::ClusterStarts { seconds, .. } = fault
                && self.0.strikes(place, fault)?
            {
                return Ok(seconds.map(|seconds| now.saturating_add((seconds.max(0.0) * 1_000.0) as u64)));
            }
        }
        Ok(Some(now))
    }

    /// Waits until a cluster can be used.
    pub fn wait(
        &self,
        cluster: &ClusterRef,
        timeout_ms: u64,
        listener: &impl Listener,
    ) -> Result<EndpointSet, Error> {
        let started = self.0.now_ms();
        loop {
            if listener.cancelled() {
                return Err(Error::Cancelled);
            }
            let record = self.known(cluster)?;
            let now = self.0.now_ms();
            if record.ready_ms.is_some_and(|ready| ready <= now) {
                return Ok(endpoints());
            }
            if now.saturating_sub(started) >= timeout_ms {
                listener.progress(&format!(
                    "the simulated cluster {} is not ready after {} s of the simulation's clock",
                    cluster.name,
                    timeout_ms / 1_000
                ));
                return Err(Error::Timeout(timeout_ms));
            }
            self.0.sleep_ms(LOOK_MS);
        }
    }

    /// Looks at one cluster.
    pub fn get(&self, cluster: &ClusterRef) -> Result<ClusterInfo, Error> {
        let record = self.known(cluster)?;
        Ok(self.information(&cluster.name, record))
    }

    /// Looks at those that a query is about.
    pub fn list(&self, query: &Query) -> Result<Vec<ClusterInfo>, Error> {
        let found = self.all()?.into_iter().filter(|(_, record)| {
            query.namespace.as_ref().is_none_or(|namespace| *namespace == record.namespace)
                && query.labels.iter().all(|(label, value)| record.labels.get(label) == Some(value))
        });
        Ok(found.map(|(name, record)| self.information(&name, record)).collect())
    }

    /// Changes a cluster's document by a merge patch.
    pub fn update(&self, cluster: &ClusterRef, patch: &str) -> Result<ClusterInfo, Error> {
        let mut record = self.known(cluster)?;
        let patch: Value = serde_json::from_str(patch)
            .map_err(|error| Error::invalid("patch", &format!("is not JSON: {error}"), None))?;
        if !patch.is_object() {
            return Err(Error::Unsupported("the simulation takes merge patches (RFC 7386) only".to_owned()));
        }
        merge(&mut record.document, &patch);
        self.write(&cluster.name, &record)?;
        Ok(self.information(&cluster.name, record))
    }

    /// Says that a holder still uses a cluster.
    pub fn renew(&self, cluster: &ClusterRef, holder: &str) -> Result<(), Error> {
        let mut record = self.known(cluster)?;
        if !record.holders.iter().any(|known| known == holder) {
            record.holders.push(holder.to_owned());
            self.write(&cluster.name, &record)?;
        }
        Ok(())
    }

    /// Says that a holder is done with it. Returns whether the cluster was removed.
    pub fn release(&self, cluster: &ClusterRef, holder: &str) -> Result<bool, Error> {
        let Some(mut record) = self.read(&cluster.name)? else { return Ok(false) };
        record.holders.retain(|known| known != holder);
        if record.holders.is_empty() && record.delete_when_released {
            return self.delete(cluster);
        }
        self.write(&cluster.name, &record)?;
        Ok(false)
    }

    /// Removes a cluster. Returns whether it was there.
    pub fn delete(&self, cluster: &ClusterRef) -> Result<bool, Error> {
        let there = self.read(&cluster.name)?.is_some();
        self.0.keys().delete(&format!("{BELOW}{}", cluster.name))?;
        Ok(there)
    }

    /// Where a cluster is reached.
    pub fn endpoints(&self, cluster: &ClusterRef) -> Result<EndpointSet, Error> {
        self.known(cluster).map(|_| endpoints())
    }

    /// Those that nobody needs any more.
    pub fn expired(&self, rule: &Expiry) -> Result<Vec<ClusterInfo>, Error> {
        let now_s = self.0.now_ms() / 1_000;
        let mut found = self.list(&rule.query)?;
        found.retain(|info| {
            let run = self.read(&info.cluster.name).ok().flatten().map(|record| record.run_id);
            !run.is_some_and(|run| rule.live_runs.contains(&run))
                && now_s.saturating_sub(info.created_at) >= rule.older_than_s
        });
        Ok(found)
    }

    fn information(&self, name: &str, record: Record) -> ClusterInfo {
        let ready = record.ready_ms.is_some_and(|ready| ready <= self.0.now_ms());
        ClusterInfo {
            cluster: reference(name, &record),
            state: if ready { ClusterState::Ready } else { ClusterState::Starting },
            reason: None,
            labels: record.labels.into_iter().collect(),
            created_at: record.created_ms / 1_000,
            holders: record.holders,
            document: record.document.to_string(),
        }
    }
}

fn reference(name: &str, record: &Record) -> ClusterRef {
    let namespace = Some(record.namespace.clone());
    ClusterRef { name: name.to_owned(), namespace, uid: None, details: None }
}

fn endpoints() -> EndpointSet {
    EndpointSet {
        host: HOST.to_owned(),
        dashboard_url: head::ADDRESS.to_owned(),
        client_address: None,
        gcs_address: None,
    }
}

/// RFC 7386.
fn merge(document: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        document.clone_from(patch);
        return;
    };
    if !document.is_object() {
        *document = Map::new().into();
    }
    if let Value::Object(fields) = document {
        for (key, change) in changes {
            if change.is_null() {
                fields.remove(key);
            } else {
                merge(fields.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
    }
}
