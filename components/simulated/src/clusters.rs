//! Simulated clusters: they have names, holders and a start time, but no processes.

use std::collections::BTreeMap;

use dagster_ray_sdk::{Error, clock::Clock, json, random, sink::Listener};
use dagster_ray_submission::options::reader::{self, Reader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    bindings::cluster::{
        ClusterInfo, ClusterRef, ClusterSpec, ClusterState, Creation, EndpointSet, Expiry, Query,
    },
    faults::Fault,
    head, kept,
    keys::Keys,
    machine::Machine,
    simulation::Simulation,
};

const BELOW: &str = "cluster/";
const NAMESPACE: &str = "simulated";
const LOOK_MS: u64 = 1_000;
/// The host in the endpoints of a cluster. Nothing listens there.
const HOST: &str = "ray.simulated";

/// The stored state of a cluster.
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
    /// When the cluster is ready, in milliseconds of the simulation's clock. `None` means never.
    ready_ms: Option<u64>,
    document: Value,
}

/// The options of a cluster, with the names of the backend `kuberay`.
#[derive(Debug, Default, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
struct Options {
    /// The namespace that the cluster reports, unless the manifest names one.
    namespace: Option<String>,
    /// The RayCluster manifest. Its metadata is used; its spec is only reported back.
    ray_cluster: Option<Map<String, Value>>,
    /// A RayJob manifest instead of a RayCluster.
    ray_job: Option<Map<String, Value>>,
    /// How the cluster is shared. `null` makes a dedicated cluster.
    sharing: Option<Sharing>,
    /// Ignored: in a simulation, only injected faults make a cluster fail.
    #[schemars(rename = "failure_tolerance_seconds")]
    _failure_tolerance_seconds: f64,
    /// Ignored: in a simulation, clusters do not expire.
    #[schemars(rename = "ttl_seconds")]
    _ttl_seconds: Option<u64>,
}

/// How a cluster is shared.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, default)]
struct Sharing {
    /// The labels that a cluster must have to be joined. A new cluster gets these labels.
    match_labels: BTreeMap<String, String>,
    /// Ignored: in a simulation, holders do not expire.
    #[schemars(rename = "ttl_seconds")]
    _ttl_seconds: u64,
    /// Whether the cluster is deleted when its last holder releases it.
    delete_when_released: bool,
}

impl Default for Sharing {
    fn default() -> Self {
        Self { match_labels: BTreeMap::new(), _ttl_seconds: 0, delete_when_released: true }
    }
}

const SHARING_KEYS: [&str; 3] = ["match_labels", "ttl_seconds", "delete_when_released"];
const KEYS: [&str; 6] =
    ["namespace", "ray_cluster", "ray_job", "sharing", "failure_tolerance_seconds", "ttl_seconds"];
const SECONDS: &str = "write a number of seconds, such as 1800";

impl Options {
    fn read(fields: &Map<String, Value>, prefix: &str, reader: &mut Reader) -> Self {
        let mut options = Self::default();
        let manifest = "write an object with `metadata` and `spec`";
        for (key, value) in fields {
            let path = format!("{prefix}{key}");
            match key.as_str() {
                _ if value.is_null() && KEYS.contains(&key.as_str()) => {}
                "namespace" => options.namespace = reader.text(&path, value),
                "ray_cluster" => options.ray_cluster = reader.object(&path, value, manifest).cloned(),
                "ray_job" => options.ray_job = reader.object(&path, value, manifest).cloned(),
                "sharing" => options.sharing = Some(Sharing::read(&path, value, reader)),
                "failure_tolerance_seconds" => {
                    options._failure_tolerance_seconds = reader.quantity(&path, value).unwrap_or_default();
                }
                "ttl_seconds" => options._ttl_seconds = reader.whole(&path, value, SECONDS),
                _ => reader.unknown(&path, &KEYS),
            }
        }
        options
    }
}

impl Sharing {
    fn read(path: &str, value: &Value, reader: &mut Reader) -> Self {
        let mut sharing = Self::default();
        let hint = "write an object; {} uses every default";
        for (key, value) in reader.object(path, value, hint).into_iter().flatten() {
            let path = format!("{path}.{key}");
            match key.as_str() {
                "match_labels" => sharing.match_labels = reader.texts(&path, value),
                "ttl_seconds" => {
                    sharing._ttl_seconds = reader.whole(&path, value, SECONDS).unwrap_or_default();
                }
                "delete_when_released" => {
                    sharing.delete_when_released = reader.flag(&path, value).unwrap_or_default();
                }
                _ => reader.unknown(&path, &SHARING_KEYS),
            }
        }
        sharing
    }
}

/// The JSON schema of the options of a cluster. A test generates it.
pub const SCHEMA: &str = include_str!("../schemas/cluster.json");

/// Implements the contract's interface `cluster`.
pub struct Clusters<K, M>(Simulation<K, M>);

impl<K: Keys, M: Machine> Clusters<K, M> {
    /// Creates the access to the clusters of a simulation.
    pub const fn new(simulation: Simulation<K, M>) -> Self {
        Self(simulation)
    }

    fn read(&self, name: &str) -> Result<Option<Record>, Error> {
        let Some(bytes) = self.0.keys().get(&format!("{BELOW}{name}"))? else { return Ok(None) };
        kept::read(&bytes).map(Some).map_err(|problem| {
            Error::Other(format!("the stored state of the cluster {name} is invalid: {problem}"))
        })
    }

    fn write(&self, name: &str, record: &Record) -> Result<(), Error> {
        let document = kept::write(record).map_err(|error| {
            Error::Other(format!("the state of the cluster {name} cannot be stored: {error}"))
        })?;
        self.0.keys().set(&format!("{BELOW}{name}"), document.as_bytes())
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

    /// Creates a cluster, or joins a shared one.
    pub fn create(&self, spec: &ClusterSpec) -> Result<Creation, Error> {
        let options = reader::document(&spec.options, Options::read)?;
        let shared = options.sharing.is_some();
        let sharing = options.sharing.unwrap_or_default();
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
        let manifest = Value::from(options.ray_cluster.or(options.ray_job).unwrap_or_default());
        let metadata = &manifest["metadata"];
        let name = spec.name.clone().or_else(|| metadata["name"].as_str().map(str::to_owned));
        let name = name.unwrap_or_else(|| format!("simulated-{}", random::hex(4)));
        let now = self.0.now_ms();
        let namespace = metadata["namespace"].as_str().map(str::to_owned).or(options.namespace);
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
        for (index, fault) in self.0.faults() {
            if let Fault::ClusterStarts { seconds, .. } = fault
                && self.0.strikes(index, fault)?
            {
                return Ok(seconds.map(|seconds| now.saturating_add((seconds.max(0.0) * 1_000.0) as u64)));
            }
        }
        Ok(Some(now))
    }

    /// Waits until a cluster is ready.
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

    /// Returns one cluster.
    pub fn get(&self, cluster: &ClusterRef) -> Result<ClusterInfo, Error> {
        let record = self.known(cluster)?;
        Ok(self.information(&cluster.name, record))
    }

    /// Returns the clusters that match a query.
    pub fn list(&self, query: &Query) -> Result<Vec<ClusterInfo>, Error> {
        let found = self.all()?.into_iter().filter(|(_, record)| {
            query.namespace.as_ref().is_none_or(|namespace| *namespace == record.namespace)
                && query.labels.iter().all(|(label, value)| record.labels.get(label) == Some(value))
        });
        Ok(found.map(|(name, record)| self.information(&name, record)).collect())
    }

    /// Applies a JSON merge patch to a cluster's document.
    pub fn update(&self, cluster: &ClusterRef, patch: &str) -> Result<ClusterInfo, Error> {
        let mut record = self.known(cluster)?;
        let patch = json::parse(patch.as_bytes()).map_err(|error| {
            Error::invalid("patch", &format!("is not JSON: {error}"), Some("write a JSON merge patch"))
        })?;
        if !patch.is_object() {
            return Err(Error::Unsupported(
                "the simulation supports only JSON merge patches (RFC 7386)".to_owned(),
            ));
        }
        merge(&mut record.document, &patch);
        self.write(&cluster.name, &record)?;
        Ok(self.information(&cluster.name, record))
    }

    /// Records that a holder uses a cluster.
    pub fn renew(&self, cluster: &ClusterRef, holder: &str) -> Result<(), Error> {
        let mut record = self.known(cluster)?;
        if !record.holders.iter().any(|known| known == holder) {
            record.holders.push(holder.to_owned());
            self.write(&cluster.name, &record)?;
        }
        Ok(())
    }

    /// Removes a holder of a cluster. Returns whether the cluster was deleted, as it had no other holder.
    pub fn release(&self, cluster: &ClusterRef, holder: &str) -> Result<bool, Error> {
        let Some(mut record) = self.read(&cluster.name)? else { return Ok(false) };
        record.holders.retain(|known| known != holder);
        if record.holders.is_empty() && record.delete_when_released {
            return self.delete(cluster);
        }
        self.write(&cluster.name, &record)?;
        Ok(false)
    }

    /// Deletes a cluster. Returns whether it existed.
    pub fn delete(&self, cluster: &ClusterRef) -> Result<bool, Error> {
        let there = self.read(&cluster.name)?.is_some();
        self.0.keys().delete(&format!("{BELOW}{}", cluster.name))?;
        Ok(there)
    }

    /// Returns the endpoints of a cluster.
    pub fn endpoints(&self, cluster: &ClusterRef) -> Result<EndpointSet, Error> {
        self.known(cluster).map(|_| endpoints())
    }

    /// Returns the clusters that no live run owns and that are older than the rule's age.
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
            document: json::text(&record.document),
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

/// Applies a JSON merge patch (RFC 7386).
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

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::testing::assert_generated;
    use dagster_ray_submission::options::generate_schema;

    use super::*;

    #[test]
    fn schema_is_up_to_date() {
        let schema = generate_schema::<Options>().to_string();
        assert_generated(env!("CARGO_MANIFEST_DIR"), "schemas/cluster.json", &schema);
    }
}
