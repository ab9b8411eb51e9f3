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
use serde_json::{Map, Value, json};

use super::{Clusters, Details, Target, created_at, plan::Plan, replaced, state};
use crate::{
    annotations::{DELETE_WHEN_RELEASED, is_owned_by},
    kubernetes::{CreateOutcome, DeleteOutcome, Kind, LONG_FIELDS, Precondition, RAY_JOB, Selection, object},
    labels,
    leases::{self, Lease},
    options::Sharing,
};

/// How often to retry a release when the cluster changes in the meantime.
const MAX_ATTEMPTS: u32 = 20;

impl<H: Http, C: Clock> Clusters<H, C> {
    /// Joins the oldest cluster that can be joined, or creates one.
    pub(super) fn share(&self, mut plan: Plan, sharing: &Sharing) -> Result<Creation, Error> {
        let required = labels::shared(&sharing.match_labels, &plan.owner.deployment);
        let wait = self.begin_pause(sharing.join_timeout_seconds);
        loop {
            for candidate in self.candidates(plan.kind, &plan.namespace, &required)? {
                if let Some(creation) = self.join(&plan, &candidate)? {
                    return Ok(creation);
                }
            }
            let (name, value) = self.lease(&plan.owner.holder, &plan.details)?.annotation();
            plan.document["metadata"]["annotations"][name] = value;
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
            let mut state = "is being deleted";
            if can_be_joined(plan.kind, &existing) {
                if let Some(creation) = self.join(&plan, &existing)? {
                    return Ok(creation);
                }
            } else if !object::is_deleting(&existing) {
                if leases::has_living_holder(&existing, self.kubernetes.now_s()?) {
                    state = "has failed and is still in use";
                } else {
                    let unchanged = precondition(&existing);
                    self.kubernetes.delete(
                        plan.kind,
                        &plan.namespace,
                        object::name(&existing),
                        &unchanged,
                    )?;
                }
            }
            self.pause(&wait, &plan, state)?;
        }
    }

    /// Renews a holder's lease on a cluster, and removes the leases that have expired.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the cluster does not exist or is being deleted.
    pub fn renew(&self, cluster: &ClusterRef, holder: &str) -> Result<(), Error> {
        let target = self.target(cluster);
        if self.hold(&target, holder)? {
            return Ok(());
        }
        Err(Error::NotFound(format!("{} does not exist or is being deleted", target.label())))
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
            if keep || !leases::unexpired(&left, self.kubernetes.now_s()?).is_empty() {
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
        let mut listed = self.kubernetes.list(kind, namespace, &which, &LONG_FIELDS)?;
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
        if !self.hold(&self.target(&reference), &plan.owner.holder)? {
            return Ok(None);
        }
        // An earlier attempt of this owner created it, and the response was lost.
        Ok(Some(if ours { Creation::Created(reference) } else { Creation::Joined(reference) }))
    }

    /// Writes a lease, and removes the expired ones. Returns `false` if the cluster does not exist or is being
    /// deleted.
    fn hold(&self, target: &Target, holder: &str) -> Result<bool, Error> {
        let current = match self.current(target) {
            Err(Error::NotFound(_)) => return Ok(false),
            found => found?,
        };
        let expired = leases::expired_keys(&current, self.kubernetes.now_s()?);
        if !expired.is_empty() {
            let dead = expired.into_iter().map(|key| (key, Value::Null)).collect();
            // A holder that renews its lease in between changes the resource version, so its lease stays.
            let unchanged = Some(object::resource_version(&current));
            match self.write_lease(target, holder, dead, unchanged) {
                Err(Error::Conflict(_)) => {}
                held => return is_held(target, held),
            }
        }
        is_held(target, self.write_lease(target, holder, Map::new(), None))
    }

    /// Patches a holder's lease and other annotations, if the cluster has this resource version.
    fn write_lease(
        &self,
        target: &Target,
        holder: &str,
        mut annotations: Map<String, Value>,
        resource_version: Option<&str>,
    ) -> Result<Value, Error> {
        annotations.extend([self.lease(holder, &target.details)?.annotation()]);
        let mut patch = json!({"metadata": {"annotations": annotations}});
        self.require_uid(&mut patch, target);
        if let Some(version) = resource_version {
            patch["metadata"]["resourceVersion"] = version.into();
        }
        self.kubernetes.patch(target.kind, &target.namespace, &target.name, &patch)
    }

    fn lease(&self, holder: &str, details: &Details) -> Result<Lease, Error> {
        Ok(Lease {
            holder: holder.to_owned(),
            renewed_at: self.kubernetes.now_s()?,
            ttl_seconds: details.lease_ttl_s.unwrap_or_else(|| Sharing::default().ttl_seconds),
            renew_seconds: details.lease_renew_s,
        })
    }
}

/// Returns whether the response to a patch is a cluster that can be held.
fn is_held(target: &Target, patched: Result<Value, Error>) -> Result<bool, Error> {
    match patched {
        Ok(held) if target.matches_uid(&held) => Ok(!object::is_deleting(&held)),
        Ok(_) => Err(replaced(target)),
        Err(Error::NotFound(_) | Error::Conflict(_)) => Ok(false),
        Err(error) => Err(error),
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
    // A suspended cluster waits in a queue, such as Kueue's.
    matches!(state, ClusterState::Starting | ClusterState::Ready | ClusterState::Suspended)
}

fn precondition(document: &Value) -> Precondition {
    Precondition {
        uid: Some(object::uid(document).to_owned()),
        resource_version: Some(object::resource_version(document).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use dagster_ray_sdk::{
        bindings::cluster::{ClusterSpec, Owner},
        http::{Method, Request},
        testing::{ScriptedHttp, ScriptedResponse, VirtualClock},
    };

    use super::*;
    use crate::{kubernetes::Kubernetes, names};

    const NOW: u64 = 1_795_490_590;
    const DATE: &str = "Tue, 24 Nov 2026 03:23:10 GMT";

    fn existing(deployment: Option<&str>) -> Value {
        json!({"metadata": {
            "name": "existing",
            "namespace": "ray",
            "uid": "1",
            "resourceVersion": "7",
            "labels": {"team": "x", labels::SHARING: "true", labels::DEPLOYMENT_ID: deployment},
        }})
    }

    /// An API server with one shared cluster. A created cluster replaces it.
    fn server(existing: Value) -> ScriptedHttp {
        let current = RefCell::new(Some(existing));
        let rule = move |request: &Request| {
            let found = current.borrow().clone();
            let (status, body) = match (request.method, found) {
                (Method::Get, found) if request.url.contains("labelSelector") => {
                    (200, json!({"items": found.into_iter().collect::<Vec<_>>()}))
                }
                (Method::Post, Some(found)) if request.url.contains("rayclusters?") => {
                    let made: Value = serde_json::from_slice(&request.body).unwrap();
                    if object::name(&made) == object::name(&found) {
                        (409, json!({"kind": "Status", "code": 409, "reason": "AlreadyExists"}))
                    } else {
                        (201, made)
                    }
                }
                (Method::Post, None) => (201, serde_json::from_slice(&request.body).unwrap()),
                (Method::Delete, _) => {
                    *current.borrow_mut() = None;
                    (200, json!({}))
                }
                (_, Some(found)) => (200, found),
                (_, None) => (404, json!({"kind": "Status", "code": 404, "reason": "NotFound"})),
            };
            Some(ScriptedResponse::new(status, body.to_string()))
        };
        ScriptedHttp::with_rule(rule).with_header("date", DATE)
    }

    fn spec(deployment: &str) -> ClusterSpec {
        ClusterSpec {
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
        }
    }

    fn create(http: &ScriptedHttp, deployment: &str) -> Result<Creation, Error> {
        let kubernetes = Kubernetes::new(http, VirtualClock::default());
        Clusters::new(kubernetes, "ray".to_owned()).create(&spec(deployment))
    }

    /// Shares a cluster for an owner of `deployment` in a namespace that has a shared cluster of `other`.
    fn share(other: Option<&str>, deployment: &str) -> Creation {
        create(&server(existing(other)), deployment).unwrap()
    }

    fn lease(age_s: u64, renew_seconds: Option<u64>) -> Lease {
        Lease { holder: format!("of {age_s} s"), renewed_at: NOW - age_s, ttl_seconds: 1_800, renew_seconds }
    }

    fn with_leases(mut cluster: Value, leases: &[Lease]) -> Value {
        let annotations: Map<String, Value> = leases.iter().map(Lease::annotation).collect();
        cluster["metadata"]["annotations"] = annotations.into();
        cluster
    }

    #[test]
    fn a_failed_cluster_blocks_a_new_holder_only_while_its_holder_renews_the_lease() {
        let failed = |lease: Lease| {
            let mut cluster = with_leases(existing(Some("d")), &[lease]);
            cluster["metadata"]["name"] =
                names::shared_cluster(&labels::shared(&[("team".into(), "x".into())].into(), "d")).into();
            cluster["status"] = json!({"state": "failed", "reason": "why"});
            create(&server(cluster), "d")
        };
        // The holder has missed three renewals, or its lease has expired.
        for dead in [lease(31, Some(10)), lease(1_801, None)] {
            assert!(matches!(failed(dead.clone()), Ok(Creation::Created(_))), "{dead:?}");
        }
        for living in [lease(29, Some(10)), lease(1_700, None)] {
            let Err(Error::Unavailable(hint)) = failed(living.clone()) else { panic!("{living:?}") };
            assert!(hint.reason.contains("has failed and is still in use"), "{}", hint.reason);
            assert!(hint.reason.contains("after 120 s"), "{}", hint.reason);
        }
    }

    #[test]
    fn a_suspended_cluster_is_joined() {
        let mut suspended = existing(Some("d"));
        suspended["status"] = json!({"state": "suspended"});
        assert!(matches!(create(&server(suspended), "d"), Ok(Creation::Joined(_))));
    }

    #[test]
    fn a_renewal_uses_the_api_servers_time_and_removes_expired_leases() {
        let (dead, living) = (lease(1_801, None), lease(1_799, None));
        let http = server(with_leases(existing(Some("d")), &[dead.clone(), living]));
        let clock = VirtualClock::default();
        // The clock of this machine has nothing to do with the API server's.
        clock.advance(123_456_789_000);
        let clusters = Clusters::new(Kubernetes::new(&http, clock), "ray".to_owned());
        let details = Some(r#"{"lease_ttl_s": 60, "lease_renew_s": 10}"#.to_owned());
        let cluster = ClusterRef { name: "existing".into(), namespace: None, uid: None, details };
        clusters.renew(&cluster, "h").unwrap();
        let patch: Value = serde_json::from_slice(&http.requests().pop().unwrap().body).unwrap();
        let ours = Lease { holder: "h".into(), renewed_at: NOW, ttl_seconds: 60, renew_seconds: Some(10) };
        let (name, value) = ours.annotation();
        let annotations = json!({name: value, leases::key(&dead.holder): null});
        assert_eq!(patch, json!({"metadata": {"annotations": annotations, "resourceVersion": "7"}}));
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
