//! Kinds of objects, selections of them, and their URLs.

use dagster_ray_sdk::http::url;

/// The base URL of the API server.
pub const AUTHORITY: &str = "http://kubernetes.internal";

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The API group. Empty for the core group.
    pub group: &'static str,
    /// The version of the API group.
    pub version: &'static str,
    /// The resource name in URLs, such as `rayclusters`.
    pub resource: &'static str,
    /// The kind in manifests, such as `RayCluster`.
    pub kind: &'static str,
}

/// KubeRay's RayCluster.
pub const RAY_CLUSTER: Kind =
    Kind { group: "ray.io", version: "v1", resource: "rayclusters", kind: "RayCluster" };
/// KubeRay's RayJob.
pub const RAY_JOB: Kind = Kind { group: "ray.io", version: "v1", resource: "rayjobs", kind: "RayJob" };
/// KubeRay's RayService.
pub const RAY_SERVICE: Kind =
    Kind { group: "ray.io", version: "v1", resource: "rayservices", kind: "RayService" };
/// A pod.
pub const POD: Kind = Kind { group: "", version: "v1", resource: "pods", kind: "Pod" };
/// An event.
pub const EVENT: Kind = Kind { group: "", version: "v1", resource: "events", kind: "Event" };

impl Kind {
    /// Returns the `apiVersion` of manifests.
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

/// Selects objects for a list or a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The object with this name.
    Name(String),
    /// The objects that match this label selector. An empty selector matches all objects.
    Labels(String),
    /// The objects that match this field selector.
    Fields(String),
}

impl Selection {
    pub(super) fn query(&self) -> String {
        match self {
            Self::Name(name) => format!("fieldSelector={}", url::encode(&format!("metadata.name={name}"))),
            Self::Labels(selector) if selector.is_empty() => String::new(),
            Self::Labels(selector) => format!("labelSelector={}", url::encode(selector)),
            Self::Fields(selector) => format!("fieldSelector={}", url::encode(selector)),
        }
    }
}

/// Returns the URL of an object.
pub(super) fn object_url(kind: Kind, namespace: &str, name: &str) -> String {
    format!("{}/{}", kind.path(namespace), url::encode(name))
}

/// Returns the URL of the objects of a kind, with the query's parts that are not empty.
pub(super) fn collection_url(kind: Kind, namespace: &str, query: &[String]) -> String {
    let query: Vec<&str> = query.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{}{mark}{}", kind.path(namespace), query.join("&"))
}
