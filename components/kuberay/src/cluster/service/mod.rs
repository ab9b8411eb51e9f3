//! RayServices: clusters that serve applications, and outlive the run that deploys them.
//!
//! A change of the specification is an upgrade of KubeRay's type `NewCluster`: a new cluster gets the traffic once its
//! applications are healthy, and the old one serves until then.

pub mod state;
pub mod wait;

use dagster_ray_sdk::{
    Error,
    bindings::cluster::{ClusterSpec, Creation},
    clock::Clock,
    http::Http,
    json::{self, Map, Value},
};
use dagster_ray_submission::ids;
use serde_json::json;

use crate::{
    annotations,
    cluster::{Clusters, Details},
    kubernetes::{CreateOutcome, RAY_SERVICE, object},
    labels,
    manifest::{Template, complete_cluster, object_name},
    names,
    options::ClusterOptions,
};

/// The annotation with the digest of the deployed specification, on the RayService and on the pods of the head. On the
/// pods, it lets KubeRay make a new cluster for a change that it would otherwise apply to the cluster in use.
pub const VERSION: &str = "dagster-ray/service-version";

const PATH: &str = "ray_service";

/// RayServices on an API server.
pub struct Services<'c, H, C> {
    clusters: &'c Clusters<H, C>,
}

impl<'c, H: Http, C: Clock> Services<'c, H, C> {
    /// Creates an instance on the API server of these clusters.
    pub fn new(clusters: &'c Clusters<H, C>) -> Self {
        Self { clusters }
    }

    /// Creates a RayService, or updates the one with its name. An unchanged specification is not written.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the RayService is not of the owner's deployment.
    pub fn deploy(
        &self,
        spec: &ClusterSpec,
        options: &ClusterOptions,
        manifest: Map<String, Value>,
    ) -> Result<Creation, Error> {
        let (namespace, document) = self.document(spec, options, manifest)?;
        let details = Details { kind: RAY_SERVICE.kind.to_owned(), ..Details::default() };
        let reference = |found: &Value| Clusters::<H, C>::reference(RAY_SERVICE, found, &details);
        let kubernetes = &self.clusters.kubernetes;
        let existing = match kubernetes.create(RAY_SERVICE, &namespace, &document)? {
            CreateOutcome::Created(made) => return Ok(Creation::Created(reference(&made))),
            CreateOutcome::Exists(existing) => existing,
        };
        let name = object::name(&existing);
        let label = format!("the RayService {namespace}/{name}");
        labels::require_owned(&existing, &spec.owner.deployment, &label)?;
        if object::is_deleting(&existing) {
            return Err(Error::unavailable(format!("{label} is being deleted"), false));
        }
        let version = |found: &Value| object::annotations(found).get(VERSION).map(|text| (*text).to_owned());
        if version(&existing) == version(&document) {
            return Ok(Creation::Joined(reference(&existing)));
        }
        // A merge patch would keep fields that the new specification leaves out.
        let mut patch = vec![
            json!({"op": "test", "path": "/metadata/uid", "value": object::uid(&existing)}),
            json!({"op": "replace", "path": "/spec", "value": document["spec"]}),
        ];
        for field in ["labels", "annotations"] {
            let known = existing.pointer(&format!("/metadata/{field}")).and_then(Value::as_object);
            let mut all = known.cloned().unwrap_or_default();
            all.extend(document["metadata"][field].as_object().cloned().unwrap_or_default());
            patch.push(json!({"op": "add", "path": format!("/metadata/{field}"), "value": all}));
        }
        let changed = kubernetes.patch(RAY_SERVICE, &namespace, name, &patch.into())?;
        Ok(Creation::Joined(reference(&changed)))
    }

    /// Returns the namespace and the complete manifest.
    fn document(
        &self,
        spec: &ClusterSpec,
        options: &ClusterOptions,
        manifest: Map<String, Value>,
    ) -> Result<(String, Value), Error> {
        if labels::value(&spec.owner.deployment).is_empty() {
            let hint = Some("deploy it from a Dagster run");
            return Err(Error::invalid(PATH, "has no Dagster deployment that owns it", hint));
        }
        let mut template = Template::read(Some(Value::Object(manifest)), RAY_SERVICE, PATH)?;
        let namespace = template
            .namespace()
            .or(options.namespace.as_deref())
            .unwrap_or(&self.clusters.namespace)
            .to_owned();
        let path = format!("{PATH}.metadata.name");
        let name = object_name(spec.name.as_deref(), &template, String::new, names::MAX_JOB_NAME, &path)?;
        if name.is_empty() {
            return Err(Error::invalid(&path, "is missing", Some("write a name, which clients use")));
        }
        let upgrade = template.spec.entry("upgradeStrategy").or_insert_with(|| json!({"type": "NewCluster"}));
        if upgrade.get("type").is_some_and(|kind| kind == "None") {
            return Err(Error::invalid(
                &format!("{PATH}.spec.upgradeStrategy.type"),
                "is None, so KubeRay would not deploy a new version",
                Some("write NewCluster"),
            ));
        }
        let path = format!("{PATH}.spec.rayClusterConfig");
        let hint = Some("write a RayClusterSpec");
        let cluster = template.spec.entry("rayClusterConfig").or_insert_with(|| json!({}));
        let Value::Object(fields) = cluster else {
            return Err(Error::invalid(&path, "is not an object", hint));
        };
        complete_cluster(fields, &path, spec.image.as_deref(), &spec.env)?;
        let version = ids::digest(&json::text(&template.spec.clone().into()));
        let pods = template
            .spec
            .get_mut("rayClusterConfig")
            .and_then(|cluster| cluster.pointer_mut("/headGroupSpec/template"))
            .ok_or_else(|| Error::invalid(&path, "has no head", hint))?;
        if !pods["metadata"].is_object() {
            pods["metadata"] = json!({});
        }
        if !pods["metadata"]["annotations"].is_object() {
            pods["metadata"]["annotations"] = json!({});
        }
        pods["metadata"]["annotations"][VERSION] = version.as_str().into();
        let mut origin = labels::normalized(&spec.labels);
        origin.insert(labels::ROLE.to_owned(), labels::ROLE_SERVICE.to_owned());
        // A service outlives the run that deploys it.
        origin.remove(labels::RUN_ID);
        labels::set_deployment(&mut origin, &spec.owner.deployment);
        let mut notes = annotations::for_owner(&spec.owner, None, false);
        notes.insert(VERSION.to_owned(), version.into());
        Ok((namespace.clone(), template.document(RAY_SERVICE, &namespace, &name, origin, notes)))
    }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::{
        bindings::cluster::{ClusterRef, Owner},
        http::Method,
        testing::{ScriptedHttp, ScriptedResponse, VirtualClock},
    };

    use super::*;
    use crate::kubernetes::Kubernetes;

    fn spec(ray_service: Value) -> ClusterSpec {
        ClusterSpec {
            name: None,
            owner: Owner {
                deployment: "d".to_owned(),
                run_id: "r".to_owned(),
                step_key: None,
                resource_key: None,
                holder: "h".to_owned(),
            },
            image: Some("i".to_owned()),
            labels: vec![("dagster/run-id".to_owned(), "r".to_owned())],
            env: Vec::new(),
            options: json!({"ray_service": ray_service}).to_string(),
        }
    }

    fn service(config: &str) -> Value {
        json!({"metadata": {"name": "s"}, "spec": {"serveConfigV2": config}})
    }

    /// Deploys a service where one of `deployment` exists, and returns the patch of it.
    fn deploy(deployment: Option<&str>, before: &str, after: &str) -> Result<Option<Value>, Error> {
        let made = std::cell::RefCell::new(None::<Value>);
        let deployment = deployment.map(str::to_owned);
        let http = ScriptedHttp::with_rule(move |request| {
            let body = serde_json::from_slice::<Value>(&request.body).unwrap_or_default();
            let exists = json!({"kind": "Status", "code": 409, "reason": "AlreadyExists"});
            let mut made = made.borrow_mut();
            Some(match (request.method, made.clone()) {
                (Method::Post, None) => {
                    let mut first = body;
                    first["metadata"]["uid"] = "1".into();
                    first["metadata"]["labels"][labels::DEPLOYMENT_ID] = deployment.clone().into();
                    *made = Some(first.clone());
                    ScriptedResponse::new(201, first.to_string())
                }
                (Method::Post, Some(_)) => ScriptedResponse::new(409, exists.to_string()),
                (_, found) => ScriptedResponse::new(200, found.unwrap_or_default().to_string()),
            })
        });
        let clusters = Clusters::new(Kubernetes::new(&http, VirtualClock::default()), "ray".to_owned());
        clusters.create(&spec(service(before)))?;
        clusters.create(&spec(service(after)))?;
        let mut patches = http.requests().into_iter().filter(|request| request.method == Method::Patch);
        Ok(patches.next_back().map(|request| serde_json::from_slice(&request.body).unwrap()))
    }

    #[test]
    fn a_changed_specification_replaces_the_old_one_and_makes_a_new_cluster() {
        let patch = deploy(Some("d"), "applications: []", "applications: [a]").unwrap().unwrap();
        let value = |path: &str| {
            let steps = patch.as_array().unwrap();
            steps.iter().find(|step| step["path"] == path).unwrap()["value"].clone()
        };
        assert_eq!(value("/metadata/uid"), "1");
        let spec = value("/spec");
        assert_eq!(spec["serveConfigV2"], "applications: [a]");
        assert_eq!(spec["upgradeStrategy"]["type"], "NewCluster");
        let pods = spec.pointer("/rayClusterConfig/headGroupSpec/template/metadata/annotations").unwrap();
        assert_eq!(pods[VERSION], value("/metadata/annotations")[VERSION]);
        let found = value("/metadata/labels");
        assert_eq!((&found[labels::DEPLOYMENT_ID], found.get(labels::RUN_ID)), (&"d".into(), None));
    }

    #[test]
    fn an_unchanged_specification_is_not_written() {
        assert_eq!(deploy(Some("d"), "same", "same"), Ok(None));
    }

    #[test]
    fn a_service_of_another_deployment_is_neither_updated_nor_deleted() {
        for owner in [Some("other"), None] {
            assert!(matches!(deploy(owner, "a", "b"), Err(Error::Conflict(_))), "{owner:?}");
        }
        let found =
            json!({"metadata": {"name": "s", "labels": {labels::DEPLOYMENT_ID: "other"}}}).to_string();
        let http = ScriptedHttp::new([ScriptedResponse::new(200, found)]);
        let clusters = Clusters::new(Kubernetes::new(&http, VirtualClock::default()), "ray".to_owned());
        let details = Some(r#"{"kind": "RayService", "deployment": "d"}"#.to_owned());
        let reference = ClusterRef { name: "s".into(), namespace: None, uid: None, details };
        assert!(matches!(clusters.delete(&reference), Err(Error::Conflict(_))));
        assert!(http.requests().iter().all(|request| request.method == Method::Get));
    }

    #[test]
    fn mistakes_that_kuberay_would_report_late_are_reported_at_once() {
        let http = ScriptedHttp::new([]);
        let clusters = Clusters::new(Kubernetes::new(&http, VirtualClock::default()), "ray".to_owned());
        for (manifest, path) in [
            (json!({"spec": {}}), "ray_service.metadata.name"),
            (
                json!({"metadata": {"name": "s"}, "spec": {"upgradeStrategy": {"type": "None"}}}),
                "ray_service.spec.upgradeStrategy.type",
            ),
            (json!({"metadata": {"name": "S_"}}), "ray_service.metadata.name"),
        ] {
            let Err(Error::InvalidConfig(fields)) = clusters.create(&spec(manifest)) else {
                panic!("{path}")
            };
            assert_eq!(fields[0].path, path);
        }
        assert!(http.requests().is_empty());
    }
}
