//! Failures to reach a Kubernetes cluster, and the responses that components get.
//!
//! A component gets a failure in the API server's format: an HTTP status with a `Status` document. A
//! transient failure is a 503. A failure that the user must fix is a 4xx, which is not retried.

use std::error::Error as StdError;
use std::sync::Arc;

use bytes::Bytes;
use dagster_ray_policy::capability::cluster_services;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::client::AuthError;
use wasmtime_wasi_http::WasiBody;

use super::location::ClusterLocation;
use crate::capability::http::client::tls_error;
use crate::error::explain;
use crate::model;

/// Why a cluster or a Service in it cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is neither a kubeconfig nor a service account.
    #[error(
        "no kubeconfig found (searched {looked}), and this process does not run in a pod. Give `kubeconfig`, or set KUBECONFIG"
    )]
    NoKubeconfig {
        /// The searched locations.
        looked: String,
    },
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {file}: {problem}")]
    Kubeconfig {
        /// The kubeconfig file.
        file: String,
        /// What is wrong with the file.
        problem: String,
    },
    /// The context is not in the kubeconfig.
    #[error("kubeconfig {file}: {}. It has: {}. Give one of them as `context`", missing(.context), listed(.known))]
    Context {
        /// The kubeconfig file.
        file: String,
        /// The requested context; none if none was requested and the file has no current one.
        context: Option<String>,
        /// The file's contexts.
        known: Vec<String>,
    },
    /// The credentials cannot be obtained, or are not accepted.
    #[error("{location}: {problem}. Log in to the cluster again, or choose another user in the kubeconfig")]
    Credentials {
        /// The cluster.
        location: Arc<ClusterLocation>,
        /// What went wrong.
        problem: String,
    },
    /// The API server's certificate is not trusted.
    #[error(
        "{location}: its certificate is not trusted: {problem}. Check `certificate-authority` and `server` of the cluster in the kubeconfig"
    )]
    Certificate {
        /// The cluster.
        location: Arc<ClusterLocation>,
        /// What is wrong with the certificate.
        problem: String,
    },
    /// The API server cannot be reached. No request was sent.
    #[error(
        "{location}: the API server cannot be reached: {problem}. Check that the cluster is running and that this is its address"
    )]
    Unreachable {
        /// The cluster.
        location: Arc<ClusterLocation>,
        /// What happened.
        problem: String,
    },
    /// The connection broke after the request was sent.
    #[error("{location}: the connection to the API server broke: {problem}")]
    Lost {
        /// The cluster.
        location: Arc<ClusterLocation>,
        /// What happened.
        problem: String,
    },
    /// The user lacks a permission that the host needs.
    #[error("{location}: {message}. To allow it, add to the user's Role in namespace {namespace}: {rule}")]
    Forbidden {
        /// The cluster.
        location: Arc<ClusterLocation>,
        /// The API server's message.
        message: String,
        /// The namespace.
        namespace: String,
        /// The RBAC rule to add to a Role.
        rule: String,
    },
    /// The API server returned another error.
    #[error("{location}: HTTP {code} {reason}: {message}")]
    Api {
        /// The cluster.
        location: Arc<ClusterLocation>,
        /// The HTTP status.
        code: u16,
        /// The reason, such as `Conflict`.
        reason: String,
        /// The message.
        message: String,
    },
    /// The Service does not exist.
    #[error("{location}: there is no service {name} in namespace {namespace}")]
    NoService {
        /// The cluster.
        location: Arc<ClusterLocation>,
        /// The service.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// The Service does not have the port.
    #[error("{location}: the service {name} in namespace {namespace} has no port {port}. It has: {known}")]
    NoPort {
        /// The cluster.
        location: Arc<ClusterLocation>,
        /// The service.
        name: String,
        /// Its namespace.
        namespace: String,
        /// The port.
        port: u16,
        /// The Service's ports.
        known: String,
    },
    /// No pod of the Service is ready.
    #[error("{location}: no pod behind the service {name} in namespace {namespace} is ready")]
    NoPod {
        /// The cluster.
        location: Arc<ClusterLocation>,
        /// The service.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// The Service's address refuses or ignores connections.
    #[error("cannot connect to {address}: {problem}")]
    NotListening {
        /// The Service's name and port.
        address: String,
        /// What happened.
        problem: String,
    },
    /// The name of the Service or of its namespace is invalid.
    #[error(
        "invalid service {name:?} in namespace {namespace:?}: both names must be DNS labels, such as \"raycluster-head-svc\""
    )]
    Name {
        /// The name.
        name: String,
        /// The namespace.
        namespace: String,
    },
    /// The pod uses the network of its node, where a port-forward reaches ports that only the node's own
    /// programs may use.
    #[error(
        "{location}: the pod {pod} in namespace {namespace} uses the network of its node (hostNetwork), and a port-forward would reach the loopback interface of the node. Remove hostNetwork from the pod's template, or run Dagster inside the cluster"
    )]
    HostNetwork {
        /// The cluster.
        location: Arc<ClusterLocation>,
        /// The pod.
        pod: String,
        /// Its namespace.
        namespace: String,
    },
    /// The component's grants do not allow the Service.
    #[error("{}", explain(&self.to_model(), false))]
    Denied {
        /// The Service and the port.
        target: String,
        /// The manifest's line that would allow it.
        grant: String,
    },
    /// The host failed.
    #[error("the host: {0}")]
    Host(String),
}

fn missing(context: &Option<String>) -> String {
    context
        .as_ref()
        .map_or_else(|| "it has no current context".into(), |name| format!("it has no context {name:?}"))
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { "none".into() } else { known.join(", ") }
}

impl Failure {
    /// Converts an error of kube to a failure that the user can act on.
    pub(super) fn from_kube(location: &Arc<ClusterLocation>, error: &kube::Error) -> Self {
        let location = location.clone();
        if let kube::Error::Api(status) = error {
            return match status.code {
                401 => Self::Credentials { location, problem: rejected_credentials(&status.message) },
                code => Self::Api {
                    location,
                    code,
                    reason: status.reason.clone(),
                    message: status.message.clone(),
                },
            };
        }
        let mut connecting = false;
        let mut source: Option<&(dyn StdError + 'static)> = Some(error);
        let mut last = error.to_string();
        while let Some(cause) = source {
            last = cause.to_string();
            if let Some(auth) = cause.downcast_ref::<AuthError>() {
                return Self::Credentials { location, problem: plugin_problem(auth) };
            }
            if let Some(rustls::Error::InvalidCertificate(problem)) = tls_error(cause) {
                return Self::Certificate { location, problem: problem.to_string() };
            }
            if let Some(client) = cause.downcast_ref::<hyper_util::client::legacy::Error>() {
                connecting |= client.is_connect();
            }
            source = cause.source();
        }
        if connecting {
            Self::Unreachable { location, problem: last }
        } else {
            Self::Lost { location, problem: last }
        }
    }

    /// Returns whether a retry may succeed.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::NoPod { .. }
            | Self::NotListening { .. }
            | Self::NoService { .. } => true,
            Self::Api { code, .. } => *code == 404 || *code == 429 || *code >= 500,
            _ => false,
        }
    }

    /// Returns whether reading the kubeconfig again may help, because it may have changed.
    pub(super) fn is_stale(&self) -> bool {
        matches!(self, Self::Credentials { .. } | Self::Certificate { .. } | Self::Unreachable { .. })
    }

    /// Returns the HTTP status and the reason, as an API server would.
    fn status(&self) -> (StatusCode, &str) {
        match self {
            // The host has no cluster for the virtual authority.
            Self::NoKubeconfig { .. } | Self::Kubeconfig { .. } | Self::Context { .. } => {
                (StatusCode::MISDIRECTED_REQUEST, "KubeconfigUnusable")
            }
            Self::Certificate { .. } => (StatusCode::MISDIRECTED_REQUEST, "CertificateUntrusted"),
            Self::Credentials { .. } => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden { .. } | Self::HostNetwork { .. } | Self::Denied { .. } => {
                (StatusCode::FORBIDDEN, "Forbidden")
            }
            Self::NoService { .. } | Self::NoPort { .. } => (StatusCode::NOT_FOUND, "NotFound"),
            Self::Name { .. } => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::NoPod { .. }
            | Self::NotListening { .. }
            | Self::Host(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Self::Api { code, reason, .. } => {
                (StatusCode::from_u16(*code).unwrap_or(StatusCode::SERVICE_UNAVAILABLE), reason)
            }
        }
    }

    /// Converts the failure to a response of the API server.
    pub(super) fn to_response(&self) -> Response<WasiBody> {
        let (status, reason) = self.status();
        status_response(status, reason, &self.to_string())
    }

    /// Converts the failure to an error of the contract.
    pub fn to_model(&self) -> model::Error {
        let invalid = |path: &str| {
            model::Error::InvalidConfig(vec![model::FieldError {
                path: path.into(),
                problem: self.to_string(),
                hint: None,
            }])
        };
        match self {
            Self::NoKubeconfig { .. } | Self::Kubeconfig { .. } => invalid("kubeconfig"),
            Self::Context { .. } => invalid("context"),
            Self::NoService { .. } | Self::NoPort { .. } => model::Error::NotFound(self.to_string()),
            Self::Name { .. } => invalid("service"),
            Self::Unreachable { .. }
            | Self::Lost { .. }
            | Self::NoPod { .. }
            | Self::NotListening { .. }
            | Self::Host(_) => model::Error::Unavailable(model::RetryHint {
                reason: self.to_string(),
                after_ms: None,
                maybe_applied: matches!(self, Self::Lost { .. }),
            }),
            Self::Denied { target, grant } => model::Error::Denied(model::Denial {
                capability: cluster_services::CAPABILITY.name.into(),
                target: target.clone(),
                grant: grant.clone(),
            }),
            Self::Certificate { .. }
            | Self::Credentials { .. }
            | Self::Forbidden { .. }
            | Self::HostNetwork { .. }
            | Self::Api { .. } => {
                let (status, reason) = self.status();
                model::Error::Backend(model::ApiError {
                    status: status.as_u16(),
                    reason: reason.into(),
                    message: self.to_string(),
                    details: None,
                })
            }
        }
    }
}

/// Returns a response with a `Status` document of the Kubernetes API.
pub(super) fn status_response(status: StatusCode, reason: &str, message: &str) -> Response<WasiBody> {
    let document = serde_json::json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": status.as_u16(),
    });
    let body = Full::new(Bytes::from(document.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

/// Returns the message for a 401.
pub(super) fn rejected_credentials(message: &str) -> String {
    let message = message.trim();
    let details = if message.is_empty() { String::new() } else { format!(" ({message})") };
    format!("the API server does not accept the credentials; they may have expired{details}")
}

/// Names a mistake in a YAML document by its line and column, which count from 1. The parser's own message
/// quotes lines, which can hold tokens.
pub(super) fn invalid_yaml(at: Option<(u64, u64)>) -> String {
    let position = at.filter(|(line, _)| *line > 0);
    let position = position.map(|(line, column)| format!(" at line {line}, column {column}"));
    format!("the YAML is invalid or a value has the wrong type{}", position.unwrap_or_default())
}

/// Explains why there are no credentials. The component and the event log get this text, and the command,
/// the environment and the output of a credential plugin can hold tokens.
fn plugin_problem(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecRun { out, .. } => format!(
            "the credential plugin failed ({}). Run `kubectl version` with this context to see its output",
            out.status
        ),
        AuthError::AuthExecParse(error) => format!(
            "the credential plugin printed no valid ExecCredential: {}",
            invalid_yaml(error.location().map(|at| (at.line(), at.column())))
        ),
        AuthError::MalformedTokenExpirationDate(_) => {
            "the expiration time of the token is not a time such as 2030-01-01T00:00:00Z".into()
        }
        AuthError::AuthExecStart(error) => format!("the credential plugin cannot be started: {error}"),
        other => other.to_string(),
    }
}
