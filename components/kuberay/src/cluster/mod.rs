//! The contract's `cluster` interface: creates and manages RayClusters through KubeRay.

pub mod create;
pub mod expire;
pub mod head;
mod milestone;
pub(crate) mod plan;
pub mod service;
pub mod share;
pub mod state;
pub mod wait;

use std::collections::BTreeMap;

use dagster_ray_sdk::{
    Error,
    bindings::cluster::{ClusterInfo, ClusterRef, EndpointSet, Query},
    clock::Clock,
    http::Http,
    info, json,
};
use serde_json::{Value, json};

use crate::{
    job,
    kubernetes::{
        DeleteOutcome, Kind, Kubernetes, LONG_FIELDS, Precondition, RAY_CLUSTER, RAY_JOB, RAY_SERVICE,
        Selection, object,
    },
    labels, leases,
    time::parse_timestamp,
};
use milestone::Goal;

/// The component's data in the `details` of a cluster reference.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The kind of the object: `RayCluster`, or `RayJob` for an interactive job.
    pub kind: String,
    /// Milliseconds for which KubeRay may report the cluster as failed before a wait ends.
    pub failure_tolerance_ms: u64,
    /// Seconds after its last renewal at which a holder's lease expires.
    pub lease_ttl_s: Option<u64>,
    /// Seconds between two renewals of a holder's lease, if there are any.
    pub lease_renew_s: Option<u64>,
    /// Whether `delete` keeps a cluster with a live lease. Set in references to expired clusters.
    pub only_if_unused: bool,
    /// The deployment that must own the object for `delete` to delete it.
    pub deployment: Option<String>,
}

impl Details {
    /// Parses the result of [`Details::to_json`]. Missing fields get their defaults.
    fn read(text: &str) -> Self {
        let document = json::parse(text.as_bytes()).unwrap_or_default();
        let number = |field: &str| document.get(field).and_then(Value::as_u64);
        Self {
            kind: object::text(&document, "/kind").unwrap_or_default().to_owned(),
            failure_tolerance_ms: number("failure_tolerance_ms").unwrap_or_default(),
            lease_ttl_s: number("lease_ttl_s"),
            lease_renew_s: number("lease_renew_s"),
            only_if_unused: document.get("only_if_unused").and_then(Value::as_bool).unwrap_or_default(),
            deployment: object::text(&document, "/deployment").map(str::to_owned),
        }
    }

    /// Returns the details as JSON.
    fn to_json(&self) -> String {
        let mut document = json!({
            "kind": self.kind,
            "failure_tolerance_ms": self.failure_tolerance_ms,
            "only_if_unused": self.only_if_unused,
        });
        for (field, seconds) in [("lease_ttl_s", self.lease_ttl_s), ("lease_renew_s", self.lease_renew_s)] {
            if let Some(seconds) = seconds {
                document[field] = seconds.into();
            }
        }
        if let Some(deployment) = &self.deployment {
            document["deployment"] = deployment.as_str().into();
        }
        json::text(&document)
    }
}

/// The contract's clusters, on an API server.
pub struct Clusters<H, C> {
    pub(crate) kubernetes: Kubernetes<H, C>,
    pub(crate) namespace: String,
}

/// A parsed cluster reference.
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: Option<String>,
    pub(crate) details: Details,
}

impl Target {
    /// Returns kind, namespace and name, for messages.
    pub(crate) fn label(&self) -> String {
        format!("the {} {}/{}", self.kind.kind, self.namespace, self.name)
    }

    /// Returns whether an object has the reference's uid.
    pub(crate) fn matches_uid(&self, document: &Value) -> bool {
        self.uid.as_deref().is_none_or(|uid| uid == object::uid(document))
    }
}

impl<H: Http, C: Clock> Clusters<H, C> {
    /// Creates an instance on this API server. `namespace` is the default namespace.
    pub fn new(kubernetes: Kubernetes<H, C>, namespace: String) -> Self {
        Self { kubernetes, namespace }
    }

    /// Returns one cluster. If the reference says what the client waits for, returns it once that is reached.
    pub fn get(&self, cluster: &ClusterRef) -> Result<ClusterInfo, Error> {
        let target = self.target(cluster);
        let document = match Goal::read(cluster)? {
            Some(goal) => self.reached(&target, &goal)?,
            None => self.current(&target)?,
        };
        self.info(target.kind, &document, &target.details)
    }

    /// Returns the RayClusters, the RayJobs or the RayServices of a namespace that match the query's labels and selector.
    pub fn list(&self, query: &Query) -> Result<Vec<ClusterInfo>, Error> {
        let kind = match query.kind.as_deref() {
            None | Some("RayCluster") => RAY_CLUSTER,
            Some("RayJob") => RAY_JOB,
            Some("RayService") => RAY_SERVICE,
            Some(other) => {
                let problem = format!("is {other:?}");
                let hint = Some("write RayCluster, RayJob or RayService");
                return Err(Error::invalid("query.kind", &problem, hint));
            }
        };
        let mut found = Vec::new();
        self.each_object(kind, query, &["managedFields"], &mut |document| {
            found.push(self.info(kind, &document, &Details::default())?);
            Ok(())
        })?;
        Ok(found)
    }

    /// Changes a cluster by a JSON merge patch or a JSON patch, if its uid is that of the reference.
    pub fn update(&self, cluster: &ClusterRef, patch: &str) -> Result<ClusterInfo, Error> {
        let target = self.target(cluster);
        let hint = Some("write a JSON merge patch (RFC 7386), or the list of a JSON patch (RFC 6902)");
        let mut patch = json::parse(patch.as_bytes())
            .map_err(|error| Error::invalid("patch", &format!("is not JSON: {error}"), hint))?;
        match &mut patch {
            Value::Object(_) => self.require_uid(&mut patch, &target),
            Value::Array(steps) => {
                let uid = target.uid.iter();
                steps
                    .splice(..0, uid.map(|uid| json!({"op": "test", "path": "/metadata/uid", "value": uid})));
            }
            _ => return Err(Error::invalid("patch", "is neither an object nor a list", hint)),
        }
        let changed = self.kubernetes.patch(target.kind, &target.namespace, &target.name, &patch)?;
        self.info(target.kind, &changed, &target.details)
    }

    /// Deletes a cluster, and returns whether it existed.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the reference is that of an expired cluster and a holder has joined since, or if the
    /// reference names the owning deployment and another one owns the object.
    pub fn delete(&self, cluster: &ClusterRef) -> Result<bool, Error> {
        /// How often to retry when the cluster changes between the read and its deletion.
        const ATTEMPTS: u32 = 5;

        let target = self.target(cluster);
        if let Some(deployment) = &target.details.deployment {
            match self.current(&target) {
                Ok(found) => labels::require_owned(&found, deployment, &target.label())?,
                Err(Error::NotFound(_)) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if !target.details.only_if_unused {
            let same = Precondition { uid: target.uid.clone(), resource_version: None };
            let deleted = self.kubernetes.delete(target.kind, &target.namespace, &target.name, &same)?;
            return Ok(deleted == DeleteOutcome::Accepted);
        }
        for _ in 0..ATTEMPTS {
            let document = match self.current(&target) {
                Ok(document) => document,
                Err(Error::NotFound(_)) => return Ok(false),
                Err(error) => return Err(error),
            };
            let held = leases::unexpired(&document, self.kubernetes.now_s()?);
            if let Some(lease) = held.first() {
                return Err(Error::Conflict(format!("{} is in use by {}", target.label(), lease.holder)));
            }
            let unchanged = Precondition {
                uid: Some(object::uid(&document).to_owned()),
                resource_version: Some(object::resource_version(&document).to_owned()),
            };
            match self.kubernetes.delete(target.kind, &target.namespace, &target.name, &unchanged)? {
                DeleteOutcome::Accepted => return Ok(true),
                DeleteOutcome::NotFound => return Ok(false),
                DeleteOutcome::PreconditionFailed => {}
            }
        }
        let reason = format!("{} changed during each of {ATTEMPTS} attempts to delete it", target.label());
        Err(Error::unavailable(reason, false))
    }

    /// Returns the endpoints of a cluster that is ready.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the cluster is not ready.
    pub fn endpoints(&self, cluster: &ClusterRef) -> Result<EndpointSet, Error> {
        let target = self.target(cluster);
        let mut document = self.current(&target)?;
        if target.kind == RAY_SERVICE {
            return service::state::endpoints_if_healthy(&document, &target.label());
        }
        if target.kind == RAY_JOB {
            let Some(name) = object::text(&document, "/status/rayClusterName") else {
                return Err(Error::unavailable(format!("{} has no RayCluster yet", target.label()), false));
            };
            document = self.kubernetes.get(RAY_CLUSTER, &target.namespace, name)?;
        }
        state::endpoints(&document).ok_or_else(|| {
            let state = state::describe(&document);
            Error::unavailable(format!("{} is not ready: {state}", target.label()), false)
        })
    }

    /// Deletes the objects of a role that were created for a run. Sends one request if there are none.
    ///
    /// # Errors
    /// The first error of a deletion, after every object was tried.
    pub(crate) fn delete_of_run(
        &self,
        kind: Kind,
        namespace: &str,
        role: &str,
        run_id: &str,
    ) -> Result<(), Error> {
        let labels = job::create::selector(role, Some(run_id)).into_iter().collect();
        let query = Query { namespace: Some(namespace.to_owned()), labels, selector: None, kind: None };
        let found = self.list_objects(kind, &query)?;
        let mut first_error = None;
        // A RayJob's cluster has the same labels, and is deleted together with the RayJob.
        for document in found.iter().filter(|one| !object::is_owned(one) && !object::is_deleting(one)) {
            let same = Precondition { uid: Some(object::uid(document).to_owned()), resource_version: None };
            let name = object::name(document);
            info!("deleting the {} {namespace}/{name} of the run {run_id}", kind.kind);
            if let Err(error) = self.kubernetes.delete(kind, namespace, name, &same) {
                first_error = first_error.or(Some(error));
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    pub(crate) fn target(&self, cluster: &ClusterRef) -> Target {
        let details = cluster.details.as_deref().map(Details::read).unwrap_or_default();
        Target {
            kind: match details.kind.as_str() {
                "RayJob" => RAY_JOB,
                "RayService" => RAY_SERVICE,
                _ => RAY_CLUSTER,
            },
            namespace: cluster.namespace.clone().unwrap_or_else(|| self.namespace.clone()),
            name: cluster.name.clone(),
            uid: cluster.uid.clone().filter(|uid| !uid.is_empty()),
            details,
        }
    }

    /// Returns the current object, if its uid is that of the reference.
    pub(crate) fn current(&self, target: &Target) -> Result<Value, Error> {
        let document = self.kubernetes.get(target.kind, &target.namespace, &target.name)?;
        if target.matches_uid(&document) { Ok(document) } else { Err(replaced(target)) }
    }

    /// Returns the objects that a query selects, without their long fields.
    pub(crate) fn list_objects(&self, kind: Kind, query: &Query) -> Result<Vec<Value>, Error> {
        let mut found = Vec::new();
        self.each_object(kind, query, &LONG_FIELDS, &mut |document| {
            found.push(document);
            Ok(())
        })?;
        Ok(found)
    }

    /// Passes the objects that a query selects to `each`, without the named fields.
    pub(crate) fn each_object(
        &self,
        kind: Kind,
        query: &Query,
        skipped_fields: &[&str],
        each: &mut dyn FnMut(Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let namespace = query.namespace.as_deref().unwrap_or(&self.namespace);
        let required = labels::selector(&labels::normalized(&query.labels));
        let given = query.selector.as_deref().map(labels::current_selector).unwrap_or_default();
        let parts: Vec<&str> =
            [required.as_str(), given.trim()].into_iter().filter(|part| !part.is_empty()).collect();
        let which = Selection::Labels(parts.join(","));
        let listed = self.kubernetes.for_each(kind, namespace, &which, skipped_fields, each);
        listed.map_err(|error| match error {
            // Label values are valid, so the API server cannot parse the selector.
            Error::Backend(api) if api.status == 400 && !given.is_empty() => Error::invalid(
                "query.selector",
                &format!("{given:?} is not a label selector: {}", api.message),
                Some("write a Kubernetes label selector, such as `a=b` or `a in (b, c)`"),
            ),
            error => error,
        })
    }

    pub(crate) fn require_uid(&self, patch: &mut Value, target: &Target) {
        if let Some(uid) = &target.uid {
            patch["metadata"]["uid"] = uid.as_str().into();
        }
    }

    pub(crate) fn reference(kind: Kind, document: &Value, details: &Details) -> ClusterRef {
        let details = Details { kind: kind.kind.to_owned(), ..details.clone() };
        ClusterRef {
            name: object::name(document).to_owned(),
            namespace: Some(object::namespace(document).to_owned()),
            uid: Some(object::uid(document).to_owned()),
            details: Some(details.to_json()),
        }
    }

    pub(crate) fn info(&self, kind: Kind, document: &Value, details: &Details) -> Result<ClusterInfo, Error> {
        let (state, reason) = state::of(kind, document);
        let labels: BTreeMap<&str, &str> = object::labels(document);
        // The time matters only for leases.
        let held = if leases::has_any(document) {
            leases::unexpired(document, self.kubernetes.now_s()?)
        } else {
            Vec::new()
        };
        Ok(ClusterInfo {
            cluster: Self::reference(kind, document, details),
            state,
            reason,
            labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            created_at: created_at(document),
            holders: held.into_iter().map(|lease| lease.holder).collect(),
            // A RayCluster has no such status.
            job: job::status::in_ray(document),
            document: json::text(document),
        })
    }
}

pub(crate) fn created_at(document: &Value) -> u64 {
    object::text(document, "/metadata/creationTimestamp").and_then(parse_timestamp).unwrap_or_default()
}

pub(crate) fn replaced(target: &Target) -> Error {
    Error::NotFound(format!("{} was deleted, and another object has its name", target.label()))
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::{
        http::Method,
        testing::{ScriptedHttp, ScriptedResponse, VirtualClock},
    };

    use super::*;

    fn query(selector: &str) -> Query {
        let labels = vec![("dagster.io/user".to_owned(), "me@example.org".to_owned())];
        Query { namespace: None, labels, selector: Some(selector.to_owned()), kind: None }
    }

    #[test]
    fn the_api_server_evaluates_labels_and_selector_of_a_query() {
        let refusal =
            r#"{"kind":"Status","code":400,"reason":"BadRequest","message":"unable to parse requirement"}"#;
        let http = ScriptedHttp::new([
            ScriptedResponse::new(200, r#"{"items": []}"#),
            ScriptedResponse::new(200, r#"{"items": []}"#),
            ScriptedResponse::new(400, refusal),
        ]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let clusters = Clusters::new(kubernetes, "ray".to_owned());
        assert_eq!(clusters.list(&query("team in (a, b)")), Ok(Vec::new()));
        assert_eq!(clusters.list(&query(" ")), Ok(Vec::new()));
        let urls: Vec<String> = http.requests().into_iter().map(|request| request.url).collect();
        let labels = "?labelSelector=dagster%2Fuser%3Dme-at-example.org";
        assert!(
            urls[0].ends_with(&format!("{labels}%2Cteam%20in%20%28a%2C%20b%29&limit=250")),
            "{}",
            urls[0]
        );
        assert!(urls[1].ends_with(&format!("{labels}&limit=250")), "{}", urls[1]);

        let Err(Error::InvalidConfig(fields)) = clusters.list(&query("team in (a")) else { panic!() };
        assert_eq!(fields[0].path, "query.selector");
        assert!(fields[0].problem.contains("unable to parse requirement"), "{}", fields[0].problem);
    }

    #[test]
    fn an_error_of_one_deletion_leaves_no_other_object_of_the_run() {
        let http = ScriptedHttp::with_rule(|request| {
            let object = |name: &str| json!({"metadata": {"name": name, "uid": name}});
            Some(match request.method {
                Method::Get => {
                    let listed = json!({"items": [object("a"), object("b"), object("c")]});
                    ScriptedResponse::new(200, listed.to_string())
                }
                _ if request.url.ends_with("/b") => ScriptedResponse::new(200, "{}"),
                _ => {
                    let body = json!({"kind": "Status", "code": 403, "reason": "Forbidden"});
                    ScriptedResponse::new(403, body.to_string())
                }
            })
        });
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let clusters = Clusters::new(kubernetes, "ray".to_owned());
        let outcome = clusters.delete_of_run(RAY_JOB, "ray", labels::ROLE_STEP, "r");
        let Err(Error::Backend(first)) = outcome else { panic!("{outcome:?}") };
        assert!(first.message.contains("rayjobs ray/a"), "{}", first.message);
        let requests = http.requests();
        let deletions = requests.iter().filter(|request| request.method == Method::Delete);
        let names: Vec<&str> = deletions.filter_map(|request| request.url.rsplit('/').next()).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn the_details_of_a_reference_round_trip() {
        let all = Details {
            kind: "RayJob".to_owned(),
            failure_tolerance_ms: 1_500,
            lease_ttl_s: Some(60),
            lease_renew_s: Some(10),
            only_if_unused: true,
            deployment: Some("d".to_owned()),
        };
        for details in [all, Details::default()] {
            assert_eq!(Details::read(&details.to_json()), details);
        }
        assert_eq!(Details::read("not JSON"), Details::default());
    }
}
