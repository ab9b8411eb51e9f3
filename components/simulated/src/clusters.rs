//! Simulated clusters: they have names, holders and a start time, but no processes.
//!
//! The options are those of the backend `kuberay`. `failure_tolerance_seconds` and both `ttl_seconds` have no
//! effect: only injected faults make a cluster fail, and neither clusters nor holders expire.

use std::collections::BTreeMap;

use dagster_ray_sdk::{
    Error,
    bindings::cluster::{
        ClusterInfo, ClusterRef, ClusterSpec, ClusterState, Creation, EndpointSet, Expirations, Expiry, Query,
    },
    clock::Clock,
    json,
    options::read_document,
    progress::ProgressListener,
    random,
    reconciler::{Leftover, Outcome, Reconciliation},
};
use dagster_ray_submission::{
    metadata,
    options::cluster::ClusterOptions,
    reconcile::facts::{Facts, Owner, Verdict},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    faults::Fault, head, keys::KeyValueStore, machine::Machine, records, selector, simulation::Simulation,
};

const PREFIX: &str = "cluster/";
const NAMESPACE: &str = "simulated";
const POLL_INTERVAL_MS: u64 = 1_000;
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

impl Record {
    /// Returns the Dagster deployment that owns the cluster, if any.
    fn deployment(&self) -> Option<&str> {
        self.labels.get(metadata::DEPLOYMENT).map(String::as_str)
    }
}

/// Implements the contract's interface `cluster`.
pub struct Clusters<K, M>(Simulation<K, M>);

impl<K: KeyValueStore, M: Machine> Clusters<K, M> {
    /// Creates the access to the clusters of a simulation.
    pub const fn new(simulation: Simulation<K, M>) -> Self {
        Self(simulation)
    }

    fn read(&self, name: &str) -> Result<Option<Record>, Error> {
        let Some(bytes) = self.0.keys().get(&format!("{PREFIX}{name}"))? else { return Ok(None) };
        records::read(&bytes).map(Some).map_err(|problem| {
            Error::Other(format!("the stored state of the cluster {name} is invalid: {problem}"))
        })
    }

    fn write(&self, name: &str, record: &Record) -> Result<(), Error> {
        let document = records::write(record).map_err(|error| {
            Error::Other(format!("the state of the cluster {name} cannot be stored: {error}"))
        })?;
        self.0.keys().set(&format!("{PREFIX}{name}"), document.as_bytes())
    }

    fn known(&self, cluster: &ClusterRef) -> Result<Record, Error> {
        let name = &cluster.name;
        self.read(name)?.ok_or_else(|| Error::NotFound(format!("there is no simulated cluster {name}")))
    }

    fn all(&self) -> Result<Vec<(String, Record)>, Error> {
        let mut found = Vec::new();
        for key in self.0.keys().keys_with_prefix(PREFIX)? {
            let name = key.strip_prefix(PREFIX).unwrap_or(&key).to_owned();
            if let Some(record) = self.read(&name)? {
                found.push((name, record));
            }
        }
        Ok(found)
    }

    /// Creates a cluster, or joins a shared one.
    pub fn create(&self, spec: &ClusterSpec) -> Result<Creation, Error> {
        let options = read_document(&spec.options, ClusterOptions::read)?;
        if options.ray_service.is_some() {
            return Err(Error::Unsupported("a simulated cluster serves no applications".to_owned()));
        }
        let shared = options.sharing.is_some();
        let sharing = options.sharing.unwrap_or_default();
        for (name, mut record) in self.all()? {
            if record.deployment().unwrap_or_default() != spec.owner.deployment {
                continue;
            }
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
        metadata::set_deployment(&mut labels, &spec.owner.deployment);
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
                && self.0.consume_fault(index, fault)?
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
        listener: &impl ProgressListener,
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
            self.0.sleep_ms(POLL_INTERVAL_MS);
        }
    }

    /// Returns one cluster.
    pub fn get(&self, cluster: &ClusterRef) -> Result<ClusterInfo, Error> {
        let record = self.known(cluster)?;
        Ok(self.information(&cluster.name, record))
    }

    /// Returns the clusters that match a query.
    pub fn list(&self, query: &Query) -> Result<Vec<ClusterInfo>, Error> {
        let selected = query.selector.as_deref().map(selector::requirements).transpose()?.unwrap_or_default();
        let found = self.all()?.into_iter().filter(|(_, record)| {
            query.namespace.as_ref().is_none_or(|namespace| *namespace == record.namespace)
                && query.labels.iter().all(|(label, value)| record.labels.get(label) == Some(value))
                && selected.iter().all(|requirement| requirement.is_met(&record.labels))
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
        self.0.keys().delete(&format!("{PREFIX}{}", cluster.name))?;
        Ok(there)
    }

    /// Returns the endpoints of a cluster.
    pub fn endpoints(&self, cluster: &ClusterRef) -> Result<EndpointSet, Error> {
        self.known(cluster).map(|_| endpoints())
    }

    /// Returns the clusters of a deployment that no live run owns and that are older than the rule's age, and
    /// the clusters that the deployment does not own.
    pub fn expired(&self, rule: &Expiry) -> Result<Expirations, Error> {
        let now_s = self.0.now_ms() / 1_000;
        let mut found = Expirations { expired: Vec::new(), not_owned: Vec::new() };
        for info in self.list(&rule.query)? {
            let Some(record) = self.read(&info.cluster.name)? else { continue };
            if !metadata::is_owned(record.deployment(), &rule.deployment) {
                found.not_owned.push(info);
            } else if !rule.live_runs.contains(&record.run_id)
                && now_s.saturating_sub(info.created_at) >= rule.older_than_s
            {
                found.expired.push(info);
            }
        }
        Ok(found)
    }

    /// Deletes the clusters of a deployment whose run, or whose holders' runs, are over.
    pub fn reconcile(&self, rule: &Reconciliation) -> Result<Vec<Leftover>, Error> {
        let facts = Facts::new(rule, self.0.now_ms() / 1_000, []);
        let mut leftovers = Vec::new();
        for (name, record) in self.all()? {
            let owner = Owner {
                deployment: record.deployment().map(str::to_owned),
                is_owned: metadata::is_owned(record.deployment(), &rule.deployment),
                run_id: Some(record.run_id.clone()).filter(|run_id| !run_id.is_empty()),
                step_key: record.labels.get(metadata::STEP).cloned(),
                attempt: metadata::attempt(&record.labels),
                created_s: Some(record.created_ms / 1_000),
                ..Owner::default()
            };
            let mut verdict = facts.judge(&owner);
            if owner.is_owned && record.labels.contains_key(metadata::KEEP) {
                verdict = Verdict::Keep;
            } else if owner.is_owned && record.shared {
                verdict = match record.holders.iter().map(|holder| facts.holder_is_over(holder)).collect() {
                    Some::<Vec<String>>(reasons) if record.delete_when_released && !reasons.is_empty() => {
                        Verdict::Over("the runs of its holders are over".to_owned())
                    }
                    _ => Verdict::Keep,
                };
            }
            let (Verdict::Over(reason) | Verdict::NotOwned(reason)) = verdict else { continue };
            let mut leftover = owner.leftover("RayCluster", Some(&record.namespace), &name, reason);
            if leftover.outcome == Outcome::WouldRemove && !rule.dry_run {
                self.delete(&reference(&name, &record))?;
                leftover.outcome = Outcome::Removed;
            }
            leftovers.push(leftover);
        }
        Ok(leftovers)
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
            job: None,
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
