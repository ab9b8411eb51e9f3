//! A small Kubernetes client: objects as JSON, over the host's `kubernetes.internal`.
//!
//! The host adds the API server's address, TLS and credentials, and checks each request against the
//! grant.

mod answers;
pub mod object;
pub mod watch;

use dagster_ray_sdk::{
    Error,
    clock::Clock,
    http::{Http, Method, Request, Response, Timeouts, url},
    json,
    retry::Policy,
};
use serde_json::{Value, json};

use answers::{Asked, accept};

/// The authority that stands for the API server.
pub const AUTHORITY: &str = "http://kubernetes.internal";

/// A kind of object, as the API server files it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The API group, or nothing for the core group.
    pub group: &'static str,
    /// The group's version.
    pub version: &'static str,
    /// The name in paths, such as `rayclusters`.
    pub resource: &'static str,
    /// The name in documents, such as `RayCluster`.
    pub kind: &'static str,
}

/// KubeRay's cluster.
pub const RAY_CLUSTER: Kind =
    Kind { group: "ray.io", version: "v1", resource: "rayclusters", kind: "RayCluster" };
/// KubeRay's job, with a cluster of its own.
pub const RAY_JOB: Kind = Kind { group: "ray.io", version: "v1", resource: "rayjobs", kind: "RayJob" };
/// A pod.
pub const POD: Kind = Kind { group: "", version: "v1", resource: "pods", kind: "Pod" };
/// What happened to an object.
pub const EVENT: Kind = Kind { group: "", version: "v1", resource: "events", kind: "Event" };

impl Kind {
    /// What stands in documents as `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api/" } else { "/apis/" };
        let namespace = url::encode(namespace);
        format!("{AUTHORITY}{root}{}/namespaces/{namespace}/{}", self.api_version(), self.resource)
    }
}

/// Which objects to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The one of this name.
    Name(String),
    /// Those that this label selector matches. An empty one matches all.
    Labels(String),
    /// Those that this field selector matches.
    Fields(String),
}

impl Selection {
    fn query(&self) -> String {
        match self {
            Self::Name(name) => format!("fieldSelector={}", url::encode(&format!("metadata.name={name}"))),
            Self::Labels(selector) if selector.is_empty() => String::new(),
            Self::Labels(selector) => format!("labelSelector={}", url::encode(selector)),
            Self::Fields(selector) => format!("fieldSelector={}", url::encode(selector)),
        }
    }
}

/// What came of creating an object of a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// It was made, as it is now.
    Made(Value),
    /// There was one of that name, be it by an earlier try whose answer was lost.
    There(Value),
}

/// What came of deleting an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It goes: at once, or when those who watch over it let go.
    Accepted,
    /// It was not there.
    Gone,
    /// It is another one, or has changed, and was left alone.
    Changed,
}

/// Which very object is meant, where more than its name has to be right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// Its uid.
    pub uid: Option<String>,
    /// The state in which it was seen.
    pub resource_version: Option<String>,
}

/// The API server, as the host lends it.
pub struct Kubernetes<H, C> {
    http: H,
    clock: C,
    retry: Policy,
}

impl<H: Http, C: Clock> Kubernetes<H, C> {
    /// An API server that is away for some seconds is waited for.
    pub fn new(http: H, clock: C) -> Self {
        Self { http, clock, retry: Policy { attempts: 6, first_wait_ms: 250, longest_wait_ms: 4_000 } }
    }

    /// The clock.
    pub fn clock(&self) -> &C {
        &self.clock
    }

    /// The HTTP beneath, for services of the cluster.
    pub fn http(&self) -> &H {
        &self.http
    }

    /// One object. That there is none is [`Error::NotFound`].
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Value, Error> {
        let request = Request::get(at(kind, namespace, name));
        self.ask(&request, &Asked { verb: "get", kind, namespace, name: Some(name) }, &[])
    }

    /// Many objects, with the list's `resourceVersion` in its `metadata`. Fields of these names are
    /// `left_out` of the objects: what is long and not looked at would take all memory.
    pub fn list(
        &self,
        kind: Kind,
        namespace: &str,
        which: &Selection,
        left_out: &[&str],
    ) -> Result<Value, Error> {
        let request = Request::get(listing(kind, namespace, &[which.query()]));
        self.ask(&request, &Asked { verb: "list", kind, namespace, name: None }, left_out)
    }

    /// Makes an object, or returns the one of its name that is there.
    ///
    /// Unknown and doubled fields are refused by the API server instead of being dropped
    /// (`fieldValidation=Strict`).
    pub fn create(&self, kind: Kind, namespace: &str, document: &Value) -> Result<Created, Error> {
        let name = object::name(document).to_owned();
        let query = ["fieldValidation=Strict".to_owned()];
        let request = Request::post(listing(kind, namespace, &query)).json(document);
        let asked = Asked { verb: "create", kind, namespace, name: Some(&name) };
        loop {
            match self.ask(&request, &asked, &[]) {
                Ok(made) => return Ok(Created::Made(made)),
                Err(Error::Conflict(_)) => match self.get(kind, namespace, &name) {
                    Ok(there) => return Ok(Created::There(there)),
                    // It has gone in between.
                    Err(Error::NotFound(_)) => self.clock.sleep_ms(200),
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }

    /// Changes an object by a JSON merge patch (RFC 7386), or by the steps of a JSON patch (RFC 6902).
    ///
    /// A merge patch that carries `metadata.uid` only fits that very object, and one that carries
    /// `metadata.resourceVersion` only the state in which it was seen: [`Error::Conflict`] otherwise.
    pub fn patch(&self, kind: Kind, namespace: &str, name: &str, patch: &Value) -> Result<Value, Error> {
        let media =
            if patch.is_array() { "application/json-patch+json" } else { "application/merge-patch+json" };
        let request = Request::new(Method::Patch, at(kind, namespace, name))
            .header("content-type", media)
            .body(json::text(patch));
        self.ask(&request, &Asked { verb: "patch", kind, namespace, name: Some(name) }, &[])
    }

    /// Deletes an object, and lets the garbage collector take what it owns.
    pub fn delete(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        precondition: &Precondition,
    ) -> Result<Deleted, Error> {
        let mut options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
        let known = [("uid", &precondition.uid), ("resourceVersion", &precondition.resource_version)];
        for (field, value) in known {
            if let Some(value) = value {
                options["preconditions"][field] = value.as_str().into();
            }
        }
        let request = Request::delete(at(kind, namespace, name)).json(&options);
        let asked = Asked { verb: "delete", kind, namespace, name: Some(name) };
        match self.ask(&request, &asked, &[]) {
            Ok(_) => Ok(Deleted::Accepted),
            Err(Error::NotFound(_)) => Ok(Deleted::Gone),
            Err(Error::Conflict(_)) => Ok(Deleted::Changed),
            Err(error) => Err(error),
        }
    }

    /// The last lines that a container wrote, or its predecessor where it was restarted.
    pub fn log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        lines: u32,
        previous: bool,
    ) -> Result<String, Error> {
        const LONGEST: u64 = 256 * 1024;

        let address = format!(
            "{}/log?container={}&tailLines={lines}&previous={previous}",
            at(POD, namespace, pod),
            url::encode(container)
        );
        let kind = Kind { resource: "pods/log", ..POD };
        let asked = Asked { verb: "get", kind, namespace, name: Some(pod) };
        accept(self.http.send(Request::get(address))?, &asked)?.text(LONGEST)
    }

    /// A stream of what happens to objects after a state in which they were seen.
    fn stream(
        &self,
        kind: Kind,
        namespace: &str,
        which: &Selection,
        resource_version: &str,
        seconds: u64,
    ) -> Result<Response, Error> {
        /// Between two bookmarks lies about a minute: a connection that is silent for longer is dead.
        const SILENCE_MS: u64 = 150_000;

        let query = [
            "watch=1".to_owned(),
            "allowWatchBookmarks=true".to_owned(),
            format!("resourceVersion={}", url::encode(resource_version)),
            format!("timeoutSeconds={seconds}"),
            which.query(),
        ];
        let request = Request::get(listing(kind, namespace, &query))
            .timeouts(Timeouts { between_bytes_ms: Some(SILENCE_MS), ..Timeouts::default() });
        accept(self.http.send(request)?, &Asked { verb: "watch", kind, namespace, name: None })
    }

    fn ask(&self, request: &Request, asked: &Asked<'_>, left_out: &[&str]) -> Result<Value, Error> {
        self.retry.run(&self.clock, || {
            accept(self.http.send(request.clone())?, asked)?.json(&asked.label(), left_out)
        })
    }
}

fn at(kind: Kind, namespace: &str, name: &str) -> String {
    format!("{}/{}", kind.path(namespace), url::encode(name))
}

fn listing(kind: Kind, namespace: &str, query: &[String]) -> String {
    let query: Vec<&str> = query.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", kind.path(namespace), query.join("&"))
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::testing::{Act, ScriptedHttp, VirtualClock};

    use super::*;

    fn there(status: u16, reason: &str) -> Act {
        let body =
            json!({"kind": "Status", "status": "Failure", "reason": reason, "code": status, "message": "m"});
        Act::answer(status, body.to_string())
    }

    #[test]
    fn an_object_whose_answer_was_lost_is_found_and_not_made_twice() {
        let http = ScriptedHttp::new([
            Act::Fault(Error::unavailable("reset", true)),
            there(409, "AlreadyExists"),
            Act::answer(200, r#"{"metadata": {"name": "a", "uid": "1"}}"#),
        ]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let document = json!({"metadata": {"name": "a"}});
        let Created::There(found) = kubernetes.create(RAY_CLUSTER, "ray", &document).unwrap() else {
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
    fn only_the_very_object_that_was_meant_is_deleted() {
        let http = ScriptedHttp::new([there(409, "Conflict"), there(404, "NotFound")]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let meant = Precondition { uid: Some("1".into()), resource_version: Some("7".into()) };
        assert_eq!(kubernetes.delete(RAY_JOB, "ray", "a", &meant).unwrap(), Deleted::Changed);
        assert_eq!(kubernetes.delete(RAY_JOB, "ray", "a", &meant).unwrap(), Deleted::Gone);
        let body: Value = serde_json::from_slice(&http.requests()[0].body).unwrap();
        assert_eq!(body["preconditions"], json!({"uid": "1", "resourceVersion": "7"}));
    }

    #[test]
    fn an_api_server_that_is_restarted_is_asked_again() {
        let http = ScriptedHttp::new([
            Act::Fault(Error::unavailable("refused", false)),
            there(503, "ServiceUnavailable"),
            there(429, "TooManyRequests"),
            Act::answer(200, r#"{"items": []}"#),
        ]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let which = Selection::Labels("a=b,c=d".to_owned());
        kubernetes.list(RAY_JOB, "ray", &which, &[]).unwrap();
        assert!(http.requests()[3].url.ends_with("/rayjobs?labelSelector=a%3Db%2Cc%3Dd"));
    }
}
