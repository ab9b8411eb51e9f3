//! A small Kubernetes client with JSON objects, over the host's virtual authority `kubernetes.internal`.
//!
//! The host adds the API server's address, TLS and credentials, and checks each request against the
//! component's grant.

pub mod condition;
mod kind;
pub mod object;
mod responses;
pub mod watch;

use std::cell::Cell;

use dagster_ray_jobs::{JobsClient, RayJobs as _, packages::PackageRules};
use dagster_ray_sdk::{
    Error,
    clock::Clock,
    http::{Http, Method, Request, Response, Timeouts, url},
    json,
    retry::Policy,
};
use dagster_ray_submission::patience::Patience;
use serde_json::{Value, json};

use crate::time::parse_http_date;
pub use kind::{AUTHORITY, EVENT, Kind, POD, RAY_CLUSTER, RAY_JOB, RAY_SERVICE, Selection};
use kind::{collection_url, object_url};
use responses::{RequestInfo, check_status};

/// The number of objects in a page of a list.
const PAGE: u32 = 250;
/// The fields of RayClusters and RayJobs that are long, and that no decision about an object uses.
pub const LONG_FIELDS: [&str; 6] = [
    "managedFields",
    "kubectl.kubernetes.io/last-applied-configuration",
    "headGroupSpec",
    "workerGroupSpecs",
    "rayClusterSpec",
    "rayClusterConfig",
];

/// The outcome of creating an object.
#[derive(Clone, Debug, PartialEq)]
pub enum CreateOutcome {
    /// The object was created.
    Created(Value),
    /// An object with the name exists. An earlier attempt whose response was lost may have created it.
    Exists(Value),
}

/// The outcome of deleting an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// The object is deleted at once, or when its finalizers are removed.
    Accepted,
    /// The object does not exist.
    NotFound,
    /// The precondition failed, and the object was not deleted.
    PreconditionFailed,
}

/// The preconditions of a deletion. An absent field is not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// The required uid.
    pub uid: Option<String>,
    /// The required resource version.
    pub resource_version: Option<String>,
}

/// A client of the API server.
pub struct Kubernetes<H, C> {
    http: H,
    clock: C,
    patience: Patience,
    policy: Policy,
    timeouts: Option<Timeouts>,
    rules: PackageRules,
    /// The API server's time in the last response, and when it arrived, in milliseconds of `clock`.
    server_time: Cell<Option<(u64, u64)>>,
}

impl<H: Http, C: Clock> Kubernetes<H, C> {
    /// Creates a client that retries transient errors, such as those of a restarting API server.
    pub fn new(http: H, clock: C) -> Self {
        let patience = Patience::default();
        Self {
            http,
            clock,
            patience,
            policy: patience.request(),
            timeouts: None,
            rules: PackageRules::default(),
            server_time: Cell::new(None),
        }
    }

    /// Sets how long to wait for the API server and for Ray.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self.policy = patience.request();
        self
    }

    /// Sets which files the packages leave out that the clients of [`Kubernetes::ray_jobs`] upload.
    #[must_use]
    pub fn with_package_rules(mut self, rules: PackageRules) -> Self {
        self.rules = rules;
        self
    }

    /// Lets the client, and those of [`Kubernetes::ray_jobs`], try each request once within the timeouts of a
    /// check.
    #[must_use]
    pub fn for_checks(mut self) -> Self {
        self.policy = Policy::ONCE;
        self.timeouts = Some(self.patience.check());
        self
    }

    /// Returns how long to wait for the API server and for Ray.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Returns a client of the Jobs API at a dashboard's URL, with the same limits.
    ///
    /// # Errors
    /// The URL is invalid.
    pub fn ray_jobs(&self, dashboard: &str) -> Result<JobsClient<&H, &C>, Error> {
        let jobs = JobsClient::new(dashboard, &self.http, &self.clock)?.with_rules(self.rules.clone());
        Ok(jobs.limited(self.policy, self.timeouts))
    }

    /// Returns the clock.
    pub fn clock(&self) -> &C {
        &self.clock
    }

    /// Returns the HTTP client, for requests to services in the cluster.
    pub fn http(&self) -> &H {
        &self.http
    }

    /// Returns the API server's time, in seconds since the Unix epoch: the date of its last response, plus the
    /// time since then.
    ///
    /// # Errors
    /// [`Error::Other`] without a response that has a date.
    pub fn now_s(&self) -> Result<u64, Error> {
        let (date_s, at_ms) = self.server_time.get().ok_or_else(|| {
            Error::Other("the API server's responses have no `Date`, so no age can be computed".to_owned())
        })?;
        Ok(date_s + self.clock.now_ms().saturating_sub(at_ms) / 1_000)
    }

    /// Returns an object.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it does not exist.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Value, Error> {
        let request = Request::get(object_url(kind, namespace, name));
        self.send(&request, &RequestInfo { verb: "get", kind, namespace, name: Some(name) }, &[])
    }

    /// Returns a list of objects, with the list's `resourceVersion` in its `metadata`. It is read in pages.
    ///
    /// Fields named in `skipped_fields` are dropped from the objects while parsing, to save memory.
    pub fn list(
        &self,
        kind: Kind,
        namespace: &str,
        which: &Selection,
        skipped_fields: &[&str],
    ) -> Result<Value, Error> {
        self.list_with(&self.policy, kind, namespace, which, skipped_fields)
    }

    /// Returns a list as [`Kubernetes::list`] does, with a retry policy of its own.
    fn list_with(
        &self,
        policy: &Policy,
        kind: Kind,
        namespace: &str,
        which: &Selection,
        skipped_fields: &[&str],
    ) -> Result<Value, Error> {
        let mut items = Vec::new();
        let mut listed = self.pages(policy, kind, namespace, which, skipped_fields, &mut |object| {
            items.push(object);
            Ok(())
        })?;
        listed["items"] = items.into();
        Ok(listed)
    }

    /// Passes the objects of a list to `each`, page by page, so that a long list does not have to fit into memory.
    ///
    /// # Errors
    /// The first error of a request or of `each`. If the list takes longer than the API server keeps its version, the
    /// error is transient, and `each` has seen a part of the list.
    pub fn for_each(
        &self,
        kind: Kind,
        namespace: &str,
        which: &Selection,
        skipped_fields: &[&str],
        each: &mut dyn FnMut(Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.pages(&self.policy, kind, namespace, which, skipped_fields, each).map(|_| ())
    }

    /// Reads a list in pages, and returns the last page without its objects.
    fn pages(
        &self,
        policy: &Policy,
        kind: Kind,
        namespace: &str,
        which: &Selection,
        skipped_fields: &[&str],
        each: &mut dyn FnMut(Value) -> Result<(), Error>,
    ) -> Result<Value, Error> {
        let info = RequestInfo { verb: "list", kind, namespace, name: None };
        let mut next = String::new();
        loop {
            let limit = format!("limit={PAGE}");
            let from =
                if next.is_empty() { String::new() } else { format!("continue={}", url::encode(&next)) };
            let request = Request::get(collection_url(kind, namespace, &[which.query(), limit, from]));
            let mut listed = match self.send_with(policy, &request, &info, skipped_fields) {
                Err(Error::Backend(api)) if api.status == 410 && !next.is_empty() => {
                    let reason = format!("the list of {} expired while it was read", kind.resource);
                    return Err(Error::unavailable(reason, false));
                }
                listed => listed?,
            };
            if let Some(Value::Array(items)) = listed.get_mut("items").map(Value::take) {
                items.into_iter().try_for_each(&mut *each)?;
            }
            match object::text(&listed, "/metadata/continue") {
                Some(more) => next = more.to_owned(),
                None => return Ok(listed),
            }
        }
    }

    /// Creates an object, or returns the existing one with its name.
    ///
    /// With `fieldValidation=Strict`, the API server rejects unknown and duplicate fields instead of dropping
    /// them.
    pub fn create(&self, kind: Kind, namespace: &str, document: &Value) -> Result<CreateOutcome, Error> {
        let name = object::name(document).to_owned();
        let query = ["fieldValidation=Strict".to_owned()];
        let request = Request::post(collection_url(kind, namespace, &query)).json(document);
        let info = RequestInfo { verb: "create", kind, namespace, name: Some(&name) };
        loop {
            match self.send(&request, &info, &[]) {
                Ok(made) => return Ok(CreateOutcome::Created(made)),
                Err(Error::Conflict(_)) => match self.get(kind, namespace, &name) {
                    Ok(existing) => return Ok(CreateOutcome::Exists(existing)),
                    // It was deleted between the two requests.
                    Err(Error::NotFound(_)) => self.clock.sleep_ms(200),
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }

    /// Changes an object by a JSON merge patch (RFC 7386, an object) or a JSON patch (RFC 6902, a list).
    ///
    /// # Errors
    /// [`Error::Conflict`] if a merge patch has a `metadata.uid` or a `metadata.resourceVersion` that differs
    /// from the object's.
    pub fn patch(&self, kind: Kind, namespace: &str, name: &str, patch: &Value) -> Result<Value, Error> {
        let media =
            if patch.is_array() { "application/json-patch+json" } else { "application/merge-patch+json" };
        let request = Request::new(Method::Patch, object_url(kind, namespace, name))
            .header("content-type", media)
            .body(json::text(patch));
        self.send(&request, &RequestInfo { verb: "patch", kind, namespace, name: Some(name) }, &[])
    }

    /// Deletes an object. The garbage collector deletes the objects that it owns in the background.
    pub fn delete(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        precondition: &Precondition,
    ) -> Result<DeleteOutcome, Error> {
        let mut options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
        let known = [("uid", &precondition.uid), ("resourceVersion", &precondition.resource_version)];
        for (field, value) in known {
            if let Some(value) = value {
                options["preconditions"][field] = value.as_str().into();
            }
        }
        let request = Request::delete(object_url(kind, namespace, name)).json(&options);
        let info = RequestInfo { verb: "delete", kind, namespace, name: Some(name) };
        match self.send(&request, &info, &[]) {
            Ok(_) => Ok(DeleteOutcome::Accepted),
            Err(Error::NotFound(_)) => Ok(DeleteOutcome::NotFound),
            Err(Error::Conflict(_)) => Ok(DeleteOutcome::PreconditionFailed),
            Err(error) => Err(error),
        }
    }

    /// Returns the last log lines of a container, or of its previous instance if `previous` is set.
    pub fn log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        lines: u32,
        previous: bool,
    ) -> Result<String, Error> {
        const MAX_LOG_BYTES: u64 = 256 * 1024;

        let address = format!(
            "{}/log?container={}&tailLines={lines}&previous={previous}",
            object_url(POD, namespace, pod),
            url::encode(container)
        );
        let kind = Kind { resource: "pods/log", ..POD };
        let info = RequestInfo { verb: "get", kind, namespace, name: Some(pod) };
        check_status(self.http.send(Request::get(address))?, &info)?.text(MAX_LOG_BYTES)
    }

    /// Opens a watch of the changes after `resource_version`. The API server ends it after `seconds`.
    fn stream(
        &self,
        kind: Kind,
        namespace: &str,
        which: &Selection,
        resource_version: &str,
        seconds: u64,
    ) -> Result<Response, Error> {
        /// The API server sends a bookmark about every minute. A connection that is idle for longer is broken.
        const IDLE_MS: u64 = 150_000;

        let query = [
            "watch=1".to_owned(),
            "allowWatchBookmarks=true".to_owned(),
            format!("resourceVersion={}", url::encode(resource_version)),
            format!("timeoutSeconds={seconds}"),
            which.query(),
        ];
        let request = Request::get(collection_url(kind, namespace, &query))
            .timeouts(Timeouts { between_bytes_ms: Some(IDLE_MS), ..Timeouts::default() });
        check_status(self.http.send(request)?, &RequestInfo { verb: "watch", kind, namespace, name: None })
    }

    fn send(
        &self,
        request: &Request,
        info: &RequestInfo<'_>,
        skipped_fields: &[&str],
    ) -> Result<Value, Error> {
        self.send_with(&self.policy, request, info, skipped_fields)
    }

    fn send_with(
        &self,
        policy: &Policy,
        request: &Request,
        info: &RequestInfo<'_>,
        skipped_fields: &[&str],
    ) -> Result<Value, Error> {
        let timeouts = self.timeouts.unwrap_or(request.timeouts);
        policy.retry(&self.clock, || {
            let response = self.http.send(request.clone().timeouts(timeouts))?;
            if let Some(date_s) = response.header("date").and_then(parse_http_date) {
                self.server_time.set(Some((date_s, self.clock.now_ms())));
            }
            check_status(response, info)?.json(&info.label(), skipped_fields)
        })
    }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::testing::{ScriptedHttp, ScriptedResponse, VirtualClock};

    use super::*;

    fn failure(status: u16, reason: &str) -> ScriptedResponse {
        let body =
            json!({"kind": "Status", "status": "Failure", "reason": reason, "code": status, "message": "m"});
        ScriptedResponse::new(status, body.to_string())
    }

    #[test]
    fn create_returns_the_existing_object_when_the_response_is_lost() {
        let http = ScriptedHttp::new([
            ScriptedResponse::Error(Error::unavailable("reset", true)),
            failure(409, "AlreadyExists"),
            ScriptedResponse::new(200, r#"{"metadata": {"name": "a", "uid": "1"}}"#),
        ]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let document = json!({"metadata": {"name": "a"}});
        let CreateOutcome::Exists(found) = kubernetes.create(RAY_CLUSTER, "ray", &document).unwrap() else {
            panic!()
        };
        assert_eq!(object::uid(&found), "1");
        let sent = http.requests();
        assert_eq!(
            sent[0].url,
            "http://kubernetes.internal/apis/ray.io/v1/namespaces/ray/rayclusters?fieldValidation=Strict"
        );
        assert!(sent[2].url.ends_with("/rayclusters/a"));
    }

    #[test]
    fn delete_sends_preconditions_and_finds_the_object_missing_when_the_response_is_lost() {
        let lost = ScriptedResponse::Error(Error::unavailable("reset", true));
        let http = ScriptedHttp::new([failure(409, "Conflict"), lost, failure(404, "NotFound")]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let precondition = Precondition { uid: Some("1".into()), resource_version: Some("7".into()) };
        assert_eq!(
            kubernetes.delete(RAY_JOB, "ray", "a", &precondition).unwrap(),
            DeleteOutcome::PreconditionFailed
        );
        assert_eq!(kubernetes.delete(RAY_JOB, "ray", "a", &precondition).unwrap(), DeleteOutcome::NotFound);
        let body: Value = serde_json::from_slice(&http.requests()[0].body).unwrap();
        assert_eq!(body["preconditions"], json!({"uid": "1", "resourceVersion": "7"}));
    }

    #[test]
    fn a_client_for_checks_tries_each_request_once_within_the_timeouts() {
        let http = ScriptedHttp::with_rule(|_| Some(failure(503, "ServiceUnavailable")));
        let clock = VirtualClock::default();
        let kubernetes = Kubernetes::new(&http, &clock).for_checks();
        assert!(kubernetes.get(RAY_JOB, "ray", "a").is_err());
        assert!(kubernetes.ray_jobs("http://head:8265").unwrap().get("j").is_err());
        assert_eq!((clock.now_ms(), http.requests().len()), (0, 2));
        let limit = Patience::default().check();
        assert!(http.requests().iter().all(|request| request.timeouts == limit));
    }

    #[test]
    fn requests_to_a_restarting_api_server_are_retried() {
        let http = ScriptedHttp::new([
            ScriptedResponse::Error(Error::unavailable("refused", false)),
            failure(503, "ServiceUnavailable"),
            failure(429, "TooManyRequests"),
            ScriptedResponse::Broken {
                status: 200,
                chunks: vec![br#"{"items": ["#.to_vec()],
                error: Error::unavailable("reset", true),
            },
            ScriptedResponse::new(200, r#"{"items": []}"#),
        ]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let which = Selection::Labels("a=b,c=d".to_owned());
        kubernetes.list(RAY_JOB, "ray", &which, &[]).unwrap();
        assert!(http.requests()[4].url.ends_with("/rayjobs?labelSelector=a%3Db%2Cc%3Dd&limit=250"));
    }

    #[test]
    fn a_long_list_is_read_in_pages() {
        let page = |names: &[&str], more: &str| {
            let items: Vec<Value> = names.iter().map(|name| json!({"metadata": {"name": name}})).collect();
            let listed = json!({"metadata": {"resourceVersion": "7", "continue": more}, "items": items});
            ScriptedResponse::new(200, listed.to_string())
        };
        let http = ScriptedHttp::new([page(&["a", "b"], "t/1"), page(&["c"], "")]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let which = Selection::Labels(String::new());
        let listed = kubernetes.list(RAY_CLUSTER, "ray", &which, &[]).unwrap();
        let names: Vec<&str> = object::elements(&listed, "/items").map(object::name).collect();
        assert_eq!((names.as_slice(), object::resource_version(&listed)), (["a", "b", "c"].as_slice(), "7"));
        let urls: Vec<String> = http.requests().into_iter().map(|request| request.url).collect();
        assert!(urls[0].ends_with("/rayclusters?limit=250"), "{}", urls[0]);
        assert!(urls[1].ends_with("/rayclusters?limit=250&continue=t%2F1"), "{}", urls[1]);

        let http = ScriptedHttp::new([page(&["a"], "t"), failure(410, "Expired")]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let expired = kubernetes.list(RAY_CLUSTER, "ray", &which, &[]).unwrap_err();
        assert!(expired.is_transient() && expired.message().contains("expired"), "{}", expired.message());
    }
}
