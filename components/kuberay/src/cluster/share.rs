//! Sharing a cluster: joining it, holding it, letting go of it.
//!
//! Everyone who looks for the same labels makes a cluster of the same name, and the API server lets
//! one of them. Nobody is elected, so nobody can die in office.

use std::collections::BTreeMap;

use dagster_ray_sdk::{Error, clock::Clock, http::Http};
use serde_json::{Value, json};

use super::{
    Clusters, Target,
    create::{DELETE_WHEN_RELEASED, Plan, is_of},
    created_at, replaced, state,
};
use crate::{
    bindings::cluster::{ClusterRef, ClusterState, Creation},
    kubernetes::{Created, Deleted, Kind, Precondition, RAY_JOB, Selection, object},
    labels,
    leases::{self, Lease},
    options::Sharing,
    time::WallClock,
};

const DEFAULT_TTL_S: u64 = 1_800;
/// How often a cluster may change while someone lets go of it.
const TRIES: u32 = 20;

/// The labels that a cluster must have to be joined.
pub(super) fn match_labels(sharing: &Sharing) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> =
        sharing.match_labels.iter().map(|(name, value)| (labels::key(name), labels::value(value))).collect();
    all.insert(labels::SHARING.to_owned(), "true".to_owned());
    all
}

impl<H: Http, C: Clock, W: WallClock> Clusters<H, C, W> {
    /// Joins the oldest cluster that can be joined, or makes one.
    pub(super) fn share(&self, mut plan: Plan, sharing: &Sharing) -> Result<Creation, Error> {
        let wanted = match_labels(sharing);
        let until = self.patience();
        loop {
            let (name, value) = self.lease(&plan.owner.holder, Some(sharing.ttl_seconds)).annotation();
            plan.document["metadata"]["annotations"][name] = value;

            for candidate in self.candidates(plan.kind, &plan.namespace, &wanted)? {
                if let Some(creation) = self.join(&plan, &candidate)? {
                    return Ok(creation);
                }
            }
            let there = match self.kubernetes.create(plan.kind, &plan.namespace, &plan.document)? {
                Created::Made(made) => {
                    return Ok(Creation::Created(Self::reference(plan.kind, &made, &plan.details)));
                }
                Created::There(there) => there,
            };
            let its = object::labels(&there);
            if wanted.iter().any(|(name, value)| its.get(name.as_str()) != Some(&value.as_str())) {
                return Err(Error::Conflict(format!(
                    "{} exists, and is not one to be shared so",
                    plan.label()
                )));
            }
            if can_be_joined(plan.kind, &there) {
                if let Some(creation) = self.join(&plan, &there)? {
                    return Ok(creation);
                }
            } else if !object::is_deleting(&there) && leases::live(&there, self.wall.epoch_s()).is_empty() {
                // It failed, and nobody waits for it to come back.
                let as_seen = precondition(&there);
                self.kubernetes.delete(plan.kind, &plan.namespace, object::name(&there), &as_seen)?;
            }
            self.pause(until, &plan)?;
        }
    }

    /// Says that a holder still uses a cluster.
    pub fn renew(&self, cluster: &ClusterRef, holder: &str) -> Result<(), Error> {
        let target = self.target(cluster);
        let lease = self.lease(holder, target.details.lease_ttl_s);
        match self.hold(&target, &lease)? {
            Some(_) => Ok(()),
            None => Err(Error::NotFound(format!("{} is gone, or going", target.label()))),
        }
    }

    /// Lets go of a cluster, and removes it if nobody else holds it. Returns whether it is gone.
    pub fn release(&self, cluster: &ClusterRef, holder: &str) -> Result<bool, Error> {
        let target = self.target(cluster);
        let mut patch = json!({"metadata": {"annotations": {leases::key(holder): null}}});
        self.only_this(&mut patch, &target);
        for _ in 0..TRIES {
            let left = match self.kubernetes.patch(target.kind, &target.namespace, &target.name, &patch) {
                Ok(left) => left,
                Err(Error::NotFound(_) | Error::Conflict(_)) => return Ok(true),
                Err(error) => return Err(error),
            };
            if object::is_deleting(&left) {
                return Ok(true);
            }
            let keep = object::annotations(&left).get(DELETE_WHEN_RELEASED) != Some(&"true");
            if keep || !leases::live(&left, self.wall.epoch_s()).is_empty() {
                return Ok(false);
            }
            // Someone who joins in between changes it, and then it stays.
            match self.kubernetes.delete(
                target.kind,
                &target.namespace,
                &target.name,
                &precondition(&left),
            )? {
                Deleted::Accepted | Deleted::Gone => return Ok(true),
                Deleted::Changed => {}
            }
        }
        Err(Error::unavailable(format!("{} changes all the time", target.label()), false))
    }

    fn candidates(
        &self,
        kind: Kind,
        namespace: &str,
        wanted: &BTreeMap<String, String>,
    ) -> Result<Vec<Value>, Error> {
        let which = Selection::Labels(labels::selector(wanted));
        let mut listed = self.kubernetes.list(kind, namespace, &which, &[])?;
        let Some(Value::Array(mut found)) = listed.get_mut("items").map(Value::take) else {
            return Ok(Vec::new());
        };
        // A cluster that a RayJob made goes when that job ends.
        found.retain(|one| can_be_joined(kind, one) && !object::is_owned(one));
        found.sort_by(|a, b| (created_at(a), object::name(a)).cmp(&(created_at(b), object::name(b))));
        Ok(found)
    }

    fn join(&self, plan: &Plan, candidate: &Value) -> Result<Option<Creation>, Error> {
        let ours = is_of(candidate, &plan.owner);
        let reference = Self::reference(plan.kind, candidate, &plan.details);
        let lease = self.lease(&plan.owner.holder, plan.details.lease_ttl_s);
        if self.hold(&self.target(&reference), &lease)?.is_none() {
            return Ok(None);
        }
        // An earlier try of ours made it, and its answer was lost.
        Ok(Some(if ours { Creation::Created(reference) } else { Creation::Joined(reference) }))
    }

    /// Writes a lease. `None` means that the cluster is gone, or going.
    fn hold(&self, target: &Target, lease: &Lease) -> Result<Option<Value>, Error> {
        let (name, value) = lease.annotation();
        let mut patch = json!({"metadata": {"annotations": {name: value}}});
        self.only_this(&mut patch, target);
        match self.kubernetes.patch(target.kind, &target.namespace, &target.name, &patch) {
            Ok(held) if target.is(&held) => Ok((!object::is_deleting(&held)).then_some(held)),
            Ok(_) => Err(replaced(target)),
            Err(Error::NotFound(_) | Error::Conflict(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lease(&self, holder: &str, ttl_s: Option<u64>) -> Lease {
        Lease {
            holder: holder.to_owned(),
            renewed_at: self.wall.epoch_s(),
            ttl_seconds: ttl_s.unwrap_or(DEFAULT_TTL_S),
        }
    }
}

fn can_be_joined(kind: Kind, document: &Value) -> bool {
    let (state, _) = if kind == RAY_JOB { state::of_job(document) } else { state::of(document) };
    matches!(state, ClusterState::Starting | ClusterState::Ready)
}

fn precondition(document: &Value) -> Precondition {
    Precondition {
        uid: Some(object::uid(document).to_owned()),
        resource_version: Some(object::resource_version(document).to_owned()),
    }
}
