//! The grant `cluster_services`: Services of the Kubernetes cluster, by namespace and port.
//!
//! ```toml
//! [grants]
//! cluster_services = [{ namespaces = ["ray"], ports = [8265, 10001] }]
//! ```

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Capability, Entry, Grants};
use crate::kubernetes::ServiceName;
use crate::schema::Schema;

/// The grant `cluster_services`.
pub type Grant = Vec<ServiceRule>;

/// Requests and port-forwards to Services of the Kubernetes cluster. Components send requests over HTTP.
pub static CAPABILITY: Capability = Capability {
    name: "cluster_services",
    example: "cluster_services = [{ namespaces = [\"<namespace>\"], ports = [8265] }]",
    interfaces: &["wasi:http/types", "wasi:http/outgoing-handler"],
    entries: |grants| Entry::list("cluster_services", &grants.cluster_services).into_iter().collect(),
    is_granted: |grants| !grants.cluster_services.is_empty(),
    problem,
    restrict,
};

/// Allows ports of the Services in some namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceRule {
    /// The namespaces of the Services. Without them, the rule covers every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// The ports of the Services.
    pub ports: Vec<u16>,
}

impl ServiceRule {
    /// Returns whether the rule allows a port of a Service.
    pub fn allows(&self, service: &ServiceName, port: u16) -> bool {
        self.ports.contains(&port)
            && self.namespaces.as_ref().is_none_or(|allowed| allowed.contains(&service.namespace))
    }

    /// Returns the rule that allows what both rules allow, or none if that is nothing.
    fn intersection(&self, other: &Self) -> Option<Self> {
        let namespaces = match (&self.namespaces, &other.namespaces) {
            (None, any) | (any, None) => any.clone(),
            (Some(left), Some(right)) => {
                Some(left.iter().filter(|namespace| right.contains(namespace)).cloned().collect())
            }
        };
        let ports = self.ports.iter().filter(|port| other.ports.contains(port)).copied().collect();
        Some(Self { namespaces, ports }).filter(|rule| !rule.is_empty())
    }

    /// Returns whether the rule allows nothing.
    fn is_empty(&self) -> bool {
        self.ports.is_empty() || self.namespaces.as_ref().is_some_and(Vec::is_empty)
    }

    fn line(&self) -> String {
        json!(self).to_string()
    }
}

impl Schema for ServiceRule {
    fn schema() -> Value {
        json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["ports"],
            "properties": {
                "namespaces": {
                    "type": "array",
                    "minItems": 1,
                    "items": { "type": "string" },
                    "description": "The namespaces of the Services. Without them, the rule covers every namespace.",
                },
                "ports": {
                    "type": "array",
                    "minItems": 1,
                    "items": { "type": "integer", "minimum": 1, "maximum": u16::MAX },
                    "description": "The ports of the Services.",
                },
            },
        })
    }
}

/// Returns the line of a manifest that would allow a port of a Service.
pub fn missing_grant(service: &ServiceName, port: u16) -> String {
    let namespace = &service.namespace;
    format!("cluster_services = [{{ namespaces = [\"{namespace}\"], ports = [{port}] }}]")
}

fn problem(grants: &Grants) -> Option<String> {
    let rule = grants.cluster_services.iter().find(|rule| rule.is_empty() || rule.ports.contains(&0))?;
    Some(format!(
        "grants.cluster_services: {} allows nothing: name at least one port from 1 to 65535, and one namespace unless `namespaces` is left out",
        rule.line()
    ))
}

fn restrict(grants: &mut Grants, by: &Grants) -> Vec<String> {
    let own = std::mem::take(&mut grants.cluster_services);
    let is_ineffective = |rule: &&ServiceRule| !own.iter().any(|own| own.intersection(rule).is_some());
    let ineffective = by.cluster_services.iter().filter(is_ineffective);
    let ineffective = ineffective.map(|rule| format!("grants.cluster_services: {}", rule.line())).collect();
    let both = |own: &ServiceRule| -> Vec<ServiceRule> {
        by.cluster_services.iter().filter_map(|rule| own.intersection(rule)).collect()
    };
    grants.cluster_services = own.iter().flat_map(both).collect();
    ineffective
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(text: &str) -> Grants {
        toml::from_str(text).unwrap()
    }

    fn allows(grants: &Grants, namespace: &str, port: u16) -> bool {
        let service = ServiceName::new("head", namespace).unwrap();
        grants.cluster_services.iter().any(|rule| rule.allows(&service, port))
    }

    #[test]
    fn a_rule_allows_its_ports_in_its_namespaces() {
        let one = grants("cluster_services = [{ namespaces = ['ray'], ports = [8265] }]");
        assert!(allows(&one, "ray", 8265));
        assert!(!allows(&one, "kube-system", 8265) && !allows(&one, "ray", 443));
        let every = grants("cluster_services = [{ ports = [8265] }]");
        assert!(allows(&every, "kube-system", 8265) && !allows(&every, "ray", 443));
        assert!(toml::from_str::<Grants>("cluster_services = [{ namespaces = ['ray'] }]").is_err());
    }

    #[test]
    fn a_restriction_keeps_what_both_allow_and_names_the_rest() {
        let mut own = grants("cluster_services = [{ ports = [8265, 10001] }]");
        let by =
            grants("cluster_services = [{ namespaces = ['ray'], ports = [8265, 443] }, { ports = [6379] }]");
        assert_eq!(own.restrict(&by), [r#"grants.cluster_services: {"ports":[6379]}"#]);
        assert_eq!(own, grants("cluster_services = [{ namespaces = ['ray'], ports = [8265] }]"));
    }

    #[test]
    fn a_rule_that_allows_nothing_is_an_error() {
        for text in ["[{ ports = [] }]", "[{ namespaces = [], ports = [1] }]", "[{ ports = [0] }]"] {
            let problem = grants(&format!("cluster_services = {text}")).problem().unwrap();
            assert!(problem.contains("allows nothing"), "{problem}");
        }
    }
}
