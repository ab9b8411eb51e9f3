//! Converts responses of the API server to errors.
//!
//! A failure is a `Status` object (Kubernetes API, `meta/v1`). The error follows from its code, reason and
//! details. Only unknown fields are parsed from its message.

use dagster_ray_sdk::{
    Error,
    http::Response,
    json,
    model::{ApiError, FieldError, RetryHint},
};
use serde_json::Value;

use super::{Kind, object};

/// The maximum size of a failure's body, in bytes.
const TEXT_LIMIT: u64 = 64 * 1024;

/// A request, for error messages and access rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestInfo<'a> {
    /// The verb, as in a Kubernetes Role.
    pub(super) verb: &'static str,
    pub(super) kind: Kind,
    pub(super) namespace: &'a str,
    pub(super) name: Option<&'a str>,
}

impl RequestInfo<'_> {
    /// Returns the request as text, for messages.
    pub(super) fn label(&self) -> String {
        let name = self.name.map(|name| format!("/{name}")).unwrap_or_default();
        format!("{} {} {}{name}", self.verb, self.kind.resource, self.namespace)
    }

    /// Returns the rule of a Role that allows the request, as YAML.
    fn rule(&self) -> String {
        format!(
            "- {{apiGroups: [\"{}\"], resources: [\"{}\"], verbs: [\"{}\"]}}",
            self.kind.group, self.kind.resource, self.verb
        )
    }
}

/// The fields of a `Status` that this component reads.
#[derive(Debug, Default)]
struct Status {
    reason: String,
    message: String,
    code: u16,
    name: String,
    kind: String,
    causes: Vec<Cause>,
    retry_after_ms: Option<u64>,
}

#[derive(Debug)]
struct Cause {
    reason: String,
    message: String,
    field: String,
}

impl Status {
    /// Parses the body of a failure. Returns `None` if it is not a `Status`.
    fn read(text: &str) -> Option<Self> {
        let document = json::parse(text.as_bytes()).ok()?;
        let part = |document, pointer| object::text(document, pointer).unwrap_or_default().to_owned();
        let number = |pointer| document.pointer(pointer).and_then(Value::as_u64);
        (object::text(&document, "/kind") == Some("Status")).then(|| Self {
            reason: part(&document, "/reason"),
            message: part(&document, "/message"),
            code: number("/code").and_then(|code| u16::try_from(code).ok()).unwrap_or_default(),
            name: part(&document, "/details/name"),
            kind: part(&document, "/details/kind"),
            causes: object::elements(&document, "/details/causes")
                .map(|cause| Cause {
                    reason: part(cause, "/reason"),
                    message: part(cause, "/message"),
                    field: part(cause, "/field"),
                })
                .collect(),
            retry_after_ms: number("/details/retryAfterSeconds").map(|seconds| seconds.saturating_mul(1_000)),
        })
    }
}

/// Returns a successful response, and converts any other to an error.
pub(super) fn check_status(mut response: Response, info: &RequestInfo<'_>) -> Result<Response, Error> {
    if (200..300).contains(&response.status) {
        return Ok(response);
    }
    let retry_after_ms = response.retry_after_ms();
    let text = response.text(TEXT_LIMIT)?;
    Err(failure(response.status, retry_after_ms, &text, info))
}

/// Converts the body of a failure to an error.
///
/// `retry_after_ms` is the wait that the response's header asks for. The one in a `Status` takes precedence.
pub(super) fn failure(code: u16, retry_after_ms: Option<u64>, text: &str, info: &RequestInfo<'_>) -> Error {
    let status = Status::read(text);
    let known = status.is_some();
    let status = status.unwrap_or_default();
    let code = if status.code == 0 { code } else { status.code };
    let label = info.label();
    let message = if status.message.is_empty() { text.trim() } else { status.message.as_str() };
    let refused = |reason: &str, message: String| {
        Error::Backend(ApiError {
            status: code,
            reason: reason.to_owned(),
            message,
            details: known.then(|| text.to_owned()),
        })
    };
    match code {
        // The host adds the credentials, and its message says what is wrong with them.
        401 => refused("Unauthorized", format!("{label}: {message}")),
        403 => refused(
            "Forbidden",
            format!(
                "{label}: {message}; if a rule is missing, add this one to a Role in the namespace {}: {}",
                info.namespace,
                info.rule()
            ),
        ),
        404 if status.kind == "namespaces" => {
            Error::NotFound(format!("{label}: the namespace {} does not exist", info.namespace))
        }
        404 if known && !status.name.is_empty() => {
            Error::NotFound(format!("there is no {} {}/{}", info.kind.kind, info.namespace, status.name))
        }
        404 if known && status.reason == "NotFound" && info.name.is_some() && info.verb != "create" => {
            Error::NotFound(format!("{label}: {message}"))
        }
        404 if info.kind.group == "ray.io" => refused(
            "KubeRayMissing",
            format!(
                "{label}: the custom resource {}.ray.io/{} is not installed; install the KubeRay operator, 1.4 or later",
                info.kind.resource, info.kind.version
            ),
        ),
        404 => refused("NotFound", format!("{label}: {message}")),
        409 => Error::Conflict(format!("{label}: {message}")),
        // The API server rejects a patch with another uid, because the uid is immutable.
        422 if status.causes.iter().any(|cause| cause.field == "metadata.uid") => {
            Error::Conflict(format!("{label}: the object was replaced by another one with the same name"))
        }
        422 => Error::InvalidConfig(invalid_fields(&status, message)),
        400 if let Some(fields) = unknown_fields(message) => Error::InvalidConfig(fields),
        429 | 500..=599 => Error::Unavailable(RetryHint {
            reason: format!("{label}: the API server answered {code}: {message}"),
            after_ms: status.retry_after_ms.or(retry_after_ms),
            maybe_applied: code != 429 && !matches!(info.verb, "get" | "list" | "watch"),
        }),
        _ => refused(
            if status.reason.is_empty() { "Refused" } else { &status.reason },
            format!("{label}: {message}"),
        ),
    }
}

fn invalid_fields(status: &Status, message: &str) -> Vec<FieldError> {
    if status.causes.is_empty() {
        return vec![FieldError { path: "manifest".to_owned(), problem: message.to_owned(), hint: None }];
    }
    status
        .causes
        .iter()
        .map(|cause| FieldError {
            path: cause.field.clone(),
            problem: if cause.message.is_empty() { cause.reason.clone() } else { cause.message.clone() },
            hint: None,
        })
        .collect()
}

/// Parses the fields that strict validation rejects, such as `unknown field "spec.workers"`. The API server
/// names them only in the message.
fn unknown_fields(message: &str) -> Option<Vec<FieldError>> {
    let (_, list) = message.split_once("strict decoding error: ")?;
    let fields: Vec<FieldError> = list
        .split(", ")
        .filter_map(|one| {
            let (problem, path) = one.split_once('"')?;
            Some(FieldError {
                path: path.trim_end_matches('"').to_owned(),
                problem: format!("is an {}", problem.trim()),
                hint: Some("remove it, or install a version of KubeRay that has this field".to_owned()),
            })
        })
        .collect();
    (!fields.is_empty()).then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{RAY_CLUSTER, RAY_JOB},
        *,
    };

    fn info(verb: &'static str) -> RequestInfo<'static> {
        RequestInfo { verb, kind: RAY_CLUSTER, namespace: "ray", name: Some("a") }
    }

    #[test]
    fn a_forbidden_request_names_the_rule_to_add() {
        let text = r#"{"kind":"Status","code":403,"reason":"Forbidden","message":"rayclusters.ray.io is forbidden: User \"x\" cannot create"}"#;
        let Error::Backend(api) = failure(403, None, text, &info("create")) else { panic!() };
        assert_eq!((api.status, api.reason.as_str()), (403, "Forbidden"));
        for part in ["create", "rayclusters", "namespace ray", "apiGroups: [\"ray.io\"]", "User \"x\""] {
            assert!(api.message.contains(part), "{}", api.message);
        }
    }

    #[test]
    fn the_wait_in_a_status_takes_precedence_over_the_header() {
        let after_ms = |text| failure(429, Some(1_000), text, &info("list")).retry_after_ms();
        assert_eq!(
            after_ms(r#"{"kind":"Status","code":429,"details":{"retryAfterSeconds":7}}"#),
            Some(7_000)
        );
        assert_eq!(after_ms(r#"{"kind":"Status","code":429}"#), Some(1_000));
    }

    #[test]
    fn a_missing_object_namespace_and_custom_resource_are_distinguished() {
        let gone = r#"{"kind":"Status","code":404,"reason":"NotFound","message":"m","details":{"name":"a","kind":"rayclusters"}}"#;
        assert!(
            matches!(failure(404, None, gone, &info("get")), Error::NotFound(text) if text.contains("ray/a"))
        );
        let space = r#"{"kind":"Status","code":404,"reason":"NotFound","message":"m","details":{"name":"ray","kind":"namespaces"}}"#;
        assert!(
            matches!(failure(404, None, space, &info("create")), Error::NotFound(text) if text.contains("namespace ray"))
        );
        let info = RequestInfo { verb: "list", kind: RAY_JOB, namespace: "ray", name: None };
        for text in [
            "404 page not found\n",
            r#"{"kind":"Status","code":404,"reason":"NotFound","message":"the server could not find the requested resource","details":{}}"#,
        ] {
            let Error::Backend(api) = failure(404, None, text, &info) else { panic!() };
            assert_eq!(api.reason, "KubeRayMissing");
        }
    }

    #[test]
    fn an_invalid_manifest_is_reported_field_by_field() {
        let text = r#"{"kind":"Status","code":422,"reason":"Invalid","message":"m","details":{"causes":[{"reason":"FieldValueRequired","message":"Required value","field":"spec.workerGroupSpecs[0].groupName"}]}}"#;
        let Error::InvalidConfig(fields) = failure(422, None, text, &info("create")) else { panic!() };
        assert_eq!(fields[0].path, "spec.workerGroupSpecs[0].groupName");
        let text = r#"{"kind":"Status","code":400,"reason":"BadRequest","message":"RayCluster in version \"v1\" cannot be handled as a RayCluster: strict decoding error: unknown field \"spec.workers\", unknown field \"spec.x\""}"#;
        let Error::InvalidConfig(fields) = failure(400, None, text, &info("create")) else { panic!() };
        assert_eq!((fields[0].path.as_str(), fields[1].path.as_str()), ("spec.workers", "spec.x"));
    }
}
