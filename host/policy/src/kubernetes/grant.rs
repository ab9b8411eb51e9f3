//! The `kubernetes` grant: rules for requests to the Kubernetes API.
//!
//! ```toml
//! [grants]
//! kubernetes = [
//!     { group = "ray.io", resources = ["rayclusters"], verbs = ["get", "list", "watch"] },
//!     { group = "", resources = ["pods/log"], verbs = ["get"], namespaces = ["ray"] },
//! ]
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::request_info::{RequestInfo, Verb};
use crate::schema::Schema;

/// Allows verbs on resources of one API group, like a rule of a Kubernetes RBAC Role.
///
/// A request is allowed if one rule allows it. Wildcards are not supported.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The API group; `""` is the core group.
    pub group: String,
    /// Plural resource names, with a subresource if needed: `pods`, `pods/log`.
    pub resources: Vec<Resource>,
    /// The allowed verbs.
    pub verbs: Vec<Verb>,
    /// The namespaces of the rule. Without them, the rule covers every namespace and cluster-scoped
    /// requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
}

impl Schema for Rule {
    fn schema() -> Value {
        let resource = json!({ "type": "string", "pattern": "^[a-z0-9-]+(/[a-z0-9-]+)?$" });
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["group", "resources", "verbs"],
            "properties": {
                "group": {
                    "type": "string",
                    "description": "The API group; \"\" is the core group.",
                },
                "resources": {
                    "type": "array",
                    "minItems": 1,
                    "items": resource,
                    "description": "Plural resource names, with a subresource if needed: pods, pods/log.",
                },
                "verbs": {
                    "type": "array",
                    "minItems": 1,
                    "items": { "enum": Verb::ALL },
                    "description": "The allowed verbs.",
                },
                "namespaces": {
                    "type": "array",
                    "minItems": 1,
                    "items": { "type": "string" },
                    "description": "The namespaces of the rule. Without them, the rule covers every namespace and cluster-scoped requests.",
                },
            },
        })
    }
}

/// A resource of a rule, such as `pods/log`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Resource(String);

impl Resource {
    /// Returns the plural name, with a subresource if it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Resource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts: Vec<_> = text.split('/').collect();
        let is_name = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if parts.len() <= 2 && parts.iter().all(is_name) {
            return Ok(Self(text));
        }
        Err(format!(
            "{text:?} is not a resource: write its plural in lower case, such as \"pods\" or \"pods/log\""
        ))
    }
}

impl Rule {
    /// Returns whether the rule allows a request.
    pub fn allows(&self, info: &RequestInfo) -> bool {
        let in_namespace = match (&self.namespaces, &info.namespace) {
            (None, _) => true,
            (Some(allowed), Some(namespace)) => allowed.contains(namespace),
            // A request across all namespaces includes namespaces that the rule does not.
            (Some(_), None) => false,
        };
        in_namespace
            && self.group == info.group
            && self.verbs.contains(&info.verb)
            && self.resources.iter().any(|resource| resource.0 == info.resource)
    }

    /// Returns the rule that allows what both rules allow, or none if that is nothing.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let namespaces = match (&self.namespaces, &other.namespaces) {
            (None, any) | (any, None) => any.clone(),
            (Some(left), Some(right)) => Some(intersect(left, right)),
        };
        let both = Self {
            group: self.group.clone(),
            resources: intersect(&self.resources, &other.resources),
            verbs: intersect(&self.verbs, &other.verbs),
            namespaces,
        };
        (self.group == other.group && !both.is_empty()).then_some(both)
    }

    /// Returns whether the rule allows no request.
    pub fn is_empty(&self) -> bool {
        let nowhere = self.namespaces.as_ref().is_some_and(Vec::is_empty);
        self.resources.is_empty() || self.verbs.is_empty() || nowhere
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resources: Vec<_> = self.resources.iter().map(|resource| resource.0.as_str()).collect();
        let verbs: Vec<_> = self.verbs.iter().map(ToString::to_string).collect();
        write!(f, "{{ group = {:?}, resources = {resources:?}, verbs = {verbs:?}", self.group)?;
        if let Some(namespaces) = &self.namespaces {
            write!(f, ", namespaces = {namespaces:?}")?;
        }
        f.write_str(" }")
    }
}

fn intersect<T: Clone + PartialEq>(left: &[T], right: &[T]) -> Vec<T> {
    left.iter().filter(|item| right.contains(item)).cloned().collect()
}

/// Returns the line of a manifest that would allow a request.
pub fn suggested_grant(info: &RequestInfo) -> String {
    let namespaces =
        info.namespace.as_ref().map_or_else(String::new, |name| format!(", namespaces = [{name:?}]"));
    format!(
        "kubernetes = [{{ group = {:?}, resources = [{:?}], verbs = [\"{}\"]{namespaces} }}]",
        info.group, info.resource, info.verb
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::request_info;

    fn rules(text: &str) -> Result<Vec<Rule>, toml::de::Error> {
        #[derive(Deserialize)]
        struct Grants {
            kubernetes: Vec<Rule>,
        }
        toml::from_str::<Grants>(text).map(|grants| grants.kubernetes)
    }

    fn info(method: &str, path: &str) -> RequestInfo {
        request_info::parse(&method.parse().unwrap(), &path.parse().unwrap()).unwrap().info.unwrap()
    }

    fn allowed(rules: &[Rule], method: &str, path: &str) -> bool {
        rules.iter().any(|rule| rule.allows(&info(method, path)))
    }

    #[test]
    fn a_rule_allows_its_verbs_on_its_resources_in_its_namespaces() {
        let rules = rules(
            "kubernetes = [
                { group = 'ray.io', resources = ['rayclusters'], verbs = ['get', 'watch'] },
                { group = '', resources = ['pods/log'], verbs = ['get'], namespaces = ['ray'] },
            ]",
        )
        .unwrap();
        let allowed = |method, path| allowed(&rules, method, path);
        assert!(allowed("GET", "/apis/ray.io/v1/namespaces/a/rayclusters/c"));
        assert!(allowed("GET", "/apis/ray.io/v1/rayclusters?watch=1"));
        assert!(!allowed("GET", "/apis/ray.io/v1/rayclusters"));
        assert!(!allowed("DELETE", "/apis/ray.io/v1/namespaces/a/rayclusters/c"));
        assert!(!allowed("GET", "/apis/ray.io/v1/namespaces/a/rayclusters/c/status"));
        assert!(!allowed("GET", "/apis/other.io/v1/namespaces/a/rayclusters/c"));
        assert!(!allowed("GET", "/api/v1/namespaces/a/rayclusters/c"));
        assert!(allowed("GET", "/api/v1/namespaces/ray/pods/p/log"));
        assert!(!allowed("GET", "/api/v1/namespaces/ray/pods/p"));
        assert!(!allowed("GET", "/api/v1/namespaces/other/pods/p/log"));
    }

    #[test]
    fn a_namespaced_rule_does_not_allow_requests_across_all_namespaces() {
        let rules = rules(
            "kubernetes = [{ group = '', resources = ['pods'], verbs = ['list'], namespaces = ['ray'] }]",
        );
        let rules = rules.unwrap();
        assert!(allowed(&rules, "GET", "/api/v1/namespaces/ray/pods"));
        assert!(!allowed(&rules, "GET", "/api/v1/pods"));
    }

    #[test]
    fn the_suggested_line_allows_the_denied_request_and_no_other() {
        for (method, path) in [
            ("GET", "/apis/ray.io/v1/namespaces/a/rayclusters?watch=1"),
            ("DELETE", "/api/v1/namespaces/b/pods"),
            ("POST", "/api/v1/namespaces"),
            ("GET", "/api/v1/namespaces/c/pods/p/log"),
        ] {
            let info = info(method, path);
            let granted = rules(&suggested_grant(&info)).unwrap();
            assert!(granted.iter().any(|rule| rule.allows(&info)), "{}", suggested_grant(&info));
            assert!(!allowed(&granted, "PUT", "/api/v1/namespaces/c/secrets/s"));
        }
    }

    #[test]
    fn wildcards_and_unknown_verbs_are_rejected_with_a_suggestion() {
        let text = rules("kubernetes = [{ group = '', resources = ['*'], verbs = ['get'] }]").unwrap_err();
        assert!(text.to_string().contains("pods/log"), "{text}");
        let text =
            rules("kubernetes = [{ group = '', resources = ['pods'], verbs = ['read'] }]").unwrap_err();
        assert!(text.to_string().contains("deletecollection"), "{text}");
    }

    #[test]
    fn the_intersection_of_two_rules_allows_what_both_allow() {
        let rule = |text: &str| rules(&format!("kubernetes = [{text}]")).unwrap().remove(0);
        let own = rule("{ group = '', resources = ['pods', 'pods/log'], verbs = ['get', 'list'] }");
        let other =
            rule("{ group = '', resources = ['pods'], verbs = ['get', 'delete'], namespaces = ['n'] }");
        let both = rule("{ group = '', resources = ['pods'], verbs = ['get'], namespaces = ['n'] }");
        assert_eq!(own.intersection(&other), Some(both.clone()));
        assert_eq!(other.intersection(&own), Some(both));
        assert_eq!(
            own.intersection(&rule("{ group = 'ray.io', resources = ['pods'], verbs = ['get'] }")),
            None
        );
    }
}
