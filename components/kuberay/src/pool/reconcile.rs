//! Decides about the clusters of a deployment's pools by Dagster's record of its runs.

use std::collections::BTreeMap;

use dagster_ray_sdk::{
    Error,
    bindings::reconciler::{Leftover, Outcome},
    clock::Clock,
    http::Http,
    json::Value,
    progress::ProgressListener,
};
use dagster_ray_submission::reconcile::facts::{Facts, Owner, Verdict};

use super::{
    Pools,
    lease::{Lease, Standing},
    member::{Health, Member, surplus},
    options::PoolOptions,
};
use crate::{
    kubernetes::{RAY_CLUSTER, object},
    labels,
};

/// The kind of a leftover that is a lease. Its name is the cluster's.
const LEASE_KIND: &str = "lease of RayCluster";

/// What becomes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// It stays, for this reason.
    Kept(String),
    /// Its lease ends, for this reason.
    TakenBack(String),
    /// It is deleted, for this reason.
    Deleted(String),
}

/// How the clusters of pools are reconciled.
pub(crate) struct Rule<'r> {
    /// What Dagster knows of runs.
    pub(crate) facts: &'r Facts<'r>,
    /// Whether this is a reconciliation of the whole deployment. Otherwise, only the leases of the known runs are
    /// considered.
    pub(crate) is_whole: bool,
    /// Whether to change nothing.
    pub(crate) dry_run: bool,
    /// The API server's time, in seconds since the Unix epoch.
    pub(crate) now_s: u64,
}

/// Returns whether an object is a cluster of a pool.
pub(crate) fn is_of_pool(document: &Value) -> bool {
    object::labels(document).get(labels::ROLE) == Some(&labels::ROLE_POOL)
}

impl<H: Http, C: Clock> Pools<'_, H, C> {
    /// Ends leases whose runs are over, and deletes clusters that their pools do not need. `clusters` are those of a
    /// deployment's pools, each with what it says about its owner. `jobs` are the deployment's RayJobs.
    ///
    /// Returns what was done, and which clusters stay and why.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the caller cancels.
    pub(crate) fn reconcile(
        &self,
        clusters: &[(&Value, &Owner)],
        jobs: &[Value],
        rule: &Rule<'_>,
        listener: &impl ProgressListener,
    ) -> Result<Vec<Leftover>, Error> {
        let mut pools: BTreeMap<(String, String), Vec<(Member, &Owner)>> = BTreeMap::new();
        for (document, owner) in clusters {
            let pool = object::labels(document).get(labels::POOL).copied().unwrap_or_default();
            let key = (object::namespace(document).to_owned(), pool.to_owned());
            let of_namespace: Vec<Value> =
                jobs.iter().filter(|job| object::namespace(job) == key.0).cloned().collect();
            let member = Member::read((*document).clone(), &of_namespace, rule.now_s);
            pools.entry(key).or_default().push((member, owner));
        }
        let mut leftovers = Vec::new();
        for members in pools.into_values() {
            let (members, owners): (Vec<Member>, Vec<&Owner>) = members.into_iter().unzip();
            let fates = fates(&members, &owners, rule);
            for ((member, owner), fate) in members.iter().zip(owners).zip(fates) {
                leftovers.extend(self.settle(member, owner, fate, rule, listener)?);
            }
        }
        Ok(leftovers)
    }

    fn settle(
        &self,
        member: &Member,
        owner: &Owner,
        fate: Fate,
        rule: &Rule<'_>,
        listener: &impl ProgressListener,
    ) -> Result<Option<Leftover>, Error> {
        let namespace = object::namespace(&member.document);
        let run_id = member.lease.as_ref().filter(|lease| lease.released_s.is_none());
        let owner = Owner { run_id: run_id.map(|lease| lease.run_id.clone()), ..owner.clone() };
        let leftover =
            |kind: &str, reason: String| owner.leftover(kind, Some(namespace), member.name(), reason);
        let (mut leftover, done) = match fate {
            Fate::Kept(_) if !rule.is_whole => return Ok(None),
            Fate::Kept(reason) => {
                let kept = Leftover { outcome: Outcome::Kept, ..leftover(RAY_CLUSTER.kind, reason) };
                return Ok(Some(kept));
            }
            Fate::TakenBack(reason) if rule.dry_run => return Ok(Some(leftover(LEASE_KIND, reason))),
            Fate::Deleted(reason) if rule.dry_run => return Ok(Some(leftover(RAY_CLUSTER.kind, reason))),
            Fate::TakenBack(reason) => {
                (leftover(LEASE_KIND, reason), self.take_back_one(&member.document, listener))
            }
            Fate::Deleted(reason) => {
                let deleted = match self.delete(&member.document) {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(Error::Other("it has changed since it was listed".to_owned())),
                    Err(error) => Err(error),
                };
                (leftover(RAY_CLUSTER.kind, reason), deleted)
            }
        };
        leftover.outcome = match done {
            Ok(()) => Outcome::Removed,
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => {
                leftover.problem = Some(error.message());
                Outcome::Failed
            }
        };
        Ok(Some(leftover))
    }
}

/// Decides about the clusters of one pool, in the same order.
fn fates(members: &[Member], owners: &[&Owner], rule: &Rule<'_>) -> Vec<Fate> {
    // The latest use has the current options: each use writes them.
    let latest = members.iter().max_by_key(|member| member.used_s());
    let options = latest.map(|member| PoolOptions::of(&member.document)).unwrap_or_default();
    let over: BTreeMap<&str, String> = if rule.is_whole {
        let over = surplus(members, &options, rule.now_s, true);
        over.into_iter().map(|(member, reason)| (object::uid(&member.document), reason)).collect()
    } else {
        BTreeMap::new()
    };
    members
        .iter()
        .zip(owners)
        .map(|(member, owner)| {
            let held = member.lease.as_ref().filter(|lease| lease.released_s.is_none());
            if let Some(reason) = held.and_then(|lease| run_is_over(lease, owner, rule)) {
                return Fate::TakenBack(reason);
            }
            match (&member.standing, over.get(object::uid(&member.document))) {
                (Standing::Held(reason), _) => Fate::Kept(reason.clone()),
                (Standing::Over(reason), _) if rule.is_whole => Fate::TakenBack(reason.clone()),
                (_, Some(reason)) => Fate::Deleted(reason.clone()),
                _ => Fate::Kept(match member.health() {
                    Health::Ready => {
                        format!("it is ready for a run of its pool, which keeps {}", options.size)
                    }
                    Health::Starting(_) => "it is starting, and no run has leased it".to_owned(),
                    Health::Broken(reason) => reason,
                }),
            }
        })
        .collect()
}

/// Returns why the run of a lease is over by Dagster's record, or `None`.
fn run_is_over(lease: &Lease, owner: &Owner, rule: &Rule<'_>) -> Option<String> {
    let of_run = Owner {
        deployment: owner.deployment.clone(),
        is_owned: owner.is_owned,
        run_id: Some(lease.run_id.clone()),
        created_s: Some(lease.since_s),
        ..Owner::default()
    };
    match rule.facts.judge(&of_run) {
        Verdict::Over(reason) => Some(reason),
        Verdict::Keep | Verdict::NotOwned(_) => None,
    }
}
