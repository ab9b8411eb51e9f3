//! Pools of clusters that stay ready between runs: `cluster: pool`.
//!
//! There is no leader election. A run leases a cluster by a patch that requires the cluster's resource version, and
//! the API server accepts one of several. Processes that see the same pool give a new cluster the same name, and the
//! API server creates one.
//!
//! - [`options`], [`lease`]: what the annotations of a cluster say.
//! - [`member`]: the decisions about a cluster of a pool, without requests.
//! - [`acquire`]: leases a cluster, or creates one.
//! - [`release`]: ends leases, and stops what a run left on its cluster.
//! - [`upkeep`]: refills a pool and deletes what it does not need.
//! - [`reconcile`]: the same from Dagster's record of its runs.

pub mod acquire;
pub mod clean;
pub mod lease;
pub mod member;
pub mod options;
pub mod reconcile;
pub mod release;
#[cfg(test)]
mod tests;
pub mod upkeep;

use dagster_ray_sdk::{
    Error,
    bindings::cluster::{ClusterSpec, Owner},
    clock::Clock,
    http::Http,
    json::{self, Value},
};
use dagster_ray_submission::ids;
use serde_json::json;

use self::{lease::Lease, member::Member, options::PoolOptions};
use crate::{
    cluster::Clusters,
    kubernetes::{
        CreateOutcome, DeleteOutcome, LONG_FIELDS, Precondition, RAY_CLUSTER, RAY_JOB, Selection, object,
    },
    labels,
    manifest::Template,
    options::{ClusterOptions, JobOptions},
};

/// The characters of a pool's id in the names of its clusters.
const SHOWN_ID: usize = 8;
/// The seconds for which processes that see the same clusters give a new one the same name.
const NAME_PERIOD_S: u64 = 60;
/// The fields of RayJobs that are dropped while parsing. `managedFields` has the time of the last change.
const SKIPPED_OF_JOBS: [&str; 1] = ["rayClusterSpec"];

/// A pool: clusters that are alike, of one deployment, in one namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// The pool's id: [`Pool::alike`], and a digest of the key if it has one.
    pub id: String,
    /// A digest of what the clusters have in common, without the key.
    pub alike: String,
    /// The namespace of the clusters.
    pub namespace: String,
    /// The id of the Dagster deployment that owns them.
    pub deployment: String,
    /// The options.
    pub options: PoolOptions,
    /// The manifest of a new cluster, without its name and its lease.
    document: Value,
}

/// The clusters of a pool at one time.
pub struct Seen {
    /// The clusters that are not being deleted.
    pub members: Vec<Member>,
    /// The uids of all clusters, also of those that are being deleted.
    uids: Vec<String>,
    /// The API server's time, in seconds since the Unix epoch.
    pub now_s: u64,
}

/// The clusters of pools, on an API server.
pub struct Pools<'c, H, C> {
    clusters: &'c Clusters<H, C>,
}

impl<'c, H: Http, C: Clock> Pools<'c, H, C> {
    /// Creates an instance on the API server of these clusters.
    pub fn new(clusters: &'c Clusters<H, C>) -> Self {
        Self { clusters }
    }

    /// Returns the pool whose clusters are those that a run or step with these options needs. Makes no request.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if the manifest is not valid, or the deployment is not known.
    pub fn pool(&self, deployment: &str, options: &JobOptions) -> Result<Pool, Error> {
        if labels::value(deployment).is_empty() {
            return Err(Error::invalid(
                "cluster",
                "is `pool`, and the caller names no Dagster deployment that owns the pool",
                Some("write `own` or `shared`"),
            ));
        }
        let template = Template::read(options.ray_job.clone(), RAY_JOB, "ray_job")?;
        if template.spec.get("clusterSelector").is_some_and(|selector| !selector.is_null()) {
            return Err(Error::invalid(
                "ray_job.spec.clusterSelector",
                "is set together with `cluster: pool`, which selects the cluster",
                Some("remove it, or write `cluster: own`"),
            ));
        }
        let namespace = template
            .namespace()
            .or(options.namespace.as_deref())
            .unwrap_or(&self.clusters.namespace)
            .to_owned();
        let spec = ClusterSpec {
            name: None,
            owner: Owner {
                deployment: deployment.to_owned(),
                run_id: String::new(),
                step_key: None,
                resource_key: None,
                holder: String::new(),
            },
            image: options.image.clone(),
            labels: vec![(labels::ROLE.to_owned(), labels::ROLE_POOL.to_owned())],
            env: Vec::new(),
            options: json::text(&json!({"namespace": namespace, "ray_cluster": template.ray_cluster()})),
        };
        let read = crate::options::read_document(&spec.options, ClusterOptions::read)?;
        let mut document = self.clusters.plan(&spec, read)?.document;
        let pool = options.pool.clone().unwrap_or_default();
        let alike = json!([
            labels::value(deployment),
            namespace,
            document.pointer("/metadata/labels"),
            document.pointer("/metadata/annotations"),
            document.get("spec"),
        ]);
        let alike = ids::digest(&json::text(&alike));
        let id = match &pool.key {
            Some(key) => format!("{alike}-{}", ids::digest(key)),
            None => alike.clone(),
        };
        document["metadata"]["labels"][labels::POOL] = id.as_str().into();
        Ok(Pool { id, alike, namespace, deployment: deployment.to_owned(), options: pool, document })
    }

    /// Returns the clusters of a pool, and the leases' standing by the RayJobs of their runs. Sends two requests.
    pub(crate) fn see(&self, pool: &Pool) -> Result<Seen, Error> {
        let kubernetes = &self.clusters.kubernetes;
        let deployment = labels::value(&pool.deployment);
        let selector = format!("{}={},{}={deployment}", labels::POOL, pool.id, labels::DEPLOYMENT_ID);
        let which = Selection::Labels(selector);
        let jobs = kubernetes.list(RAY_JOB, &pool.namespace, &which, &SKIPPED_OF_JOBS)?;
        let jobs: Vec<Value> = object::elements(&jobs, "/items").cloned().collect();
        let listed = kubernetes.list(RAY_CLUSTER, &pool.namespace, &which, &LONG_FIELDS)?;
        let now_s = kubernetes.now_s()?;
        let all = || object::elements(&listed, "/items");
        let uids = all().map(|document| object::uid(document).to_owned()).collect();
        let members = all()
            .filter(|document| !object::is_deleting(document) && !object::is_owned(document))
            .map(|document| Member::read(document.clone(), &jobs, now_s))
            .collect();
        Ok(Seen { members, uids, now_s })
    }

    /// Creates a cluster of a pool, with a lease if one is given. Returns `None` if another process that saw the same
    /// clusters has created one.
    fn create(&self, pool: &Pool, seen: &Seen, lease: Option<&Lease>) -> Result<Option<Member>, Error> {
        let mut uids: Vec<&str> = seen.uids.iter().map(String::as_str).collect();
        uids.sort_unstable();
        let state = json!([pool.id, uids, seen.now_s / NAME_PERIOD_S]);
        let shown = &pool.id[..SHOWN_ID.min(pool.id.len())];
        let name = format!("dg-pool-{shown}-{}", ids::digest(&json::text(&state)));
        let mut document = pool.document.clone();
        document["metadata"]["name"] = name.into();
        let mut notes = vec![pool.options.annotation()];
        if let Some(lease) = lease {
            notes.push(lease.annotation());
            document["metadata"]["labels"][labels::POOL_RUN] = labels::value(&lease.run_id).into();
        }
        for (key, value) in notes {
            document["metadata"]["annotations"][key] = value;
        }
        match self.clusters.kubernetes.create(RAY_CLUSTER, &pool.namespace, &document)? {
            CreateOutcome::Created(made) => Ok(Some(Member::read(made, &[], seen.now_s))),
            CreateOutcome::Exists(_) => Ok(None),
        }
    }

    /// Writes a lease, if the cluster has not changed since it was read. Returns `None` if it has.
    fn write(&self, cluster: &Value, lease: &Lease, options: &PoolOptions) -> Result<Option<Value>, Error> {
        let run = lease.released_s.is_none().then(|| labels::value(&lease.run_id));
        let mut patch = json!({"metadata": {
            "uid": object::uid(cluster),
            "resourceVersion": object::resource_version(cluster),
            "labels": {labels::POOL_RUN: run},
        }});
        for (key, value) in [lease.annotation(), options.annotation()] {
            patch["metadata"]["annotations"][key] = value;
        }
        let (namespace, name) = (object::namespace(cluster), object::name(cluster));
        match self.clusters.kubernetes.patch(RAY_CLUSTER, namespace, name, &patch) {
            Ok(patched) if object::is_deleting(&patched) => Ok(None),
            Ok(patched) => Ok(Some(patched)),
            Err(Error::NotFound(_) | Error::Conflict(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a cluster, if it has not changed since it was read. Returns whether it is deleted.
    fn delete(&self, cluster: &Value) -> Result<bool, Error> {
        let unchanged = Precondition {
            uid: Some(object::uid(cluster).to_owned()),
            resource_version: Some(object::resource_version(cluster).to_owned()),
        };
        let (namespace, name) = (object::namespace(cluster), object::name(cluster));
        let outcome = self.clusters.kubernetes.delete(RAY_CLUSTER, namespace, name, &unchanged)?;
        Ok(outcome != DeleteOutcome::PreconditionFailed)
    }
}
