//! Joins, holds and releases shared clusters.
//!
//! There is no leader election. The cluster's name is derived from the labels, and the API server's unique
//! names decide who creates it.

use std::collections::BTreeMap;

use dagster_ray_sdk::{
    Error,
    bindings::cluster::{ClusterRef, ClusterState, Creation},
    clock::Clock,
    http::Http,
};
use serde_json::{Value, json};

use super::{Clusters, Target, created_at, plan::Plan, replaced, state};
use crate::{
    annotations::{DELETE_WHEN_RELEASED, is_owned_by},
    kubernetes::{CreateOutcome, DeleteOutcome, Kind, Precondition, RAY_JOB, Selection, object},
    labels,
    leases::{self, Lease},
    options::Sharing,
    time::WallClock,
};

/// How often to retry a release when the cluster changes in the meantime.
const MAX_ATTEMPTS: u32 = 20;

impl<H: Http, C: Clock, W: WallClock> Clusters<H, C, W> {
    /// Joins the oldest cluster that can be joined, or creates one.
    pub(super) fn share(&self, mut plan: Plan, sharing: &Sharing) -> Result<Creation, Error> {
        let required = labels::shared(&sharing.match_labels, &plan.owner.deployment);
        let until = self.deadline();
        loop {
            let (name, value) = self.lease(&plan.owner.holder, Some(sharing.ttl_seconds)).annotation();
            plan.document["metadata"]["annotations"][name] = value;

            for candidate in self.candidates(plan.kind, &plan.namespace, &required)? {
                if let Some(creation) = self.join(&plan, &candidate)? {
                    return Ok(creation);
                }
            }
            let existing = match self.kubernetes.create(plan.kind, &plan.namespace, &plan.document)? {
                CreateOutcome::Created(made) => {
                    return Ok(Creation::Created(Self::reference(plan.kind, &made, &plan.details)));
                }
                CreateOutcome::Exists(existing) => existing,
            };
            if !is_shared_by(&existing, &required) {
                return Err(Error::Conflict(format!(
                    "{} exists, and its labels are not those that sharing requires: {}",
                    plan.label(),
                    labels::selector(&required)
                )));
            }
            if can_be_joined(plan.kind, &existing) {
                if let Some(creation) = self.join(&plan, &existing)? {
                    return Ok(creation);
                }
            } else if !object::is_deleting(&existing)
                && leases::unexpired(&existing, self.wall.epoch_s()).is_empty()
            {
                // The cluster cannot be joined and has no holder, so it is replaced.
                let unchanged = precondition(&existing);
                self.kubernetes.delete(plan.kind, &plan.namespace, object::name(&existing), &unchanged)?;
            }
            self.pause(until, &plan)?;
        }
    }

    /// Renews a holder's lease on a cluster.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the cluster does not exist or is being deleted.
    pub fn renew(&self, cluster: &ClusterRef, holder: &str) -> Result<(), Error> {
        let target = self.target(cluster);
        let lease = self.lease(holder, target.details.lease_ttl_s);
        match self.hold(&target, &lease)? {
            Some(_) => Ok(()),
            None => Err(Error::NotFound(format!("{} does not exist or is being deleted", target.label()))),
        }
    }

    /// Removes a holder's lease, and deletes the cluster if no other holder has one and
    /// `delete_when_released` is set. Returns whether the cluster does not exist or is being deleted.
    pub fn release(&self, cluster: &ClusterRef, holder: &str) -> Result<bool, Error> {
        let target = self.target(cluster);
        let mut patch = json!({"metadata": {"annotations": {leases::key(holder): null}}});
        self.require_uid(&mut patch, &target);
        for _ in 0..MAX_ATTEMPTS {
            let left = match self.kubernetes.patch(target.kind, &target.namespace, &target.name, &patch) {
                Ok(left) => left,
                Err(Error::NotFound(_) | Error::Conflict(_)) => return Ok(true),
                Err(error) => return Err(error),
            };
            if object::is_deleting(&left) {
                return Ok(true);
            }
            let keep = object::annotations(&left).get(DELETE_WHEN_RELEASED) != Some(&"true");
            if keep || !leases::unexpired(&left, self.wall.epoch_s()).is_empty() {
                return Ok(false);
            }
            // A holder that joins in between changes the resource version, so the cluster is kept.
            match self.kubernetes.delete(
                target.kind,
                &target.namespace,
                &target.name,
                &precondition(&left),
            )? {
                DeleteOutcome::Accepted | DeleteOutcome::NotFound => return Ok(true),
                DeleteOutcome::PreconditionFailed => {}
            }
        }
        let reason =
            format!("{} changed during each of {MAX_ATTEMPTS} attempts to release it", target.label());
        Err(Error::unavailable(reason, false))
    }

    fn candidates(
        &self,
        kind: Kind,
        namespace: &str,
        required: &BTreeMap<String, String>,
    ) -> Result<Vec<Value>, Error> {
        let which = Selection::Labels(labels::selector(required));
        let mut listed = self.kubernetes.list(kind, namespace, &which, &[])?;
        let Some(Value::Array(mut found)) = listed.get_mut("items").map(Value::take) else {
            return Ok(Vec::new());
        };
        // A cluster that a RayJob owns is deleted when that job ends.
        found.retain(|one| is_shared_by(one, required) && can_be_joined(kind, one) && !object::is_owned(one));
        found.sort_by(|a, b| (created_at(a), object::name(a)).cmp(&(created_at(b), object::name(b))));
        Ok(found)
    }

    fn join(&self, plan: &Plan, candidate: &Value) -> Result<Option<Creation>, Error> {
        let ours = is_owned_by(candidate, &plan.owner);
        let reference = Self::reference(plan.kind, candidate, &plan.details);
        let lease = self.lease(&plan.owner.holder, plan.details.lease_ttl_s);
        if self.hold(&self.target(&reference), &lease)?.is_none() {
            return Ok(None);
        }
        // An earlier attempt of this owner created it, and the response was lost.
        Ok(Some(if ours { Creation::Created(reference) } else { Creation::Joined(reference) }))
    }

    /// Writes a lease. Returns `None` if the cluster does not exist or is being deleted.
    fn hold(&self, target: &Target, lease: &Lease) -> Result<Option<Value>, Error> {
        let (name, value) = lease.annotation();
        let mut patch = json!({"metadata": {"annotations": {name: value}}});
        self.require_uid(&mut patch, target);
        match self.kubernetes.patch(target.kind, &target.namespace, &target.name, &patch) {
            Ok(held) if target.matches_uid(&held) => Ok((!object::is_deleting(&held)).then_some(held)),
            Ok(_) => Err(replaced(target)),
            Err(Error::NotFound(_) | Error::Conflict(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lease(&self, holder: &str, ttl_s: Option<u64>) -> Lease {
        Lease {
            holder: holder.to_owned(),
            renewed_at: self.wall.epoch_s(),
            ttl_seconds: ttl_s.unwrap_or_else(|| Sharing::default().ttl_seconds),
        }
    }
}

/// Returns whether a cluster has the labels that sharing requires.
fn is_shared_by(document: &Value, required: &BTreeMap<String, String>) -> bool {
    let found = object::labels(document);
    let is_same = |name: &str| found.get(name).copied() == required.get(name).map(String::as_str);
    // An owner without a deployment requires no id, and must not join a cluster that has one.
    is_same(labels::DEPLOYMENT_ID) && required.keys().all(|name| is_same(name.as_str()))
}

fn can_be_joined(kind: Kind, document: &Value) -> bool {
    let (state, _) =
        if kind == RAY_JOB { state::job_cluster_state(document) } else { state::cluster_state(document) };
    matches!(state, ClusterState::Starting | ClusterState::Ready)
}

fn precondition(document: &Value) -> Precondition {
    Precondition {
        uid: Some(object::uid(document).to_owned()),
        resource_version: Some(object::resource_version(document).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use dagster_ray_sdk::{
        bindings::cluster::{ClusterSpec, Owner},
        http::Method,
        testing::{ScriptedHttp, ScriptedResponse, VirtualClock},
    };

    use super::*;
    use crate::kubernetes::Kubernetes;

    /// Shares a cluster for an owner of `deployment` in a namespace that has a shared cluster of `existing`.
    fn share(existing: Option<&str>, deployment: &str) -> Creation {
        let existing = json!({"metadata": {
            "name": "existing",
            "namespace": "ray",
            "uid": "1",
            "labels": {"team": "x", labels::SHARING: "true", labels::DEPLOYMENT_ID: existing},
        }});
        let http = ScriptedHttp::with_rule(move |request| {
            let body = match request.method {
                Method::Get => json!({"items": [existing]}).to_string().into_bytes(),
                Method::Post => request.body.clone(),
                _ => existing.to_string().into_bytes(),
            };
            Some(ScriptedResponse::new(200, body))
        });
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let clusters = Clusters::new(kubernetes, Cell::new(0), "ray".to_owned());
        let spec = ClusterSpec {
            name: None,
            owner: Owner {
                deployment: deployment.to_owned(),
                run_id: "r".to_owned(),
                step_key: None,
                resource_key: None,
                holder: "h".to_owned(),
            },
            image: Some("i".to_owned()),
            labels: Vec::new(),
            env: Vec::new(),
            options: r#"{"ray_cluster": {"spec": {}}, "sharing": {"match_labels": {"team": "x"}}}"#
                .to_owned(),
        };
        clusters.create(&spec).unwrap()
    }

    #[test]
    fn a_shared_cluster_is_joined_only_within_its_deployment() {
        for (existing, deployment) in [(Some("d"), "d"), (None, "")] {
            let joined = share(existing, deployment);
            assert!(matches!(joined, Creation::Joined(_)), "{existing:?} {deployment}: {joined:?}");
        }
        for (existing, deployment) in [(Some("other"), "d"), (None, "d"), (Some("d"), "")] {
            let created = share(existing, deployment);
            assert!(matches!(created, Creation::Created(_)), "{existing:?} {deployment}: {created:?}");
        }
    }

    #[test]
    fn the_name_of_a_shared_cluster_depends_on_its_deployment() {
        let name = |deployment: &str| match share(Some("other"), deployment) {
            Creation::Created(cluster) => cluster.name,
            Creation::Joined(cluster) => panic!("{cluster:?}"),
        };
        assert_eq!(name("a"), name("a"));
        assert_ne!(name("a"), name("b"));
    }
}
