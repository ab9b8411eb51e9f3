//! The policy of an instance and the choices of a configuration, as arbitrary text: both are parsed or rejected
//! with a message, the operator may choose everything, and a launch user no connection without a policy.
//!
//! The text is split at the first NUL: the policy, then the choices as JSON.

use dagster_ray_policy::instance::{Choice, InstancePolicy, Source};

use crate::text;

/// Fields that choose a connection or a component.
const CONNECTION: [&str; 6] =
    ["address", "backend", "backend_sha256", "directory", "kube_config", "kube_context"];

/// Checks the properties for one input. Panics if one is violated.
pub fn check(data: &[u8]) {
    let (policy, choices) = text(data).split_once('\0').unwrap_or((text(data), "[]"));
    let policy = match InstancePolicy::parse(policy, "dagster-ray.toml") {
        Ok(policy) => policy,
        Err(error) => {
            assert!(error.to_string().starts_with("the policy dagster-ray.toml: "), "{error}");
            InstancePolicy::default()
        }
    };
    let Ok(choices) = serde_json::from_str::<Vec<Choice>>(choices) else { return };
    if let Err(refusal) = policy.check(&choices) {
        let text = refusal.to_string();
        assert!(text.contains(&refusal.line) && refusal.line.contains(" = ["), "{text}");
        assert!(choices.iter().any(|choice| refusal.path.starts_with(&choice.path)), "{text}");
    }
    let of_operator: Vec<_> =
        choices.iter().cloned().map(|choice| Choice { source: Source::Operator, ..choice }).collect();
    assert_eq!(policy.check(&of_operator), Ok(()));
    for choice in choices {
        let choice = Choice { source: Source::RunConfig, ..choice };
        let is_allowed = InstancePolicy::default().check(std::slice::from_ref(&choice)).is_ok();
        assert!(!is_allowed || !CONNECTION.contains(&choice.field.as_str()), "{choice:?}");
    }
}
