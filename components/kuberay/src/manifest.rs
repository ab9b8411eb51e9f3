//! Completes the user's RayCluster and RayJob manifests with defaults.
//!
//! Manifests are parsed anew for each call, so the defaults of one call cannot leak into another.

use dagster_ray_sdk::{
    Error, json,
    model::{Attributes, FieldError},
};
use serde_json::{Map, Value, json};

use crate::{kubernetes::Kind, names};

/// The default name of the head's container.
const HEAD: &str = "ray-head";
const WORKER: &str = "ray-worker";

/// The user's part of a manifest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    /// The field `metadata`.
    pub metadata: Map<String, Value>,
    /// The field `spec`.
    pub spec: Map<String, Value>,
}

impl Template {
    /// Reads a manifest. `path` is the option that holds it.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] with every mistake in the top-level fields.
    pub fn read(manifest: Option<Value>, kind: Kind, path: &str) -> Result<Self, Error> {
        let mut template = Self::default();
        let mut mistakes = Vec::new();
        let fields = match manifest {
            None | Some(Value::Null) => return Ok(template),
            Some(Value::Object(fields)) => fields,
            Some(_) => return Err(Error::invalid(path, "is not an object", Some("write {\"spec\": {…}}"))),
        };
        for (key, value) in fields {
            let at = format!("{path}.{key}");
            match (key.as_str(), value) {
                (_, Value::Null) | ("status", _) => {}
                ("metadata", Value::Object(metadata)) => template.metadata = metadata,
                ("spec", Value::Object(spec)) => template.spec = spec,
                ("metadata" | "spec", _) => {
                    mistakes.push(field_error(&at, "is not an object", Some("write an object")))
                }
                ("apiVersion", value) if value.as_str() == Some(&kind.api_version()) => {}
                ("kind", value) if value.as_str() == Some(kind.kind) => {}
                ("apiVersion", value) => {
                    mistakes.push(field_error(
                        &at,
                        &format!("is {}", json::text(&value)),
                        Some(&format!("write {}", kind.api_version())),
                    ));
                }
                ("kind", value) => {
                    mistakes.push(field_error(
                        &at,
                        &format!("is {}", json::text(&value)),
                        Some(&format!("write {}", kind.kind)),
                    ));
                }
                _ => mistakes.push(field_error(
                    &at,
                    "is not a field of a manifest",
                    Some("the known fields are apiVersion, kind, metadata and spec"),
                )),
            }
        }
        template.metadata.retain(|_, value| !value.is_null());
        if mistakes.is_empty() { Ok(template) } else { Err(Error::InvalidConfig(mistakes)) }
    }

    /// Returns the manifest of a RayCluster like the one that KubeRay creates for this RayJob.
    #[must_use]
    pub fn ray_cluster(&self) -> Value {
        json!({
            "metadata": {
                "labels": self.metadata.get("labels"),
                "annotations": self.metadata.get("annotations"),
            },
            "spec": self.spec.get("rayClusterSpec"),
        })
    }

    /// Returns `metadata.namespace`.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.metadata.get("namespace").and_then(Value::as_str)
    }

    /// Returns `metadata.name`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.metadata.get("name").and_then(Value::as_str)
    }

    /// Builds the complete manifest. `labels` and `annotations` override the user's, because later calls
    /// select objects by them.
    #[must_use]
    pub fn document(
        self,
        kind: Kind,
        namespace: &str,
        name: &str,
        labels: impl IntoIterator<Item = (String, String)>,
        annotations: impl IntoIterator<Item = (String, Value)>,
    ) -> Value {
        let Self { mut metadata, mut spec } = self;
        // Until here, a null field prevented the default from being filled in.
        spec.retain(|_, value| !value.is_null());
        metadata.insert("name".to_owned(), name.into());
        metadata.insert("namespace".to_owned(), namespace.into());
        extend(&mut metadata, "labels", labels.into_iter().map(|(key, value)| (key, value.into())));
        extend(&mut metadata, "annotations", annotations);
        json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": metadata, "spec": spec})
    }
}

/// Completes a RayClusterSpec with KubeRay's defaults, and adds the image and environment variables to every
/// container that does not set them.
///
/// Also checks rules that KubeRay checks only after the object was created, and then never starts it.
pub fn complete_cluster(
    spec: &mut Map<String, Value>,
    path: &str,
    image: Option<&str>,
    env: &Attributes,
) -> Result<(), Error> {
    let mut completion = Completion { image, env, mistakes: Vec::new() };
    let head = spec.entry("headGroupSpec").or_insert_with(|| json!({}));
    completion.group(head, &format!("{path}.headGroupSpec"), HEAD);
    match spec.get_mut("workerGroupSpecs") {
        None | Some(Value::Null) => {}
        Some(Value::Array(groups)) => {
            for (index, group) in groups.iter_mut().enumerate() {
                let at = format!("{path}.workerGroupSpecs[{index}]");
                completion.group(group, &at, WORKER);
                completion.replicas(group, &at);
            }
        }
        Some(_) => {
            let hint = Some("write a list of worker groups");
            completion.add_mistake(&format!("{path}.workerGroupSpecs"), "is not a list", hint);
        }
    }
    if completion.mistakes.is_empty() { Ok(()) } else { Err(Error::InvalidConfig(completion.mistakes)) }
}

/// Returns the name of an object: the requested one, the manifest's, or the default.
///
/// # Errors
/// [`Error::InvalidConfig`] if a requested name or the manifest's is not valid.
pub fn object_name(
    requested: Option<&str>,
    template: &Template,
    default: impl FnOnce() -> String,
    max_length: usize,
    path: &str,
) -> Result<String, Error> {
    let Some(name) = requested.or_else(|| template.name()) else { return Ok(default()) };
    names::check(name, max_length, path)?;
    Ok(name.to_owned())
}

struct Completion<'a> {
    image: Option<&'a str>,
    env: &'a Attributes,
    mistakes: Vec<FieldError>,
}

impl Completion<'_> {
    fn add_mistake(&mut self, path: &str, problem: &str, hint: Option<&str>) {
        self.mistakes.push(field_error(path, problem, hint));
    }

    fn group(&mut self, group: &mut Value, path: &str, container: &str) {
        let Some(fields) = self.object(group, path) else { return };
        // KubeRay before 1.5 requires this field, even if it is empty.
        let parameters = fields.entry("rayStartParams").or_insert_with(|| json!({}));
        if parameters.is_null() {
            *parameters = json!({});
        }
        let mut field = fields.entry("template").or_insert_with(|| json!({}));
        let mut at = format!("{path}.template");
        let Some(template) = self.object(field, &at) else { return };
        field = template.entry("spec").or_insert_with(|| json!({}));
        at.push_str(".spec");
        let Some(pod) = self.object(field, &at) else { return };
        let containers = pod.entry("containers").or_insert_with(|| json!([]));
        at.push_str(".containers");
        let Value::Array(containers) = containers else {
            self.add_mistake(&at, "is not a list", Some("write a list of containers"));
            return;
        };
        if containers.is_empty() {
            containers.push(json!({"name": container}));
        }
        for (index, one) in containers.iter_mut().enumerate() {
            let at = format!("{at}[{index}]");
            let Some(fields) = self.object(one, &at) else { continue };
            if index == 0 && !fields.contains_key("name") {
                fields.insert("name".to_owned(), container.into());
            }
            self.image(fields, &at);
            self.environment(fields, &at);
        }
    }

    fn image(&mut self, container: &mut Map<String, Value>, path: &str) {
        let has_image = container.get("image").and_then(Value::as_str).is_some_and(|image| !image.is_empty());
        match self.image {
            _ if has_image => {}
            Some(image) => {
                container.insert("image".to_owned(), image.into());
            }
            None => self.add_mistake(
                &format!("{path}.image"),
                "is missing",
                Some("set an image with Ray here, in the option `image` or in the run tag dagster/image"),
            ),
        }
    }

    fn environment(&mut self, container: &mut Map<String, Value>, path: &str) {
        if self.env.is_empty() {
            return;
        }
        let variables = container.entry("env").or_insert_with(|| json!([]));
        if variables.is_null() {
            *variables = json!([]);
        }
        let Value::Array(variables) = variables else {
            self.add_mistake(
                &format!("{path}.env"),
                "is not a list",
                Some("write [{\"name\": …, \"value\": …}]"),
            );
            return;
        };
        for (name, value) in self.env {
            // The container's own variable is more specific.
            if !variables.iter().any(|one| one.get("name").and_then(Value::as_str) == Some(name)) {
                variables.push(json!({"name": name, "value": value}));
            }
        }
    }

    fn replicas(&mut self, group: &Value, path: &str) {
        let number = |key: &str| group.get(key).and_then(Value::as_i64);
        for key in ["replicas", "minReplicas", "maxReplicas"] {
            if let Some(count @ ..0) = number(key) {
                self.add_mistake(&format!("{path}.{key}"), &format!("is {count}"), Some("write 0 or more"));
            }
        }
        if let (Some(least), Some(most)) = (number("minReplicas"), number("maxReplicas"))
            && least > most
        {
            self.add_mistake(
                &format!("{path}.minReplicas"),
                &format!("is {least}, more than maxReplicas ({most})"),
                Some("write at most maxReplicas"),
            );
        }
    }

    fn object<'v>(&mut self, value: &'v mut Value, path: &str) -> Option<&'v mut Map<String, Value>> {
        if value.is_null() {
            *value = json!({});
        }
        if !value.is_object() {
            self.add_mistake(path, "is not an object", Some("write an object"));
        }
        value.as_object_mut()
    }
}

/// Returns whether a field is present and not null.
pub(crate) fn is_set(fields: &Map<String, Value>, field: &str) -> bool {
    fields.get(field).is_some_and(|value| !value.is_null())
}

/// Adds entries to the map under `key` in the metadata.
fn extend(metadata: &mut Map<String, Value>, key: &str, more: impl IntoIterator<Item = (String, Value)>) {
    let mut all = metadata.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
    all.extend(more);
    metadata.insert(key.to_owned(), all.into());
}

pub(crate) fn field_error(path: &str, problem: &str, hint: Option<&str>) -> FieldError {
    FieldError { path: path.to_owned(), problem: problem.to_owned(), hint: hint.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::RAY_CLUSTER;

    fn completed(spec: Value, image: Option<&str>) -> Result<Value, Error> {
        let Value::Object(mut spec) = spec else { panic!() };
        let env = vec![("A".to_owned(), "ours".to_owned()), ("B".to_owned(), "ours".to_owned())];
        complete_cluster(&mut spec, "ray_cluster.spec", image, &env).map(|()| spec.into())
    }

    #[test]
    fn an_empty_spec_is_completed_to_a_head_without_workers() {
        assert_eq!(
            completed(json!({}), Some("i")).unwrap(),
            json!({"headGroupSpec": {"rayStartParams": {}, "template": {"spec": {"containers": [{
                "name": "ray-head",
                "image": "i",
                "env": [{"name": "A", "value": "ours"}, {"name": "B", "value": "ours"}],
            }]}}}})
        );
    }

    #[test]
    fn a_container_keeps_its_image_and_variables_and_completion_is_idempotent() {
        let container = json!({"name": "w", "image": "own", "env": [{"name": "A", "valueFrom": {}}]});
        let spec = json!({"workerGroupSpecs": [{"template": {"spec": {"containers": [container, {"name": "side"}]}}}]});
        let spec = completed(spec, Some("i")).unwrap();
        let containers = &spec["workerGroupSpecs"][0]["template"]["spec"]["containers"];
        assert_eq!(containers[0]["image"], "own");
        assert_eq!(
            containers[0]["env"],
            json!([{"name": "A", "valueFrom": {}}, {"name": "B", "value": "ours"}])
        );
        assert_eq!(containers[1]["image"], "i");
        assert_eq!(completed(spec.clone(), Some("other")).unwrap(), spec);
    }

    #[test]
    fn rules_that_kuberay_checks_late_are_reported_with_their_paths() {
        let spec = json!({"workerGroupSpecs": [{"minReplicas": 3, "maxReplicas": 1}]});
        let Err(Error::InvalidConfig(mistakes)) = completed(spec, None) else { panic!() };
        let paths: Vec<&str> = mistakes.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "ray_cluster.spec.headGroupSpec.template.spec.containers[0].image",
                "ray_cluster.spec.workerGroupSpecs[0].template.spec.containers[0].image",
                "ray_cluster.spec.workerGroupSpecs[0].minReplicas",
            ]
        );
    }

    #[test]
    fn given_labels_override_the_users_and_unknown_fields_are_rejected() {
        let manifest =
            json!({"kind": "RayCluster", "metadata": {"labels": {"a": "1", "dagster/run-id": "x"}}});
        let template = Template::read(Some(manifest), RAY_CLUSTER, "ray_cluster").unwrap();
        let labels = [("dagster/run-id".to_owned(), "r".to_owned())];
        let document = template.document(RAY_CLUSTER, "ray", "n", labels, []);
        assert_eq!(document["metadata"]["labels"], json!({"a": "1", "dagster/run-id": "r"}));
        let wrong = json!({"kind": "RayJob", "apiVersion": "ray.io/v1alpha1", "specs": {}});
        let Err(Error::InvalidConfig(mistakes)) = Template::read(Some(wrong), RAY_CLUSTER, "ray_cluster")
        else {
            panic!();
        };
        assert_eq!(mistakes.len(), 3);
    }
}
