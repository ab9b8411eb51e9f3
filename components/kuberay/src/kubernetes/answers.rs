//! What the API server's answers mean.
//!
//! A failure is a `Status` object (Kubernetes API, `meta/v1`): its reason and its details decide,
//! not its text.

use dagster_ray_sdk::{
    Error,
    http::Response,
    json,
    model::{ApiError, FieldError, RetryHint},
};
use serde_json::Value;

use super::{Kind, object};

/// How much of a failure's text is read.
const TEXT_LIMIT: u64 = 64 * 1024;

/// What was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The verb, as a Role names it.
    pub(super) verb: &'static str,
    pub(super) kind: Kind,
    pub(super) namespace: &'a str,
    pub(super) name: Option<&'a str>,
}

impl Asked<'_> {
    /// What was asked, for a message.
    pub(super) fn label(&self) -> String {
        let name = self.name.map(|name| format!("/{name}")).unwrap_or_default();
        format!("{} {} {}{name}", self.verb, self.kind.resource, self.namespace)
    }

    fn rule(&self) -> String {
        format!(
            "- {{apiGroups: [\"{}\"], resources: [\"{}\"], verbs: [\"{}\"]}}",
            self.kind.group, self.kind.resource, self.verb
        )
    }
}

/// What is looked at of a `Status`.
#[derive(Debug, Default)]
struct Status {
    reason: String,
    message: String,
    code: u16,
    name: String,
    kind: String,
    causes: Vec<Cause>,
    retry_after_s: Option<u64>,
}

#[derive(Debug)]
struct Cause {
    reason: String,
    message: String,
    field: String,
}

impl Status {
    /// Reads a failure's text, if it is a `Status`.
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
            retry_after_s: number("/details/retryAfterSeconds"),
        })
    }
}

/// Passes a success on, and turns everything else into the error that it means.
pub(super) fn accept(mut response: Response, asked: &Asked<'_>) -> Result<Response, Error> {
    if (200..300).contains(&response.status) {
        return Ok(response);
    }
    let retry_after = response.header("retry-after").and_then(|seconds| seconds.trim().parse().ok());
    let text = response.text(TEXT_LIMIT)?;
    Err(failure(response.status, retry_after, &text, asked))
}

/// The error that a failure's document means.
pub(super) fn failure(code: u16, retry_after_s: Option<u64>, text: &str, asked: &Asked<'_>) -> Error {
    let status = Status::read(text);
    let known = status.is_some();
    let status = status.unwrap_or_default();
    let code = if status.code == 0 { code } else { status.code };
    let label = asked.label();
    let said = if status.message.is_empty() { text.trim() } else { status.message.as_str() };
    let refused = |reason: &str, message: String| {
        Error::Backend(ApiError {
            status: code,
            reason: reason.to_owned(),
            message,
            details: known.then(|| text.to_owned()),
        })
    };
    match code {
        // The host has the credentials, and has said what is wrong with them.
        401 => refused("Unauthorized", format!("{label}: {said}")),
        403 => refused(
            "Forbidden",
            format!(
                "{label}: {said}; if a rule is missing, add this one to a Role in the namespace {}: {}",
                asked.namespace,
                asked.rule()
            ),
        ),
        404 if status.kind == "namespaces" => {
            Error::NotFound(format!("{label}: the namespace {} does not exist", asked.namespace))
        }
        404 if known && !status.name.is_empty() => {
            Error::NotFound(format!("there is no {} {}/{}", asked.kind.kind, asked.namespace, status.name))
        }
        404 if known && status.reason == "NotFound" && asked.name.is_some() && asked.verb != "create" => {
            Error::NotFound(format!("{label}: {said}"))
        }
        404 if asked.kind.group == "ray.io" => refused(
            "KubeRayMissing",
            format!(
                "{label}: the cluster does not know {}.ray.io/{}: KubeRay's custom resources are not installed; install the KubeRay operator, 1.4 or later",
                asked.kind.resource, asked.kind.version
            ),
        ),
        404 => refused("NotFound", format!("{label}: {said}")),
        409 => Error::Conflict(format!("{label}: {said}")),
        // A patch that names another uid or an old state is refused for a field that cannot change.
        422 if status.causes.iter().any(|cause| cause.field == "metadata.uid") => {
            Error::Conflict(format!("{label}: it is another one than was meant"))
        }
        422 => Error::InvalidConfig(wrong_fields(&status, said)),
        400 if let Some(fields) = unknown_fields(said) => Error::InvalidConfig(fields),
        429 | 500..=599 => Error::Unavailable(RetryHint {
            reason: format!("{label}: the API server answered {code}: {said}"),
            after_ms: status.retry_after_s.or(retry_after_s).map(|seconds| seconds.saturating_mul(1_000)),
            maybe_applied: code != 429 && !matches!(asked.verb, "get" | "list" | "watch"),
        }),
        _ => refused(
            if status.reason.is_empty() { "Refused" } else { &status.reason },
            format!("{label}: {said}"),
        ),
    }
}

fn wrong_fields(status: &Status, said: &str) -> Vec<FieldError> {
    if status.causes.is_empty() {
        return vec![FieldError { path: "manifest".to_owned(), problem: said.to_owned(), hint: None }];
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

/// The fields that strict validation does not know: `unknown field "spec.workers"`. The API server
/// names them in a text only.
fn unknown_fields(said: &str) -> Option<Vec<FieldError>> {
    let (_, list) = said.split_once("strict decoding error: ")?;
    let fields: Vec<FieldError> = list
        .split(", ")
        .filter_map(|one| {
            let (problem, path) = one.split_once('"')?;
            Some(FieldError {
                path: path.trim_end_matches('"').to_owned(),
                problem: format!("is an {}", problem.trim()),
                hint: Some("the installed version of KubeRay has no such field".to_owned()),
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

    fn asked(verb: &'static str) -> Asked<'static> {
        Asked { verb, kind: RAY_CLUSTER, namespace: "ray", name: Some("a") }
    }

    #[test]
    fn what_is_forbidden_names_the_rule_to_add() {
        let text = r#"{"kind":"Status","code":403,"reason":"Forbidden","message":"rayclusters.ray.io is forbidden: User \"x\" cannot create"}"#;
        let Error::Backend(api) = failure(403, None, text, &asked("create")) else { panic!() };
        assert_eq!((api.status, api.reason.as_str()), (403, "Forbidden"));
        for part in ["create", "rayclusters", "namespace ray", "apiGroups: [\"ray.io\"]", "User \"x\""] {
            assert!(api.message.contains(part), "{}", api.message);
        }
    }

    #[test]
    fn a_missing_object_namespace_and_operator_are_three_things() {
        let gone = r#"{"kind":"Status","code":404,"reason":"NotFound","message":"m","details":{"name":"a","kind":"rayclusters"}}"#;
        assert!(
            matches!(failure(404, None, gone, &asked("get")), Error::NotFound(text) if text.contains("ray/a"))
        );
        let space = r#"{"kind":"Status","code":404,"reason":"NotFound","message":"m","details":{"name":"ray","kind":"namespaces"}}"#;
        assert!(
            matches!(failure(404, None, space, &asked("create")), Error::NotFound(text) if text.contains("namespace ray"))
        );
        let asked = Asked { verb: "list", kind: RAY_JOB, namespace: "ray", name: None };
        for text in [
            "404 page not found\n",
            r#"{"kind":"Status","code":404,"reason":"NotFound","message":"the server could not find the requested resource","details":{}}"#,
        ] {
            let Error::Backend(api) = failure(404, None, text, &asked) else { panic!() };
            assert_eq!(api.reason, "KubeRayMissing");
        }
    }

    #[test]
    fn a_wrong_manifest_is_told_field_by_field() {
        let text = r#"{"kind":"Status","code":422,"reason":"Invalid","message":"m","details":{"causes":[{"reason":"FieldValueRequired","message":"Required value","field":"spec.workerGroupSpecs[0].groupName"}]}}"#;
        let Error::InvalidConfig(fields) = failure(422, None, text, &asked("create")) else { panic!() };
        assert_eq!(fields[0].path, "spec.workerGroupSpecs[0].groupName");
        let text = r#"{"kind":"Status","code":400,"reason":"BadRequest","message":"RayCluster in version \"v1\" cannot be handled as a RayCluster: strict decoding error: unknown field \"spec.workers\", unknown field \"spec.x\""}"#;
        let Error::InvalidConfig(fields) = failure(400, None, text, &asked("create")) else { panic!() };
        assert_eq!((fields[0].path.as_str(), fields[1].path.as_str()), ("spec.workers", "spec.x"));
    }
}
