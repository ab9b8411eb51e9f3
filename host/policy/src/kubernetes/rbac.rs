//! Rules of a Kubernetes Role: what an account must be allowed so that a component and the host can work.

use std::fmt;

use serde::Serialize;

use super::grant::Rule;

/// A rule of a Role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RbacRule {
    /// The API groups; `""` is the core group.
    pub api_groups: Vec<String>,
    /// Plural resource names, with a subresource if needed.
    pub resources: Vec<String>,
    /// The verbs.
    pub verbs: Vec<String>,
}

/// A rule that the host itself needs, besides the grant `kubernetes` of a component.
#[derive(Debug, Clone, Copy)]
pub struct HostRule {
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
}

/// Reads the Service of a cluster's head, outside the cluster.
pub const GET_SERVICE: HostRule = HostRule { group: "", resource: "services", verbs: &["get"] };
/// Finds the pods of a Service, outside the cluster.
pub const LIST_ENDPOINTS: HostRule =
    HostRule { group: "discovery.k8s.io", resource: "endpointslices", verbs: &["list"] };
/// Reads the pod to which a port is forwarded, outside the cluster.
pub const GET_POD: HostRule = HostRule { group: "", resource: "pods", verbs: &["get"] };
/// Forwards a port to a pod, outside the cluster. Since Kubernetes 1.35 a port-forward needs the verb `create`,
/// whatever the request's method; earlier versions need `get`:
/// <https://github.com/kubernetes/kubernetes/pull/134577>.
pub const FORWARD: HostRule = HostRule { group: "", resource: "pods/portforward", verbs: &["get", "create"] };
/// Reads the token of a RayCluster with `authOptions: {mode: token}`.
pub const GET_SECRET: HostRule = HostRule { group: "", resource: "secrets", verbs: &["get"] };

/// The rules for a process outside the cluster.
const OUTSIDE: [HostRule; 4] = [GET_SERVICE, LIST_ENDPOINTS, GET_POD, FORWARD];

/// One verb on one resource of an API group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// The API group; `""` is the core group.
    pub group: String,
    /// The plural resource name, with a subresource if needed.
    pub resource: String,
    /// The verb.
    pub verb: String,
}

impl Rule {
    /// Returns the rule as it is written in a Role.
    pub fn rbac(&self) -> RbacRule {
        RbacRule {
            api_groups: vec![self.group.clone()],
            resources: self.resources.iter().map(|resource| resource.as_str().to_owned()).collect(),
            verbs: self.verbs.iter().map(ToString::to_string).collect(),
        }
    }
}

impl HostRule {
    /// Returns the rule as it is written in a Role.
    pub fn rbac(self) -> RbacRule {
        RbacRule {
            api_groups: vec![self.group.to_owned()],
            resources: vec![self.resource.to_owned()],
            verbs: self.verbs.iter().map(|&verb| verb.to_owned()).collect(),
        }
    }
}

impl RbacRule {
    /// Returns the single permissions of the rule.
    pub fn permissions(&self) -> Vec<Permission> {
        let mut all = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                all.extend(self.verbs.iter().map(|verb| Permission {
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                }));
            }
        }
        all
    }
}

/// Returns the rules that a component needs in a namespace: those of its grant, and those of the host.
///
/// With `outside`, the process is not in a pod of the cluster. With `tokens`, the clusters have tokens. A rule of the
/// host is left out if the grant has it.
pub fn required(grants: &[Rule], namespace: &str, outside: bool, tokens: bool) -> Vec<RbacRule> {
    let here = |rule: &&Rule| {
        rule.namespaces.as_ref().is_none_or(|names| names.iter().any(|name| name == namespace))
    };
    let mut rules: Vec<RbacRule> = grants.iter().filter(here).map(Rule::rbac).collect();
    let granted: Vec<Permission> = rules.iter().flat_map(RbacRule::permissions).collect();
    let of_host = OUTSIDE.into_iter().filter(|_| outside).chain(Some(GET_SECRET).filter(|_| tokens));
    let of_host = of_host.map(HostRule::rbac);
    rules.extend(of_host.filter(|rule| rule.permissions().iter().any(|one| !granted.contains(one))));
    rules
}

/// Returns the rules that allow these permissions and no others, one for each resource.
pub fn rules_for(permissions: &[Permission]) -> Vec<RbacRule> {
    let mut rules: Vec<RbacRule> = Vec::new();
    for Permission { group, resource, verb } in permissions {
        let known = rules.iter_mut().find(|rule| {
            rule.api_groups == std::slice::from_ref(group) && rule.resources == std::slice::from_ref(resource)
        });
        match known {
            Some(rule) if rule.verbs.contains(verb) => {}
            Some(rule) => rule.verbs.push(verb.clone()),
            None => rules.push(RbacRule {
                api_groups: vec![group.clone()],
                resources: vec![resource.clone()],
                verbs: vec![verb.clone()],
            }),
        }
    }
    rules
}

/// Writes the rule as one line of YAML.
impl fmt::Display for RbacRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<_> = self
            .api_groups
            .iter()
            .map(|group| if group.is_empty() { "\"\"" } else { group.as_str() })
            .collect();
        write!(
            f,
            "{{ apiGroups: [{}], resources: [{}], verbs: [{}] }}",
            groups.join(", "),
            self.resources.join(", "),
            self.verbs.join(", ")
        )
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rbac().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(text: &str) -> Vec<Rule> {
        #[derive(serde::Deserialize)]
        struct Grants {
            kubernetes: Vec<Rule>,
        }
        toml::from_str::<Grants>(&format!("kubernetes = [{text}]")).unwrap().kubernetes
    }

    fn lines(rules: &[RbacRule]) -> Vec<String> {
        rules.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_process_outside_the_cluster_needs_the_rules_of_port_forwards_too() {
        let grants = grants("{ group = '', resources = ['pods', 'events'], verbs = ['get'] }");
        let own = "{ apiGroups: [\"\"], resources: [pods, events], verbs: [get] }";
        assert_eq!(lines(&required(&grants, "ray", false, false)), [own]);
        assert_eq!(
            lines(&required(&grants, "ray", true, true)),
            [
                own,
                "{ apiGroups: [\"\"], resources: [services], verbs: [get] }",
                "{ apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list] }",
                "{ apiGroups: [\"\"], resources: [pods/portforward], verbs: [get, create] }",
                "{ apiGroups: [\"\"], resources: [secrets], verbs: [get] }",
            ]
        );
    }

    #[test]
    fn a_rule_of_another_namespace_is_not_required() {
        let grants = grants("{ group = '', resources = ['pods'], verbs = ['get'], namespaces = ['ray'] }");
        assert_eq!(required(&grants, "ray", false, false).len(), 1);
        assert!(required(&grants, "other", false, false).is_empty());
    }

    #[test]
    fn missing_permissions_become_one_rule_for_each_resource() {
        let rule =
            grants("{ group = 'ray.io', resources = ['rayjobs', 'rayclusters'], verbs = ['get', 'patch'] }");
        let mut missing = rule[0].rbac().permissions();
        missing.remove(0);
        assert_eq!(
            lines(&rules_for(&missing)),
            [
                "{ apiGroups: [ray.io], resources: [rayjobs], verbs: [patch] }",
                "{ apiGroups: [ray.io], resources: [rayclusters], verbs: [get, patch] }",
            ]
        );
    }
}
