//! Asks the API server what the account of the configuration may do, and which resources it serves.

use dagster_ray_policy::kubernetes::Rule;
use dagster_ray_policy::kubernetes::rbac::{self, Permission, RbacRule};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use serde::Serialize;
use serde_json::{Map, Value};

use super::cluster::{Access, Cluster};
use super::failure::Failure;

/// What an account may do in a namespace, compared with what a component needs.
#[derive(Debug, Clone, Serialize)]
pub struct Review {
    /// The API server, and where its address comes from.
    pub location: String,
    /// Whether this process runs in a pod of the cluster.
    pub is_inside: bool,
    /// The rules that the component and the host need.
    pub required: Vec<RbacRule>,
    /// The rules that the account lacks.
    pub missing: Vec<RbacRule>,
    /// The API groups of the required custom resources.
    pub groups: Vec<Group>,
}

/// An API group.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// The group's name.
    pub name: String,
    /// The served versions; empty if the API server does not have the group.
    pub versions: Vec<String>,
    /// Required resources that no version has.
    pub unserved: Vec<String>,
    /// The fields of `spec` and `status` of each kind, as `RayJob.spec`. Empty if they cannot be read.
    pub fields: Map<String, Value>,
}

/// Compares what the account may do with the grants of a component in a namespace.
///
/// With `tokens`, the host reads the tokens of clusters. `outside` is for an account that is used outside the cluster;
/// by default, the location of this process decides.
pub(crate) async fn review(
    cluster: &Cluster,
    grants: &[Rule],
    namespace: &str,
    tokens: bool,
    outside: Option<bool>,
) -> Result<Review, Failure> {
    let access = cluster.access().await?;
    access.audit();
    let reviewed = review_with(&access, grants, namespace, tokens, outside).await;
    if let Err(failure) = &reviewed {
        cluster.forget_if_stale(&access, failure).await;
    }
    reviewed
}

async fn review_with(
    access: &Access,
    grants: &[Rule],
    namespace: &str,
    tokens: bool,
    outside: Option<bool>,
) -> Result<Review, Failure> {
    let is_inside = access.is_inside();
    let required = rbac::required(grants, namespace, outside.unwrap_or(!is_inside), tokens);
    let mut denied = Vec::new();
    for permission in required.iter().flat_map(RbacRule::permissions) {
        if !is_allowed(access, &permission, namespace).await? {
            denied.push(permission);
        }
    }
    let mut groups = Vec::new();
    for rule in &required {
        for name in rule.api_groups.iter().filter(|name| is_custom(name)) {
            if !groups.iter().any(|known: &Group| known.name == *name) {
                groups.push(group(access, name, &required).await?);
            }
        }
    }
    let missing = rbac::rules_for(&denied);
    Ok(Review { location: access.location.to_string(), is_inside, required, missing, groups })
}

/// Returns whether an API group is that of custom resources. Kubernetes' own groups are always served.
fn is_custom(group: &str) -> bool {
    group.contains('.') && !group.ends_with(".k8s.io")
}

async fn is_allowed(access: &Access, permission: &Permission, namespace: &str) -> Result<bool, Failure> {
    let (resource, subresource) = match permission.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (permission.resource.as_str(), None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(permission.group.clone()),
                namespace: Some(namespace.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(permission.verb.clone()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews = Api::<SelfSubjectAccessReview>::all(access.client.clone());
    let answer =
        reviews.create(&PostParams::default(), &review).await.map_err(|error| access.failure(&error))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Reads the versions and resources of a group. Every account that has logged in may do so.
async fn group(access: &Access, name: &str, required: &[RbacRule]) -> Result<Group, Failure> {
    let all = access.client.list_api_groups().await.map_err(|error| access.failure(&error))?;
    let found = all.groups.into_iter().find(|group| group.name == name);
    let versions: Vec<String> =
        found.map(|group| group.versions.into_iter().map(|one| one.version).collect()).unwrap_or_default();
    let mut served = Vec::new();
    let mut fields = Map::new();
    for version in &versions {
        let list = access.client.list_api_group_resources(&format!("{name}/{version}")).await;
        let list = list.map_err(|error| access.failure(&error))?;
        served.extend(list.resources.into_iter().map(|resource| resource.name));
        if fields.is_empty() {
            fields = fields_of(access, name, version).await;
        }
    }
    let wanted = required.iter().filter(|rule| rule.api_groups.iter().any(|group| group == name));
    let unserved = wanted
        .flat_map(|rule| rule.resources.iter())
        .filter(|resource| !served.contains(resource))
        .cloned()
        .collect();
    Ok(Group { name: name.to_owned(), versions, unserved, fields })
}

/// Reads the names of the fields of a version's kinds. An API server without OpenAPI v3 has none.
async fn fields_of(access: &Access, group: &str, version: &str) -> Map<String, Value> {
    let request = http::Request::get(format!("/openapi/v3/apis/{group}/{version}")).body(Vec::new());
    let Ok(request) = request else { return Map::new() };
    let Ok(document) = access.client.request::<Value>(request).await else { return Map::new() };
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let mut fields = Map::new();
    for (name, schema) in schemas.into_iter().flatten() {
        let kind = name.rsplit('.').next().unwrap_or(name);
        for part in ["spec", "status"] {
            let names = schema.pointer(&format!("/properties/{part}/properties")).and_then(Value::as_object);
            if let Some(names) = names {
                let names: Vec<Value> = names.keys().map(|name| name.clone().into()).collect();
                fields.insert(format!("{kind}.{part}"), names.into());
            }
        }
    }
    fields
}
