//! The contract's `reconciler`: finds and deletes the RayJobs and RayClusters that have outlived their run, step
//! attempt or holder.

mod earlier;
#[cfg(test)]
mod tests;

use dagster_ray_sdk::{
    Error,
    bindings::{
        cluster::Query,
        reconciler::{Leftover, Outcome, Reconciliation},
    },
    clock::Clock,
    http::Http,
    progress::ProgressListener,
    warn,
};
use dagster_ray_submission::{
    environment,
    reconcile::facts::{Facts, Owner, Verdict},
};
use serde_json::Value;

pub(crate) use self::earlier::{NewAttempt, remove_earlier};
use crate::{
    annotations::{self, DELETE_WHEN_RELEASED},
    cluster::{Clusters, created_at},
    job::{status::RayJob, stop},
    kubernetes::{DeleteOutcome, Kind, Precondition, RAY_CLUSTER, RAY_JOB, object},
    labels, leases,
    pool::{self, Pools},
};

/// How long to wait for the jobs that are stopped: the run worker's stop time and 10 s.
const TIMEOUT_MS: u64 = (environment::RUN_STOP_WAIT_S as u64 + 10) * 1_000;

/// An object of Dagster.
struct Found {
    kind: Kind,
    document: Value,
    owner: Owner,
}

impl Found {
    /// Returns whether the object is the RayJob of a worker or a script, whose Ray job is stopped first.
    fn is_worker(&self) -> bool {
        self.kind == RAY_JOB && !RayJob::read(&self.document).spec.job_id.is_empty()
    }
}

/// Deletes the objects of a deployment that have outlived their owner, in the namespaces of the rule.
///
/// A RayJob that has ended is left to KubeRay, which deletes its cluster as its manifest says.
///
/// # Errors
/// If the objects of a namespace cannot be listed. [`Error::Cancelled`] if the caller cancels.
pub fn reconcile<H: Http, C: Clock>(
    clusters: &Clusters<H, C>,
    rule: &Reconciliation,
    listener: &impl ProgressListener,
) -> Result<Vec<Leftover>, Error> {
    let default = std::slice::from_ref(&clusters.namespace);
    let namespaces = if rule.namespaces.is_empty() { default } else { &rule.namespaces };
    let mut found = Vec::new();
    for namespace in namespaces {
        found.extend(objects(clusters, namespace, &rule.deployment)?);
    }
    let now_s = clusters.kubernetes.now_s()?;
    let facts = Facts::new(rule, now_s, found.iter().map(|one| &one.owner));
    let is_of_own_pool = |one: &&Found| one.owner.is_owned && pool::reconcile::is_of_pool(&one.document);
    let mut over = Vec::new();
    for one in found.iter().filter(|one| !is_of_own_pool(one)) {
        let is_kept = one.owner.is_owned && object::labels(&one.document).contains_key(labels::KEEP);
        let verdict = if one.owner.has_ended || is_kept {
            Verdict::Keep
        } else if one.owner.is_owned && is_shared(&one.document) {
            judge_shared(&one.document, &facts, now_s)
        } else {
            facts.judge(&one.owner)
        };
        let (Verdict::Over(reason) | Verdict::NotOwned(reason)) = verdict else { continue };
        let (namespace, name) = (object::namespace(&one.document), object::name(&one.document));
        let leftover = one.owner.leftover(one.kind.kind, Some(namespace), name, reason);
        over.push((one, leftover));
    }
    if !rule.dry_run {
        remove(clusters, &mut over, listener)?;
    }
    let mut leftovers: Vec<Leftover> = over.into_iter().map(|(_, leftover)| leftover).collect();
    let of_pools: Vec<_> =
        found.iter().filter(is_of_own_pool).map(|one| (&one.document, &one.owner)).collect();
    if !of_pools.is_empty() {
        let jobs: Vec<Value> =
            found.iter().filter(|one| one.kind == RAY_JOB).map(|one| one.document.clone()).collect();
        let rule = pool::reconcile::Rule {
            facts: &facts,
            is_whole: rule.unknown_grace_s.is_some(),
            dry_run: rule.dry_run,
            now_s,
        };
        leftovers.extend(Pools::new(clusters).reconcile(&of_pools, &jobs, &rule, listener)?);
    }
    Ok(leftovers)
}

/// Returns the objects of Dagster in a namespace that are not being deleted and are not owned by another object.
fn objects<H: Http, C: Clock>(
    clusters: &Clusters<H, C>,
    namespace: &str,
    deployment: &str,
) -> Result<Vec<Found>, Error> {
    let query =
        Query { namespace: Some(namespace.to_owned()), labels: Vec::new(), selector: None, kind: None };
    let mut found = Vec::new();
    for kind in [RAY_JOB, RAY_CLUSTER] {
        let documents = match clusters.list_objects(kind, &query) {
            Ok(documents) => documents,
            // A deployment that uses only RayClusters may have no permission for RayJobs.
            Err(Error::Backend(api)) if api.status == 403 && kind == RAY_JOB => {
                warn!("skipping RayJobs: {}", api.message);
                continue;
            }
            Err(error) => return Err(error),
        };
        for document in documents {
            let is_separate = !object::is_deleting(&document) && !object::is_owned(&document);
            if is_separate && labels::is_from_dagster(&object::labels(&document)) {
                let has_ended = kind == RAY_JOB && RayJob::read(&document).status().ended;
                let owner = Owner { has_ended, ..owner(&document, deployment) };
                found.push(Found { kind, document, owner });
            }
        }
    }
    Ok(found)
}

/// Returns the owner that an object's labels and annotations name. `deployment` is that of the call.
fn owner(document: &Value, deployment: &str) -> Owner {
    let found = object::labels(document);
    let text = |key: &str| found.get(key).map(|text| (*text).to_owned());
    Owner {
        deployment: text(labels::DEPLOYMENT_ID),
        is_owned: labels::is_owned(&found, deployment),
        run_id: labels::run_id(&found).map(str::to_owned),
        step_key: annotations::step_key(document).or_else(|| text(labels::STEP)),
        attempt: found.get(labels::ATTEMPT).and_then(|attempt| attempt.parse().ok()),
        created_s: Some(created_at(document)).filter(|created| *created > 0),
        is_step_worker: found.get(labels::ROLE) == Some(&labels::ROLE_STEP),
        has_ended: false,
        has_lost_its_worker: false,
    }
}

fn is_shared(document: &Value) -> bool {
    object::labels(document).get(labels::SHARING) == Some(&"true")
}

/// Decides about a shared cluster by its holders. Its own run only created it.
fn judge_shared(document: &Value, facts: &Facts<'_>, now_s: u64) -> Verdict {
    let held = leases::of(document);
    if held.is_empty() || object::annotations(document).get(DELETE_WHEN_RELEASED) != Some(&"true") {
        return Verdict::Keep;
    }
    let is_over = |lease: &leases::Lease| {
        facts.holder_is_over(&lease.holder).is_some()
            || (!lease.is_live(now_s) && !facts.holder_is_live(&lease.holder))
    };
    if held.iter().all(is_over) {
        Verdict::Over("the runs of its holders are over, or their leases have expired".to_owned())
    } else {
        Verdict::Keep
    }
}

/// Stops and deletes the leftovers of the deployment, and writes the outcomes.
fn remove<H: Http, C: Clock>(
    clusters: &Clusters<H, C>,
    over: &mut [(&Found, Leftover)],
    listener: &impl ProgressListener,
) -> Result<(), Error> {
    let owned = || over.iter().filter(|(_, leftover)| leftover.outcome == Outcome::WouldRemove);
    let jobs: Vec<RayJob> =
        owned().filter(|(one, _)| one.is_worker()).map(|(one, _)| RayJob::read(&one.document)).collect();
    let stopped =
        match stop::stop_jobs(&clusters.kubernetes, &jobs.iter().collect::<Vec<_>>(), TIMEOUT_MS, listener) {
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            other => other,
        };
    for (one, leftover) in over.iter_mut().filter(|(_, leftover)| leftover.outcome == Outcome::WouldRemove) {
        let removed = match &stopped {
            Err(error) if one.is_worker() => {
                is_gone(clusters, one).unwrap_or(false).then_some(()).ok_or_else(|| error.message())
            }
            Ok(_) if one.is_worker() => Ok(()),
            _ => delete(clusters, one),
        };
        leftover.problem = removed.err();
        leftover.outcome = if leftover.problem.is_some() { Outcome::Failed } else { Outcome::Removed };
    }
    Ok(())
}

/// Returns whether a RayJob does not exist or is being deleted.
fn is_gone<H: Http, C: Clock>(clusters: &Clusters<H, C>, one: &Found) -> Result<bool, Error> {
    let (namespace, name) = (object::namespace(&one.document), object::name(&one.document));
    match clusters.kubernetes.get(one.kind, namespace, name) {
        Ok(current) => {
            Ok(object::is_deleting(&current) || object::uid(&current) != object::uid(&one.document))
        }
        Err(Error::NotFound(_)) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Deletes an object unless it has changed since it was listed: a holder may have joined a shared cluster.
fn delete<H: Http, C: Clock>(clusters: &Clusters<H, C>, one: &Found) -> Result<(), String> {
    let (namespace, name) = (object::namespace(&one.document), object::name(&one.document));
    let unchanged = Precondition {
        uid: Some(object::uid(&one.document).to_owned()),
        resource_version: is_shared(&one.document)
            .then(|| object::resource_version(&one.document).to_owned()),
    };
    match clusters.kubernetes.delete(one.kind, namespace, name, &unchanged) {
        Ok(DeleteOutcome::Accepted | DeleteOutcome::NotFound) => Ok(()),
        Ok(DeleteOutcome::PreconditionFailed) => Err("it has changed since it was listed".to_owned()),
        Err(error) => Err(error.message()),
    }
}
